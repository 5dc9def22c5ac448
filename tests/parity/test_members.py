"""LoRA members that share one backbone equal peft models of their own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.support.folders import LANGUAGE, MID_SIZE, TINY, WITH_VISION, build, save_adapter
from tests.support.measure import Ensemble, gap, vision_calls
from tests.support.samples import make_samples, score
from tokenfocus_ray.errors import AdapterError
from tokenfocus_ray.schema import ScoreRow
from tokenfocus_ray.scoring.scorer import AlignmentScorer

TOLERANCE = 1e-5


@pytest.fixture(scope="module", params=[*TINY, MID_SIZE[2]])
def ensemble(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Ensemble:
    return Ensemble.make(request.param, tmp_path_factory.mktemp("members"))


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
        assert member_gap(ensemble.rows, m, score(alone, ensemble.samples)) < TOLERANCE


def test_members_equal_plain_peft_forwards(ensemble: Ensemble) -> None:
    """The reference wraps a model of its own in ``PeftModel`` and asks one question a forward."""
    assert ensemble.peft_gap() < TOLERANCE


def test_row_is_the_mean_of_members_that_differ(ensemble: Ensemble) -> None:
    base = AlignmentScorer.from_pretrained(ensemble.backbone, device="cpu")
    bare = score(base, ensemble.samples)
    for row, without in zip(ensemble.rows, bare, strict=True):
        one, other = row.member_scores
        assert row.score == pytest.approx((one + other) / 2, abs=1e-12)
        # adapters that change nothing would make every test here pass; a score may saturate
        mass, base_mass = (np.log(r.level_mass) for r in (row, without))
        assert min(abs(mass[0] - mass[1]), abs(mass[0] - base_mass[0])) > 100 * TOLERANCE
        if row.element_scores:
            first, second = row.member_element_scores
            means = [(a + b) / 2 for a, b in zip(first, second, strict=True)]
            assert row.element_scores == pytest.approx(means, abs=1e-12)


def test_order_of_members_is_only_an_order(ensemble: Ensemble) -> None:
    turned = dict(reversed(ensemble.adapters.items()))
    scorer = AlignmentScorer.from_pretrained(ensemble.backbone, adapters=turned, device="cpu")
    for row, other in zip(ensemble.rows, score(scorer, ensemble.samples), strict=True):
        assert gap(row.member_scores, other.member_scores[::-1]) < TOLERANCE
        assert gap(row.score, other.score) < TOLERANCE


def test_one_vision_pass_serves_all_members(ensemble: Ensemble) -> None:
    assert ensemble.scorer.backbone.shares_vision
    assert vision_calls(ensemble.scorer, ensemble.samples) == 1


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
    samples = make_samples((0, 2))
    assert vision_calls(scorer, samples) == 2
    both = Ensemble(backbone, adapters, scorer, samples, score(scorer, samples))
    assert both.peft_gap() < TOLERANCE


@pytest.mark.parametrize(
    "targets",
    [
        pytest.param(WITH_VISION, id="with-vision"),
        pytest.param(LANGUAGE, id="language-only"),
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
