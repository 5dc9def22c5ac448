"""Adapters that cannot be right are refused by kind, from adapter_config.json alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.folders import TINY
from tokenfocus_ray.backbones import registry
from tokenfocus_ray.backbones.adapter_kinds import check_kinds
from tokenfocus_ray.backbones.lora import check_adapters
from tokenfocus_ray.errors import AdapterError

LORA = {"peft_type": "LORA", "r": 4, "bias": "none", "init_lora_weights": True}
#: What else a LoRA's file of today holds.
QUIET = {
    "alora_invocation_tokens": None,
    "layer_replication": None,
    "megatron_config": None,
    "megatron_core": "megatron.core",
    "qalora_group_size": 16,
    "target_parameters": None,
    "use_qalora": False,
    "use_dora": True,
    "use_rslora": True,
    "modules_to_save": ["lm_head"],
}


def message_of(config: dict[str, Any], *, beside: dict[str, Any] | None = None) -> str:
    configs = {"m": config} | ({"other": beside} if beside else {})
    with pytest.raises(AdapterError) as caught:
        check_kinds(configs, {"m": "runs/m", "other": "runs/other"})
    return str(caught.value)


@pytest.mark.parametrize(
    "kind", ["PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING"]
)
def test_virtual_tokens_are_refused_by_type(kind: str) -> None:
    """The packed forward passes peft's wrapper by, so the member would equal the backbone."""
    assert message_of({"peft_type": kind}) == (
        f"adapter 'm' from 'runs/m' is of the type {kind}, which puts virtual tokens before the "
        f"sequence; the packed forward has no place for them, so it would score as the backbone "
        f"alone: train a LoRA"
    )


@pytest.mark.parametrize("kind", ["XLORA", "POLY", "VERA", "NEW", None])
def test_other_types_are_refused_by_type(kind: str | None) -> None:
    assert message_of({"peft_type": kind}) == (
        f"adapter 'm' from 'runs/m' is of the type {kind}, which is not compared with plain peft "
        f"here; train one of LORA, ADALORA, BOFT, FOURIERFT, HRA, IA3, LN_TUNING, LOHA, LOKR, OFT"
    )


@pytest.mark.parametrize("kind", ["pissa", "olora", "OLoRA"])
def test_a_start_taken_out_of_the_backbone_is_refused_beside_others(kind: str) -> None:
    config = LORA | {"init_lora_weights": kind}
    assert message_of(config, beside=LORA) == (
        f"adapter 'm' from 'runs/m' was made with init_lora_weights = {kind.lower()!r}, which "
        f"takes its start out of the backbone's weights, also for the members beside it; convert "
        f"it to a plain LoRA with peft's save_pretrained(..., "
        f"path_initial_model_for_weight_conversion=...), or score with it alone"
    )
    check_kinds({"m": config}, {"m": "runs/m"})


@pytest.mark.parametrize("kind", ["pissa_niter_16", "corda", "loftq", "lora_ga"])
def test_a_start_that_cannot_be_repeated_is_refused(kind: str) -> None:
    """Drawn at random or computed from data when it is loaded: each actor would have another."""
    assert message_of(LORA | {"init_lora_weights": kind}) == (
        f"adapter 'm' from 'runs/m' was made with init_lora_weights = {kind!r}, which changes the "
        f"backbone's weights in a way that cannot be repeated exactly; convert it to a plain LoRA "
        f"with peft's save_pretrained(..., path_initial_model_for_weight_conversion=...)"
    )


@pytest.mark.parametrize("bias", ["all", "lora_only"])
def test_biases_of_the_backbone_are_refused_beside_others(bias: str) -> None:
    config = LORA | {"bias": bias}
    assert message_of(LORA, beside=config) == (
        f"adapter 'other' from 'runs/other' sets bias = {bias!r}, which writes into the "
        f"backbone's biases, also for the members beside it; train it with bias = 'none', or "
        f"score with it alone"
    )
    check_kinds({"m": config}, {"m": "runs/m"})


@pytest.mark.parametrize(
    ("option", "value", "what"),
    [
        ("alora_invocation_tokens", [5, 6], "switches the adapter on in mid-sequence, by peft's "
         "wrapper"),
        ("layer_replication", [[0, 2], [1, 3]], "gives the backbone other layers"),
        ("kasa_config", {"beta": 1}, "truncates the backbone's weights"),
        ("target_parameters", ["mlp.weight"], "is not compared with plain peft"),
    ],
)  # fmt: skip
def test_options_that_are_not_honoured_are_refused(option: str, value: Any, what: str) -> None:
    assert message_of({**LORA, **QUIET, option: value}) == (
        f"adapter 'm' from 'runs/m' sets {option} = {value!r}, which {what}; train it without"
    )


def test_ordinary_loras_are_accepted_side_by_side() -> None:
    folders = {f"m{i}": f"runs/m{i}" for i in range(4)}
    starts: list[Any] = [True, False, "gaussian", "eva"]
    check_kinds(
        {f"m{i}": LORA | QUIET | {"init_lora_weights": s} for i, s in enumerate(starts)}, folders
    )


def test_single_tokens_are_refused_beside_others() -> None:
    config = LORA | {"trainable_token_indices": {"embed_tokens": [3, 4]}}
    assert message_of(config, beside=LORA) == (
        "adapter 'm' from 'runs/m' trains single tokens (trainable_token_indices), which peft does "
        "not hold beside members that do not; score with it alone"
    )
    check_kinds({"m": config}, {"m": "runs/m"})


def test_two_types_side_by_side_are_refused() -> None:
    assert message_of(LORA, beside={"peft_type": "IA3"}) == (
        "adapters 'm' and 'other' are of the types LORA and IA3, which peft does not hold side by "
        "side; score with each in a run of its own"
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "cannot be read as JSON: Expecting property name enclosed in double quotes: line 1 "
         "column 2 (char 1)"),
        ("[" * 10**5, "cannot be read as JSON: "),
        ("[]", "must hold an object, got list"),
    ],
    ids=["cut", "deep", "list"],
)  # fmt: skip
def test_a_broken_adapter_config_is_refused_by_name(
    text: str, problem: str, tmp_path: Path
) -> None:
    (tmp_path / "adapter_config.json").write_text(text)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(AdapterError) as caught:
        check_adapters({"m": str(tmp_path)}, registry.resolve(TINY[0]))
    assert str(caught.value).startswith(
        f"adapter 'm' from {str(tmp_path)!r}: adapter_config.json {problem}"
    )


def test_a_kind_is_refused_before_any_weights_are_read(tmp_path: Path) -> None:
    """So that a job is refused by its driver."""
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "PREFIX_TUNING"}))
    (tmp_path / "adapter_model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(AdapterError, match="is of the type PREFIX_TUNING"):
        check_adapters({"m": str(tmp_path)}, registry.resolve(TINY[0]))
