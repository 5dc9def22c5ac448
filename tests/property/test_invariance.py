"""A score depends on its own request only: never on batch, order, padding, neighbours or parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.support.folders import TINY
from tests.support.measure import MANY_COUNTS, MANY_SIZES, UNLIMITED, Alone, rows_gap
from tests.support.samples import labels, make_samples, picture
from tokenfocus_ray.backbones.images import PreparedImage
from tokenfocus_ray.backbones.packing import PackedBatch
from tokenfocus_ray.schema import Element
from tokenfocus_ray.scoring.questions import Part
from tokenfocus_ray.scoring.request import Request
from tokenfocus_ray.scoring.scorer import AlignmentScorer

TOLERANCE = 1e-5


@pytest.fixture(scope="module", params=TINY)
def alone(request: pytest.FixtureRequest) -> Alone:
    return Alone.make(request.param)


@pytest.mark.parametrize("size", [1, 3, 16])
@pytest.mark.parametrize("budget", [UNLIMITED, 8192, 700])
def test_batch_size_and_budget(alone: Alone, size: int, budget: int) -> None:
    assert alone.gap(alone.in_batches(size, budget)) < TOLERANCE


def test_batch_size_in_bfloat16_moves_scores_by_rounding_only() -> None:
    """Of the order that is documented: up to about .01."""
    scorer = AlignmentScorer.from_pretrained(TINY[0], device="cpu", dtype="bfloat16")
    requests = [
        scorer.request(s.image_HWC, s.prompt, list(s.elements), s.prompt_type)
        for s in make_samples(MANY_COUNTS[:5], MANY_SIZES)
    ]
    together = scorer.score_requests(requests)
    each = [scorer.score_requests([request])[0] for request in requests]
    moved = [abs(a.score - b.score) for a, b in zip(together, each, strict=True)]
    assert TOLERANCE < max(moved) < 0.02


@settings(max_examples=12, deadline=None)
@given(
    order=st.lists(st.integers(0, len(MANY_COUNTS) - 1), min_size=1, max_size=8),
    budget=st.integers(1, 3000),
)
def test_any_order_and_neighbours(alone: Alone, order: list[int], budget: int) -> None:
    """Requests drawn with repetition, so that one image object stands in a batch twice."""
    rows = alone.with_budget(budget).score_requests([alone.requests[i] for i in order])
    assert alone.gap(rows, order) < TOLERANCE


def test_padding_beside_a_long_neighbour(alone: Alone) -> None:
    """A request of about 1,500 tokens makes every other row of the batch mostly padding."""
    long = alone.scorer.request(
        picture(90, 90, seed=50), "a castle on a hill, " * 60, list(labels(20)), "real"
    )
    *rows, last = alone.scorer.score_requests([*alone.requests[:6], long])
    assert alone.gap(rows, range(6)) < TOLERANCE
    assert rows_gap([last], alone.scorer.score_requests([long])) < TOLERANCE


@pytest.mark.parametrize("budget", [1, 150, 300, 600])
def test_request_in_several_parts(
    alone: Alone, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty elements in up to 21 sequences; no micro-batch encodes the image twice."""
    scorer = alone.with_budget(budget)
    index = MANY_COUNTS.index(20)
    sequences: list[int] = []
    encoded: list[int] = []
    answer_hidden, encode_images = scorer.backbone.answer_hidden, scorer.backbone.encode_images

    def counting_answers(features_VD: Tensor, batch: PackedBatch) -> Tensor:
        sequences.append(len(batch.grids))
        return answer_hidden(features_VD, batch)

    def counting_images(images: Sequence[PreparedImage]) -> Tensor:
        encoded.append(len(images))
        return encode_images(images)

    monkeypatch.setattr(scorer.backbone, "answer_hidden", counting_answers)
    monkeypatch.setattr(scorer.backbone, "encode_images", counting_images)
    rows = scorer.score_requests([alone.requests[index]])
    assert alone.gap(rows, [index]) < TOLERANCE
    assert sum(sequences) > 1, "the request was split"
    assert set(encoded) == {1}
    assert len(encoded) <= len(sequences)
    if budget == 1:
        assert sequences == [1] * 21


def test_parts_of_several_requests_in_one_micro_batch(
    alone: Alone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts find their way back to their request, also among the parts of others."""
    scorer = alone.with_budget(UNLIMITED)
    pack = scorer._pack

    def split(index: int, request: Request) -> list[Part]:
        scorer.token_budget = 260  # parts this small, micro-batches as large as they get
        try:
            return pack(index, request)
        finally:
            scorer.token_budget = UNLIMITED

    monkeypatch.setattr(scorer, "_pack", split)
    assert alone.gap(scorer.score_requests(alone.requests)) < TOLERANCE


def test_unscored_neighbours_change_nothing(alone: Alone) -> None:
    """A row that cannot be scored leaves the batch and keeps its place."""
    bad = replace(alone.requests[0], prompt=" ")
    rows = alone.scorer.score_requests([alone.requests[1], bad, alone.requests[3]])
    assert [row.status for row in rows] == ["ok", "unscored", "ok"]
    assert alone.gap([rows[0], rows[2]], [1, 3]) < TOLERANCE


def test_elements_do_not_see_each_other(alone: Alone) -> None:
    """Turned around in the questions alone, each element keeps its score.

    With ``structure=False`` the prefix does not list them, so their order shows nowhere.
    """
    config = alone.scorer.config.model_copy(update={"structure": False})
    scorer = AlignmentScorer(alone.scorer.backbone, config, UNLIMITED)
    elements = tuple(Element.parse(label) for label in labels(9))
    request = replace(alone.requests[3], elements=elements)
    turned, fewer = (
        replace(request, elements=elements[::-1]),
        replace(request, elements=elements[:2]),
    )
    row, back, part = scorer.score_requests([request, turned, fewer])
    again = replace(
        back,
        element_scores=back.element_scores[::-1],
        member_element_scores=[scores[::-1] for scores in back.member_element_scores],
    )
    assert rows_gap([again], [row]) < TOLERANCE
    assert part.element_scores == pytest.approx(row.element_scores[:2], abs=TOLERANCE)
    assert part.score == pytest.approx(row.score, abs=TOLERANCE)


def test_every_image_against_every_text(alone: Alone) -> None:
    """``scorer(images, texts)`` gives the scores of single calls."""
    samples = make_samples((0, 0, 0), MANY_SIZES)
    images, prompts = [s.image_HWC for s in samples], [s.prompt for s in samples[:2]]
    scores = alone.scorer(images, prompts)
    assert scores.shape == (3, 2)
    for m, image in enumerate(images):
        for n, prompt in enumerate(prompts):
            (row,) = alone.scorer.score([image], [prompt])
            assert abs(scores[m, n].item() - row.score) < TOLERANCE
