"""LoRA members that share one backbone equal peft models of their own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.folders import MID_SIZE, TINY, build, save_adapter
from tests.support.measure import gap
from tests.support.reference import PlainModel
from tests.support.samples import Sample, make_samples, score
from tokenfocus_ray.errors import AdapterError
from tokenfocus_ray.schema import ScoreRow
from tokenfocus_ray.scoring.scorer import AlignmentScorer

TOLERANCE = 1e-5
LANGUAGE = r".*language_model\..*\.(q_proj|v_proj|up_proj)"
#: Modules of the vision tower, by family, besides those of the decoder.
WITH_VISION = r".*(visual|vision_tower|language_model)\..*\.(qkv|q_proj|v_proj)"
SAMPLES = make_samples((0, 2, 5))


@dataclass(frozen=True)
class Ensemble:
    """A backbone with two adapters and the rows that it gave with both."""

    backbone: str
    adapters: dict[str, str]
    scorer: AlignmentScorer
    rows: list[ScoreRow]


@pytest.fixture(scope="module", params=[*TINY, MID_SIZE[2]])
def ensemble(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Ensemble:
    parent = tmp_path_factory.mktemp("members")
    backbone = build(request.param, parent)
    adapters = {
        name: save_adapter(backbone, parent / name, seed, LANGUAGE)
        for seed, name in enumerate(("bag-0", "bag-1"))
    }
    scorer = AlignmentScorer.from_pretrained(backbone, adapters=adapters, device="cpu")
    return Ensemble(backbone, adapters, scorer, score(scorer, SAMPLES))


def vision_calls(scorer: AlignmentScorer, samples: Sequence[Sample]) -> int:
    """How often the vision tower ran while samples that fit one micro-batch were scored."""
    model: Any = scorer.backbone.model.model
    calls: list[None] = []
    tower = model.visual if hasattr(model, "visual") else model.vision_tower
    handle = tower.register_forward_hook(lambda *_: calls.append(None))
    try:
        score(scorer, samples)
    finally:
        handle.remove()
    return len(calls)


def member_gap(rows: Sequence[ScoreRow], m: int, alone: Sequence[ScoreRow]) -> float:
    """Largest difference of one member's numbers from one-member rows."""
    gaps = []
    for row, single in zip(rows, alone, strict=True):
        gaps += [
            gap(row.member_scores[m], single.score),
            gap(row.level_probs[m], single.level_probs[0]),
            gap(row.level_mass[m], single.level_mass[0]),
            gap(row.entropy[m], single.entropy[0]),
            gap(row.member_element_scores[m], single.element_scores),
        ]
    return max(gaps)


def test_members_equal_scorers_of_their_own(ensemble: Ensemble) -> None:
    assert ensemble.scorer.backbone.members == ("bag-0", "bag-1")
    for m, (name, folder) in enumerate(ensemble.adapters.items()):
        alone = AlignmentScorer.from_pretrained(
            ensemble.backbone, adapters={name: folder}, device="cpu"
        )
        assert member_gap(ensemble.rows, m, score(alone, SAMPLES)) < TOLERANCE


def test_members_equal_plain_peft_forwards(ensemble: Ensemble) -> None:
    """The reference wraps a model of its own in ``PeftModel`` and asks one question a forward."""
    for m, folder in enumerate(ensemble.adapters.values()):
        plain = PlainModel(ensemble.backbone, adapter=folder)
        for row, sample in zip(ensemble.rows, SAMPLES, strict=True):
            wanted = plain.row(plain.logits(sample))
            assert gap(row.member_scores[m], wanted.score) < TOLERANCE
            assert gap(row.level_probs[m], wanted.level_probs_K) < TOLERANCE
            assert gap(row.level_mass[m], wanted.level_mass) < TOLERANCE
            assert gap(row.member_element_scores[m], wanted.element_scores) < TOLERANCE


def test_row_is_the_mean_of_members_that_differ(ensemble: Ensemble) -> None:
    base = score(AlignmentScorer.from_pretrained(ensemble.backbone, device="cpu"), SAMPLES)
    for row, without in zip(ensemble.rows, base, strict=True):
        one, other = row.member_scores
        assert row.score == pytest.approx((one + other) / 2, abs=1e-12)
        # adapters that change nothing would make every test here pass
        assert min(abs(one - other), abs(one - without.score)) > 100 * TOLERANCE
        if row.element_scores:
            first, second = row.member_element_scores
            means = [(a + b) / 2 for a, b in zip(first, second, strict=True)]
            assert row.element_scores == pytest.approx(means, abs=1e-12)


def test_order_of_members_is_only_an_order(ensemble: Ensemble) -> None:
    turned = dict(reversed(ensemble.adapters.items()))
    scorer = AlignmentScorer.from_pretrained(ensemble.backbone, adapters=turned, device="cpu")
    for row, other in zip(ensemble.rows, score(scorer, SAMPLES), strict=True):
        assert gap(row.member_scores, other.member_scores[::-1]) < TOLERANCE
        assert gap(row.score, other.score) < TOLERANCE


def test_one_vision_pass_serves_all_members(ensemble: Ensemble) -> None:
    assert ensemble.scorer.backbone.shares_vision
    assert vision_calls(ensemble.scorer, SAMPLES) == 1


@pytest.mark.parametrize("name", TINY)
def test_adapter_on_the_vision_tower_gets_its_own_vision_pass(name: str, tmp_path: Path) -> None:
    """Slower, and still equal to plain peft."""
    backbone = build(name, tmp_path)
    adapters = {
        "plain": save_adapter(backbone, tmp_path / "plain", 1, LANGUAGE),
        "seeing": save_adapter(backbone, tmp_path / "seeing", 2, WITH_VISION),
    }
    scorer = AlignmentScorer.from_pretrained(backbone, adapters=adapters, device="cpu")
    assert not scorer.backbone.shares_vision
    assert vision_calls(scorer, SAMPLES) == 2
    (row,) = score(scorer, SAMPLES[1:2])
    for m, folder in enumerate(adapters.values()):
        plain = PlainModel(backbone, adapter=folder)
        wanted = plain.row(plain.logits(SAMPLES[1]))
        assert gap(row.member_scores[m], wanted.score) < TOLERANCE
        assert gap(row.member_element_scores[m], wanted.element_scores) < TOLERANCE


@pytest.mark.parametrize(
    "targets",
    [
        pytest.param(WITH_VISION, id="with-vision"),
        pytest.param(
            LANGUAGE,
            id="language-only",
            marks=pytest.mark.xfail(
                strict=True,
                reason="both families name and shape their decoder's tensors alike, and the class "
                "in adapter_config.json's auto_mapping is not compared",
            ),
        ),
    ],
)
@pytest.mark.parametrize(("home", "abroad"), [TINY, TINY[::-1]])
# peft warns of missing keys before the error
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_adapter_of_the_other_family_is_refused(
    home: str, abroad: str, targets: str, tmp_path: Path
) -> None:
    folder = save_adapter(build(home, tmp_path), tmp_path / "adapter", 1, targets)
    start = re.escape(
        f"adapter 'bag' from {folder!r} was made for another backbone than {abroad!r}: "
    )
    with pytest.raises(AdapterError, match=f"^{start}"):
        AlignmentScorer.from_pretrained(abroad, adapters={"bag": folder}, device="cpu")


def test_adapter_of_another_size_is_refused(tmp_path: Path) -> None:
    """The same family and tensor names, but wider."""
    wide = build("mid-qwen2_5_vl", tmp_path)
    folder = save_adapter(wide, tmp_path / "adapter", 1, LANGUAGE)
    start = re.escape(f"adapter 'bag' from {folder!r} does not fit backbone 'tiny-qwen2_5_vl': ")
    with pytest.raises(AdapterError, match=f"^{start}"):
        AlignmentScorer.from_pretrained("tiny-qwen2_5_vl", adapters={"bag": folder}, device="cpu")
