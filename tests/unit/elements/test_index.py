"""Prompts are numbered as they come, however the units come in."""

from __future__ import annotations

import pyarrow as pa
import pytest

from tokenfocus_ray.elements.index import PromptIndex

UNITS = {0: ["a", "b", "c"], 1: ["c", "A"], 3: ["d", "a", "\U0001f431", "b "]}


@pytest.mark.parametrize("order", [(0, 1, 3), (3, 0, 1)])
def test_numbers(order: tuple[int, ...]) -> None:
    with PromptIndex() as index:
        for unit in order:
            for place, prompt in enumerate(UNITS[unit]):
                index.add(pa.table({"unit": [unit], "place": [place], "prompt": [prompt]}))
        assert index.number() == 7
        assert list(index.prompts(3)) == [["a", "b", "c"], ["A", "d", "\U0001f431"], ["b "]]
        found = {unit: numbers.tolist() for unit, numbers in index.units()}
    assert found == {0: [0, 1, 2], 1: [2, 3], 3: [4, 0, 5, 6]}


def test_nothing_to_number() -> None:
    with PromptIndex() as index:
        assert (index.number(), list(index.prompts(3)), list(index.units())) == (0, [], [])
