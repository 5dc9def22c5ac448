"""One packed forward equals one plain transformers forward for each question."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from tests.support.folders import MID_SIZE, TINY
from tests.support.measure import Compared, gap, packed_logits, row_differences
from tests.support.samples import ELEMENT_COUNTS, score
from tokenfocus_ray.scoring.scorer import AlignmentScorer

LOGITS_TOLERANCE = 1e-4
SCORE_TOLERANCE = 1e-5


@pytest.fixture(scope="module", params=TINY + MID_SIZE)
def compared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Compared:
    return Compared.make(request.param, tmp_path_factory.mktemp("backbones"))


def test_packed_logits_equal_plain_forwards(compared: Compared) -> None:
    got_QV = packed_logits(compared.scorer, compared.samples)
    wanted_QV = np.concatenate(compared.expected_QV)
    assert len(wanted_QV) == sum(1 + count for count in ELEMENT_COUNTS)
    assert gap(got_QV, wanted_QV) < LOGITS_TOLERANCE


def test_rows_equal_plain_forwards(compared: Compared) -> None:
    rows = score(compared.scorer, compared.samples)
    differences = row_differences(rows, compared.expected_rows())
    assert max(differences.values()) < SCORE_TOLERANCE, differences
    for row, sample in zip(rows, compared.samples, strict=True):
        assert (row.height, row.width) == sample.image_HWC.shape[:2]


@pytest.mark.parametrize("compared", MID_SIZE, indirect=True)
def test_comparison_would_see_a_mistake(compared: Compared) -> None:
    """Another image, question, prompt or type moves the reference far beyond the tolerance.

    Only random weights are asked: trained ones may well ignore some of these.
    """
    for logits_QV in compared.expected_QV:
        for one, other in pairwise(logits_QV):
            assert gap(one, other) > 100 * LOGITS_TOLERANCE
    base = compared.samples[1]
    for changed in (
        replace(base, image_HWC=base.image_HWC[:, ::-1].copy()),
        replace(base, prompt=base.prompt + "."),
        replace(base, prompt_type="synthetic"),
        replace(base, elements=(base.elements[0] + "!",)),
    ):
        moved_Q = np.abs(compared.plain.logits(changed) - compared.expected_QV[1]).max(axis=1)
        assert (moved_Q > 100 * LOGITS_TOLERANCE).all()


def test_without_structure_equals_plain_forwards(compared: Compared) -> None:
    """``structure=False`` asks the same questions after the prompt alone."""
    config = compared.scorer.config.model_copy(update={"structure": False})
    scorer = AlignmentScorer(compared.scorer.backbone, config)
    sample = compared.samples[1]
    wanted = compared.plain.row(compared.plain.logits(sample, structure=False))
    differences = row_differences(score(scorer, [sample]), [wanted])
    assert max(differences.values()) < SCORE_TOLERANCE, differences


def test_reference_is_the_family_itself(compared: Compared) -> None:
    """The reference loads the same weights a second time and shares no object with ours."""
    ours, theirs = compared.scorer.backbone.model, compared.plain.model
    assert ours is not theirs
    assert type(ours) is type(theirs)
    assert theirs.config._attn_implementation == "eager"
    assert ours.config._attn_implementation == "sdpa"
