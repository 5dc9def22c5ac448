"""Adapters made before transformers 4.52, or stored as a pickle, score as their form of today."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file

from tests.support.folders import LANGUAGE, TINY, build, save_adapter, save_kind
from tests.support.measure import rows_gap
from tests.support.samples import make_samples, score
from tokenfocus_ray.backbones import registry
from tokenfocus_ray.backbones.lora import check_adapters
from tokenfocus_ray.errors import AdapterError
from tokenfocus_ray.schema import ScoreRow
from tokenfocus_ray.scoring.scorer import AlignmentScorer

pytestmark = pytest.mark.usefixtures("one_thread")

#: Family -> today's start of a name, and what it was.
OLD = {
    "tiny-qwen2_5_vl": {"model.language_model.": "model.", "model.visual.": "visual."},
    "tiny-internvl": {
        "model.language_model.": "language_model.model.",
        "model.vision_tower.": "vision_tower.",
        "model.multi_modal_projector.": "multi_modal_projector.",
        "lm_head": "language_model.lm_head",
    },
}


def old_name(name: str, backbone: str) -> str:
    for new, old in OLD[backbone].items():
        if name.startswith(new):
            return old + name.removeprefix(new)
    return name


def make_old(folder: Path, backbone: str, **changed: Any) -> None:
    """Renames an adapter's tensors and the names in its configuration to those of then."""
    path, start = folder / "adapter_model.safetensors", "base_model.model."
    tensors = load_file(path)
    old = {start + old_name(k.removeprefix(start), backbone): v for k, v in tensors.items()}
    assert old.keys() != tensors.keys()
    save_file(old, path)
    config = json.loads((folder / "adapter_config.json").read_text())
    for which in ("rank_pattern", "alpha_pattern"):
        config[which] = {old_name(k, backbone): v for k, v in config[which].items()}
    (folder / "adapter_config.json").write_text(json.dumps(config | changed))


def rows_of(backbone: str, folder: Path) -> list[ScoreRow]:
    scorer = AlignmentScorer.from_pretrained(backbone, adapters={"m": str(folder)}, device="cpu")
    return score(scorer, make_samples((2,)))


def refusal(backbone: str, folder: Path) -> str:
    with pytest.raises(AdapterError) as caught:
        check_adapters({"m": str(folder)}, registry.resolve(backbone))
    return str(caught.value)


@pytest.mark.parametrize("backbone", TINY)
def test_names_before_transformers_4_52_score_as_those_of_today(
    backbone: str, tmp_path: Path
) -> None:
    """Patterns of then match other layers of today, or none; what they meant is kept."""
    special = "model.language_model.layers.1.self_attn.q_proj"
    config = LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=r".*(layers|blocks|layer)\..*\.(q_proj|v_proj|qkv)|lm_head",
        rank_pattern={special: 2},
        alpha_pattern={special: 64, "v_proj": 16},
        modules_to_save=["norm"],
        init_lora_weights=False,
    )
    save_kind(build(backbone, tmp_path), tmp_path, 1, config, noise=0.02)
    expected = rows_of(backbone, tmp_path)
    pattern = r"^(?!model\.language_model)(model|visual|language_model|vision_tower).*proj$"
    make_old(tmp_path, backbone, target_modules=pattern, exclude_modules="model.language_model")
    assert rows_gap(rows_of(backbone, tmp_path), expected) == 0.0


@pytest.mark.parametrize("backbone", TINY)
def test_a_pickled_adapter_scores_as_its_safetensors(backbone: str, tmp_path: Path) -> None:
    save_adapter(build(backbone, tmp_path), tmp_path, 1, LANGUAGE)
    expected = rows_of(backbone, tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    torch.save(load_file(path), tmp_path / "adapter_model.bin")
    path.unlink()
    assert rows_gap(rows_of(backbone, tmp_path), expected) == 0.0


class Runs:
    """A pickle that calls a function when it is read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self._path,)


@pytest.mark.parametrize("write", [torch.save, lambda o, p: p.write_bytes(pickle.dumps(o))])
def test_code_in_a_pickled_adapter_is_refused_and_never_runs(write: Any, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    save_adapter(build(TINY[0], tmp_path), folder, 1, LANGUAGE)
    (folder / "adapter_model.safetensors").unlink()
    write({"x": Runs(tmp_path / "ran")}, folder / "adapter_model.bin")
    message = refusal(TINY[0], folder)
    assert message.startswith(
        f"adapter 'm': {str(folder / 'adapter_model.bin')!r} cannot be read as tensors alone, and "
        f"code from it is never run: "
    )
    assert message.endswith(
        "; save it anew: load backbone and adapter with the transformers and peft that trained it, "
        "and call save_pretrained(..., safe_serialization=True)"
    )
    assert not (tmp_path / "ran").exists()


def test_old_names_that_a_text_model_has_too_need_the_backbone_s_name(tmp_path: Path) -> None:
    """A LoRA of Qwen2.5 has the names and shapes that one of Qwen2.5-VL had."""
    backbone = "tiny-qwen2_5_vl"
    save_adapter(build(backbone, tmp_path), tmp_path, 1, LANGUAGE, task_type="CAUSAL_LM")
    make_old(tmp_path, backbone, base_model_name_or_path="Qwen/Qwen2.5-7B-Instruct")
    first = r"'model\.layers\.\d+\.\w+\.\w+_proj\.lora_[AB]\.weight'"
    assert re.fullmatch(
        rf"adapter 'm' names layers as before transformers 4\.52, such as {first}, as a text model "
        rf"also does, and says that it was made for 'Qwen/Qwen2\.5-7B-Instruct', not for "
        rf"'tiny-qwen2_5_vl'; if it was made for this one, set base_model_name_or_path in its "
        rf"adapter_config\.json to 'tiny-qwen2_5_vl'",
        refusal(backbone, tmp_path),
    )


def test_old_names_of_other_types_than_lora_are_refused(tmp_path: Path) -> None:
    save_adapter(build(TINY[1], tmp_path), tmp_path, 1, LANGUAGE)
    make_old(tmp_path, TINY[1], peft_type="LOKR")
    assert refusal(TINY[1], tmp_path).endswith(
        ", which is followed for LORA only, not for LOKR; save it anew: load backbone and adapter "
        "with the transformers and peft that trained it, and call save_pretrained(..., "
        "safe_serialization=True), or train it anew"
    )
