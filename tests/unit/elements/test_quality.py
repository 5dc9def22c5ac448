"""The rules against labelled prompts, which are no part of the project."""

from __future__ import annotations

import os
import runpy
from pathlib import Path
from typing import Any

import pytest

from tokenfocus_ray.elements.rules import decompose_by_rules

#: Named, or in the checkout or beside it.
NAMED = os.environ.get("TOKENFOCUS_RATINGS")
PLACES = [Path(NAMED)] if NAMED else [p / "shared/data/human_ratings" for p in
                                      Path(__file__).parents]  # fmt: skip
FOUND = next((place for place in PLACES if place.is_dir()), None)
BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "elements.py"


@pytest.mark.skipif(FOUND is None, reason="no labelled prompts: see TOKENFOCUS_RATINGS")
def test_rules_are_better_than_noun_chunks() -> None:
    assert FOUND is not None
    bench: dict[str, Any] = runpy.run_path(str(BENCHMARK))
    for data, least in (
        ("geneval", {"exact": 0.97, "object_recall": 0.98, "count_recall": 0.97}),
        ("dsg", {"thing_precision": 0.86, "thing_recall": 0.92, "attribute_precision": 0.6,
                 "attribute_recall": 0.5, "relation_recall": 0.5}),
    ):  # fmt: skip
        gold, facts = bench[data](FOUND), bench[f"{data}_facts"]
        rules = bench["judged"](gold, bench["by_rules"], facts)
        peer = bench["judged"](gold, bench["by_chunks"], facts)
        assert {key: rules[key] for key in least if rules[key] < least[key]} == {}
        assert rules["exact"] > peer["exact"]


@pytest.mark.skipif(FOUND is None, reason="no labelled prompts: see TOKENFOCUS_RATINGS")
def test_every_real_prompt_has_elements() -> None:
    assert FOUND is not None
    rows: Any = runpy.run_path(str(BENCHMARK))["rows"](FOUND / "genai_bench_527.csv")
    prompts = list(dict.fromkeys(row["prompt"] for row in rows))
    found = dict(zip(prompts, decompose_by_rules(prompts), strict=True))
    assert [prompt for prompt, one in found.items() if one.status != "made"] == []
