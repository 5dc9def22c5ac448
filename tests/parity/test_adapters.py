"""What training writes, loads with plain peft and transformers and gives the learner's scores."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from tests.support.folders import TINY
from tests.support.learners import (
    Labelled,
    examples,
    labelled,
    make_learner,
    requests,
    train_config,
)
from tests.support.measure import row_differences, rows_gap
from tests.support.reference import PlainModel
from tests.support.samples import score
from tokenfocus_ray.backbones.registry import WEIGHTS
from tokenfocus_ray.errors import AdapterError
from tokenfocus_ray.schema import ScoreRow
from tokenfocus_ray.scoring.prompt import question_settings
from tokenfocus_ray.scoring.scorer import AlignmentScorer
from tokenfocus_ray.training.adapter import save_member

TOLERANCE = 1e-5


@dataclass(frozen=True)
class Member:
    """A member after a few steps, and the folder that it was written to.

    Attributes:
        name: Of its backbone.
        folder: Where it was written.
        items: What it learnt, and then scored.
        rows: The learner's own scores.
    """

    name: str
    folder: Path
    items: Sequence[Labelled]
    rows: list[ScoreRow]

    @classmethod
    def train(cls, name: str, folder: Path, lora: dict[str, Any] | None) -> Member:
        """Three steps, far enough to move scores."""
        torch.set_num_threads(1)
        config = train_config(
            name, lora=lora, optimizer={"learning_rate": 3e-3, "warmup": 0, "max_grad_norm": 100}
        )
        learner, items = make_learner(config), labelled()[1:3]
        for step in range(3):
            learner.step(step, examples(learner, items))
        source = learner.backbone.source
        record = {
            "backbone": source.name,
            "revision": source.revision,
            "member": "bag0",
            "questions": question_settings(config.scoring(name)),
        }
        rows = learner.predict(requests(learner, [item.sample for item in items]))
        save_member(learner.wrapped, learner.backbone, learner.trained(), folder, record)
        return cls(name, folder, items, rows)

    def plain_gap(self, plain: PlainModel) -> float:
        """Largest difference of the learner's rows from plain forwards, one a question."""
        wanted = [plain.row(plain.logits(item.sample)) for item in self.items]
        return max(row_differences(self.rows, wanted).values())


def moved(member: Member) -> float:
    """How far training moved the scores of the backbone."""
    bare = score(
        AlignmentScorer.from_pretrained(member.name, device="cpu"), [i.sample for i in member.items]
    )
    return min(abs(a.score - b.score) for a, b in zip(bare, member.rows, strict=True))


@pytest.fixture(scope="module", params=TINY)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def member(name: str, tmp_path_factory: pytest.TempPathFactory) -> Member:
    return Member.train(name, tmp_path_factory.mktemp("runs") / name / "adapter", {})


@pytest.fixture(scope="module")
def whole(name: str, tmp_path_factory: pytest.TempPathFactory) -> Member:
    """The whole decoder trained."""
    return Member.train(name, tmp_path_factory.mktemp("whole") / name, None)


def test_adapter_loads_with_plain_peft(member: Member) -> None:
    plain = PlainModel(WEIGHTS / member.name, adapter=member.folder)
    assert member.plain_gap(plain) < TOLERANCE
    assert moved(member) > 1000 * TOLERANCE


def test_adapter_scores_as_the_learner_did(member: Member) -> None:
    scorer = AlignmentScorer.from_pretrained(
        member.name, adapters={"bag0": str(member.folder)}, device="cpu"
    )
    rows = score(scorer, [item.sample for item in member.items])
    assert rows_gap(rows, member.rows) < TOLERANCE


def test_adapter_folder(member: Member) -> None:
    """Safetensors and JSON, nothing that runs code; the model's class tells families apart."""
    names = {path.name for path in member.folder.iterdir()}
    assert names == {"adapter_config.json", "adapter_model.safetensors", "tokenfocus.json"}
    config = json.loads((member.folder / "adapter_config.json").read_text())
    assert config["auto_mapping"] == {
        "base_model_class": {
            "tiny-qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration",
            "tiny-internvl": "InternVLForConditionalGeneration",
        }[member.name],
        "parent_library": {
            "tiny-qwen2_5_vl": "transformers.models.qwen2_5_vl.modeling_qwen2_5_vl",
            "tiny-internvl": "transformers.models.internvl.modeling_internvl",
        }[member.name],
    }
    assert config["base_model_name_or_path"] == member.name
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (4, 8, 0.0)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_adapter_of_a_member_is_refused_by_the_other_family(member: Member) -> None:
    (other,) = (name for name in TINY if name != member.name)
    with pytest.raises(AdapterError) as caught:
        AlignmentScorer.from_pretrained(other, adapters={"bag0": str(member.folder)}, device="cpu")
    assert str(caught.value) == (
        f"adapter 'bag0' from {str(member.folder)!r} was trained for backbone {member.name!r}, not "
        f"for {other!r}; score with the former"
    )


def test_adapter_is_asked_as_it_was_taught(member: Member) -> None:
    with pytest.raises(AdapterError) as caught:
        AlignmentScorer.from_pretrained(
            member.name, adapters={"bag0": str(member.folder)}, device="cpu", structure=False
        )
    assert str(caught.value) == (
        f"adapter 'bag0' from {str(member.folder)!r} was trained with structure = True, but is to "
        f"be asked with False; set structure as it was trained"
    )


def test_adapter_on_the_vision_tower_scores_as_the_learner_did(name: str, tmp_path: Path) -> None:
    member = Member.train(name, tmp_path, {"vision": True})
    scorer = AlignmentScorer.from_pretrained(
        name, adapters={"bag0": str(member.folder)}, device="cpu"
    )
    assert not scorer.backbone.shares_vision
    assert rows_gap(score(scorer, [i.sample for i in member.items]), member.rows) < TOLERANCE
    assert member.plain_gap(PlainModel(WEIGHTS / name, adapter=member.folder)) < TOLERANCE


def test_trained_decoder_loads_with_plain_transformers(whole: Member) -> None:
    model = transformers.AutoModelForImageTextToText.from_pretrained(whole.folder)
    expected = transformers.AutoModelForImageTextToText.from_pretrained(WEIGHTS / whole.name)
    assert type(model) is type(expected)
    assert whole.plain_gap(PlainModel(whole.folder)) < TOLERANCE
    assert moved(whole) > 1000 * TOLERANCE


def test_trained_decoder_scores_as_the_learner_did(whole: Member) -> None:
    scorer = AlignmentScorer.from_pretrained(whole.folder, device="cpu")
    rows = score(scorer, [item.sample for item in whole.items])
    assert rows_gap(rows, whole.rows) < TOLERANCE


def test_folder_of_a_trained_decoder(whole: Member) -> None:
    names = {path.name for path in whole.folder.iterdir()}
    assert {path.suffix for path in whole.folder.iterdir()} == {".json", ".safetensors"}
    assert {
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "tokenizer.json",
    } < names
    assert json.loads((whole.folder / "preprocessor_config.json").read_text()) == json.loads(
        (WEIGHTS / whole.name / "preprocessor_config.json").read_text()
    )


def test_what_is_frozen_stays_as_it_was(whole: Member) -> None:
    """Embeddings, head and vision tower are those of the backbone, the decoder is not."""
    before, after = (
        transformers.AutoModelForImageTextToText.from_pretrained(folder).state_dict()
        for folder in (WEIGHTS / whole.name, whole.folder)
    )
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    layers = {name for name in before if "language_model.layers" in name}
    assert changed <= layers | {"model.language_model.norm.weight"}
    assert len(changed) > 0.9 * len(layers)
