"""Whatever a prompt is, it leaves once, with elements or a reason."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenfocus_ray.datasets.manifest import find_columns
from tokenfocus_ray.elements.decomposed import MAX_ELEMENTS, TYPES
from tokenfocus_ray.elements.rows import REASON, STATUS, ask, out_schema, with_results
from tokenfocus_ray.elements.rules import decompose_by_rules
from tokenfocus_ray.schema import Element

_WORDS = """
    a an the no two three cat cats dog red green blue wooden tall box boxes on under with without
    next to left of in front and or not is are sitting running holding man woman glass pair group
    dozen every all one other it its "OPEN" 'x' , . ; : ! - ( ) \U0001f431 http://x.y/z 4k
"""
WORDS = st.sampled_from(sorted({*_WORDS.split()}))
PROMPTS = st.one_of(
    st.lists(WORDS, max_size=25).map(" ".join), st.text(st.characters(exclude_categories=["Cs"]))
)


@settings(max_examples=60, deadline=None)
@given(st.lists(PROMPTS, max_size=8))
def test_every_prompt_leaves_once(prompts: list[str]) -> None:
    found = list(decompose_by_rules(prompts))
    assert len(found) == len(prompts)
    for prompt, one in zip(prompts, found, strict=True):
        assert bool(one.elements) == (one.status in ("made", "cut")), prompt
        assert (one.reason is None) == (one.status == "made"), prompt
        assert len(one.elements) <= MAX_ELEMENTS
        labels = [(e.text.casefold(), e.type) for e in one.elements]
        assert len(set(labels)) == len(labels), prompt
        for element in one.elements:
            assert element.type in TYPES
            assert element.text == " ".join(element.text.split()) != ""
            assert Element.parse(element.label()) == element


ELEMENTS = st.one_of(
    st.none(), st.just(""), st.just("[]"), st.just('["a cat (animal)"]'), st.just("no json")
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.one_of(st.none(), PROMPTS), ELEMENTS), min_size=1), st.booleans())
def test_rows_are_conserved(rows: list[tuple[str | None, str | None]], replace: bool) -> None:
    prompts, elements = zip(*rows, strict=True)
    table = pa.table(
        {"n": range(len(rows)), "prompt": pa.array(prompts, pa.string()),
         "elements": pa.array(elements, pa.string())}
    )  # fmt: skip
    columns = find_columns(table.column_names, {}, "m", needs_images=False)
    asked = ask(table, columns, None, replace)
    wanted = [*dict.fromkeys(one.prompt for one in asked if one.prompt is not None)]
    made = dict(zip(wanted, decompose_by_rules(wanted), strict=True))
    results = [one.result or made[one.prompt or ""] for one in asked]
    out = with_results(table, columns, results, out_schema(table.schema, columns))
    assert out["n"].to_pylist() == [*range(len(rows))]
    assert out["prompt"].to_pylist() == [*prompts]
    for before, after in zip(elements, out.to_pylist(), strict=True):
        if after[STATUS] == "given":
            assert not replace
            assert after["elements"] == before
        else:
            assert (after["elements"] is None) == (after[STATUS] == "none")
            assert (after[REASON] is None) == (after[STATUS] == "made")
