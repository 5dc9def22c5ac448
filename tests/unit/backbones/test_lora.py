from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.folders import LANGUAGE, TINY, build, save_adapter
from tokenfocus_ray.backbones import loading, registry
from tokenfocus_ray.backbones.base import Source
from tokenfocus_ray.backbones.lora import check_adapters, check_training_records, load_adapters
from tokenfocus_ray.config import ScoringConfig
from tokenfocus_ray.errors import AdapterError
from tokenfocus_ray.scoring.prompt import question_settings

NAME = "tiny-internvl"
CONFIG = ScoringConfig(backbone=NAME)


def taught(folder: Path, **changed: Any) -> dict[str, str]:
    """An adapter's folder with the record of a training."""
    record = {
        "backbone": NAME,
        "revision": "r",
        "member": "m",
        "questions": question_settings(CONFIG),
    }
    folder.mkdir(exist_ok=True)
    (folder / "tokenfocus.json").write_text(json.dumps(record | changed))
    return {"bag0": str(folder)}


def message_of(adapters: dict[str, str], backbone: str = NAME, **options: Any) -> str:
    config = ScoringConfig(backbone=backbone, **options)
    with pytest.raises(AdapterError) as caught:
        check_training_records(adapters, backbone, question_settings(config))
    return str(caught.value)


def test_adapter_that_is_asked_as_it_was_taught(tmp_path: Path) -> None:
    check_training_records(taught(tmp_path), NAME, question_settings(CONFIG))
    check_training_records(
        taught(tmp_path), NAME, question_settings(ScoringConfig(backbone=NAME, dtype="float32"))
    )


@pytest.mark.parametrize(
    ("made_for", "backbone"),
    [("/models/mine", "/elsewhere/mine/"), ("owner/model", "/copies/model")],
)
def test_backbone_may_have_moved(made_for: str, backbone: str, tmp_path: Path) -> None:
    check_training_records(taught(tmp_path, backbone=made_for), backbone, question_settings(CONFIG))


def test_adapter_of_another_backbone(tmp_path: Path) -> None:
    assert message_of(taught(tmp_path), "tiny-qwen2_5_vl") == (
        f"adapter 'bag0' from {str(tmp_path)!r} was trained for backbone 'tiny-internvl', not for "
        f"'tiny-qwen2_5_vl'; score with the former"
    )


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (
            {"total_levels": {"1": 1, "2": 2}},
            "total_levels = {'1': 1.0, '2': 2.0, '3': 3.0, '4': 4.0, '5': 5.0}, but is to be asked "
            "with {'1': 1.0, '2': 2.0}; set total_levels",
        ),
        (
            {"element_levels": {"No": 0, "Yes": 2}},
            "element_levels = {'No': 0.0, 'Yes': 1.0}, but is to be asked with "
            "{'No': 0.0, 'Yes': 2.0}; set element_levels",
        ),
        (
            # questions name the levels in their order
            {"element_levels": {"Yes": 1, "No": 0}},
            "element_levels = {'No': 0.0, 'Yes': 1.0}, but is to be asked with "
            "{'Yes': 1.0, 'No': 0.0}; set element_levels",
        ),
        ({"structure": False}, "structure = True, but is to be asked with False; set structure"),
    ],
    ids=["total levels", "values", "order", "structure"],
)
def test_adapter_that_was_taught_other_questions(
    options: dict[str, Any], shown: str, tmp_path: Path
) -> None:
    assert message_of(taught(tmp_path), **options) == (
        f"adapter 'bag0' from {str(tmp_path)!r} was trained with {shown} as it was trained"
    )


def test_adapter_that_was_taught_in_other_words(tmp_path: Path) -> None:
    before = question_settings(CONFIG)
    adapters = taught(tmp_path, questions=before | {"template": "0123"})
    assert message_of(adapters) == (
        f"adapter 'bag0' from {str(tmp_path)!r} was trained with template = '0123', but is to be "
        f"asked with {before['template']!r}; set template as it was trained"
    )


def test_adapter_without_a_record_is_let_through(tmp_path: Path) -> None:
    """It was made elsewhere."""
    check_training_records({"bag0": str(tmp_path)}, "tiny-qwen2_5_vl", question_settings(CONFIG))


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "JSONDecodeError: Expecting value: line 1 column 1 (char 0)"),
        ("[]", "TypeError: list indices must be integers or slices, not str"),
        ("{}", "KeyError: 'backbone'"),
        ('{"backbone": "b"}', "KeyError: 'questions'"),
        ('{"questions": 3, "backbone": "b"}', "TypeError: 'int' object is not iterable"),
    ],
)
def test_adapter_whose_record_cannot_be_read_is_refused(
    text: str, cause: str, tmp_path: Path
) -> None:
    """How it was taught to be asked is not known, so its scores may be wrong."""
    (tmp_path / "tokenfocus.json").write_text(text)
    assert message_of({"bag0": str(tmp_path)}) == (
        f"adapter 'bag0' from {str(tmp_path)!r}: its tokenfocus.json, which says how it was taught "
        f"to be asked, cannot be read ({cause}); fetch the adapter again, or delete that file if "
        f"no training here made it"
    )


def test_first_adapter_that_does_not_fit_is_named(tmp_path: Path) -> None:
    fits, other = taught(tmp_path / "a"), taught(tmp_path / "b", backbone="x/other")
    assert message_of({"bag0": fits["bag0"], "bag1": other["bag0"]}).startswith(
        f"adapter 'bag1' from {str(tmp_path / 'b')!r} was trained for backbone 'x/other', not for "
    )


@pytest.mark.parametrize("member", ["lora_A", "bias", "0", "base_layer"])
def test_a_member_named_like_a_part_of_a_tensor_s_name_is_refused(
    member: str, tmp_path: Path
) -> None:
    """peft would take tensors of others for its own; with lora_A scores differ in silence."""
    name = TINY[1]
    folder = save_adapter(build(name, tmp_path), tmp_path / "adapter", 1, LANGUAGE)
    backbone = loading.load(registry.resolve(name), device="cpu", dtype=torch.float32)
    with pytest.raises(AdapterError) as caught:
        load_adapters(backbone, {"bag0": folder, member: folder})
    assert str(caught.value) == (
        f"member name {member!r} is also a part of the names of tensors; rename the member"
    )


def test_an_adapter_of_another_commit_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = save_adapter(build(NAME, tmp_path), tmp_path / "adapter", 1, LANGUAGE)
    taught(Path(folder), backbone="owner/model", revision="1" * 40)
    for commit in ("1" * 40, "2" * 40):
        check_adapters({"m": folder}, Source("owner/model", "owner/model", "internvl", commit))
    assert [record.getMessage() for record in caplog.records] == [
        f"adapter 'm' from {folder!r} was trained on commit {'1' * 40} of owner/model, and is "
        f"loaded onto {'2' * 40}; give revision {'1' * 40} if their weights differ"
    ]


def test_an_adapter_that_names_another_backbone_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With a task type peft records no class of the model, and families name layers alike."""
    folder = save_adapter(build(NAME, tmp_path), tmp_path / "adapter", 1, LANGUAGE, "CAUSAL_LM")
    path = Path(folder) / "adapter_config.json"
    config = json.loads(path.read_text())
    for base in ("/models/tiny-internvl", "OpenGVLab/InternVL3-1B-hf"):
        path.write_text(json.dumps(config | {"base_model_name_or_path": base}))
        check_adapters({"m": folder}, registry.resolve(NAME))
    assert [record.getMessage() for record in caplog.records] == [
        f"adapter 'm' from {folder!r} says that it was made for 'OpenGVLab/InternVL3-1B-hf'; it is "
        f"loaded onto 'tiny-internvl', and nothing else tells whether it is the same backbone"
    ]


@pytest.mark.parametrize("name", TINY)
def test_adapter_of_a_built_in_backbone_is_not_looked_up_at_the_hub(
    name: str, tmp_path: Path
) -> None:
    """Its record of the base model is a name, which peft would take for a repository."""
    folder = save_adapter(build(name, tmp_path), tmp_path / "adapter", 1, LANGUAGE)
    path = Path(folder) / "adapter_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"base_model_name_or_path": name}))
    backbone = loading.load(registry.resolve(name), device="cpu", dtype=torch.float32)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_adapters(backbone, {"bag0": folder})
    assert [str(w.message) for w in caught if "config file" in str(w.message)] == []
    assert backbone.members == ("bag0",)
