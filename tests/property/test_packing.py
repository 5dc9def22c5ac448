"""Packing invariants, against slow loops and against the sequences that branches make alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.folders import TINY
from tests.support.measure import packer
from tests.support.samples import labels, picture
from tokenfocus_ray.backbones.packing import (
    PADDING,
    PackedSequence,
    branch_mask,
    collate,
    micro_batches,
    pack,
)
from tokenfocus_ray.schema import Element
from tokenfocus_ray.scoring.scorer import AlignmentScorer

quick = settings(max_examples=60, deadline=None)
tokens = st.integers(1, 700)


@dataclass(frozen=True)
class Case:
    """What went into a packed sequence, and the sequence."""

    before: list[int]
    grid: tuple[int, int]
    after: list[int]
    branches: list[list[int]]
    n_answers: list[int]
    packed: PackedSequence

    def alone(self, q: int) -> list[int]:
        """Ids of the sequence that branch q would make alone, 0 for image tokens."""
        image = [0] * (self.grid[0] * self.grid[1])
        return [*self.before, *image, *self.after, *self.branches[q]]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    before, after = (draw(st.lists(tokens, max_size=5)) for _ in range(2))
    grid = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    branches = draw(st.lists(st.lists(tokens, min_size=1, max_size=6), min_size=1, max_size=5))
    n_answers = [draw(st.integers(1, len(branch))) for branch in branches]
    packed = pack(before, grid[0] * grid[1], grid, after, branches, n_answers)
    return Case(before, grid, after, branches, n_answers, packed)


@quick
@given(cases())
def test_each_branch_sees_the_sequence_it_would_make_alone(case: Case) -> None:
    """Ids, depths and answers, read through the mask at each answer position."""
    packed = case.packed
    assert len(packed) == len(packed.ids) == len(packed.segments) == len(packed.depths)
    sees_TT = branch_mask(collate([packed], "cpu").segments_BT)[0, 0].numpy()
    owners = [(q, n) for q, count in enumerate(case.n_answers) for n in range(count)]
    assert len(packed.answers) == len(owners)
    for answer, (q, n) in zip(packed.answers, owners, strict=True):
        alone = case.alone(q)
        length = len(alone) - case.n_answers[q] + n + 1
        seen = np.flatnonzero(sees_TT[answer])
        assert [packed.ids[i] for i in seen] == alone[:length]
        assert [packed.depths[i] for i in seen] == list(range(length))


@quick
@given(cases())
def test_default_is_the_last_token_of_each_branch(case: Case) -> None:
    n = case.grid[0] * case.grid[1]
    packed = pack(case.before, n, case.grid, case.after, case.branches)
    assert [packed.ids[a] for a in packed.answers] == [branch[-1] for branch in case.branches]
    assert [packed.segments[a] for a in packed.answers] == [*range(1, len(case.branches) + 1)]


@quick
@given(st.lists(cases(), min_size=1, max_size=4))
def test_branch_mask_equals_slow_loop(batch: list[Case]) -> None:
    segments_BT = collate([case.packed for case in batch], "cpu").segments_BT
    mask = branch_mask(segments_BT)
    n_rows, n_columns = segments_BT.shape
    assert mask.shape == (n_rows, 1, n_columns, n_columns)
    for b, row in enumerate(segments_BT.tolist()):
        for query in range(n_columns):
            for key in range(n_columns):
                shared = row[key] == 0
                own = row[key] == row[query]
                assert mask[b, 0, query, key].item() == (key <= query and (shared or own))
            assert mask[b, 0, query, query], "a row of all False becomes NaN"


@quick
@given(st.lists(cases(), min_size=1, max_size=4))
def test_collate_keeps_every_sequence(batch: list[Case]) -> None:
    packed = [case.packed for case in batch]
    out = collate(packed, "cpu")
    longest = max(map(len, packed))
    assert out.ids_BT.shape == out.depths_BT.shape == out.image_mask_BT.shape
    assert out.ids_BT.shape == (len(packed), longest)
    assert out.grids == tuple(s.grid for s in packed)
    for b, sequence in enumerate(packed):
        n = len(sequence)
        padding = longest - n
        assert out.ids_BT[b].tolist() == sequence.ids + [0] * padding
        assert out.segments_BT[b].tolist() == sequence.segments + [PADDING] * padding
        assert out.depths_BT[b].tolist() == sequence.depths + [0] * padding
        image = out.image_mask_BT[b].nonzero().flatten().tolist()
        first = sequence.image_start
        assert image == list(range(first, first + sequence.n_visual_tokens))
        assert out.image_starts_B[b].item() == first
        assert out.n_visual_B[b].item() == sequence.n_visual_tokens
    answers = [(b, a) for b, sequence in enumerate(packed) for a in sequence.answers]
    assert list(zip(out.rows_A.tolist(), out.columns_A.tolist(), strict=True)) == answers


@quick
@given(st.lists(st.integers(1, 300), max_size=40), st.integers(1, 1000))
def test_micro_batches_lose_nothing_and_keep_the_budget(lengths: list[int], budget: int) -> None:
    batches = micro_batches(lengths, budget)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        padded = len(batch) * max(lengths[i] for i in batch)
        assert padded <= budget or len(batch) == 1
    flat = [lengths[i] for batch in batches for i in batch]
    assert flat == sorted(lengths, reverse=True)
    # greedy: the next sequence would not have fitted
    assert all((len(b) + 1) * lengths[b[0]] > budget for b in batches[:-1])


@pytest.fixture(scope="module", params=TINY)
def scorer(request: pytest.FixtureRequest) -> AlignmentScorer:
    return AlignmentScorer.from_pretrained(request.param, device="cpu")


@quick
@given(st.integers(0, 25), st.integers(1, 1200))
def test_parts_of_a_request_are_its_branches_in_order(
    scorer: AlignmentScorer, n_elements: int, budget: int
) -> None:
    """However small the budget: the same prefix in each part, every question once, in order."""
    image = scorer.backbone.image_spec.prepare(picture(60, 40, seed=0))
    elements = tuple(Element.parse(label) for label in labels(n_elements))
    questions = packer(scorer)
    whole, parts = (
        questions.pack(4, image, "two dogs", elements, "real", most) for most in (1_000_000, budget)
    )
    (one,) = whole
    n_prefix = one.sequence.segments.count(0)
    ids: list[int] = []
    first = 0
    for part in parts:
        sequence = part.sequence
        assert (part.request, part.first_question) == (4, first)
        assert sequence.ids[:n_prefix] == one.sequence.ids[:n_prefix]
        assert sequence.segments.count(0) == n_prefix
        assert len(sequence) <= budget or len(sequence.answers) == 1
        ids += sequence.ids[n_prefix:]
        first += len(sequence.answers)
    assert first == 1 + n_elements
    assert ids == one.sequence.ids[n_prefix:]
