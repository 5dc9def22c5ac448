"""Which rows are kept, and why the others are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.support.selecting import opened, row, table_of
from tokenfocus_ray.config import Selection
from tokenfocus_ray.datasets.scored import ScoredTable
from tokenfocus_ray.errors import ConfigError, ManifestError
from tokenfocus_ray.exports.select import Counts, choose
from tokenfocus_ray.progress import unwatched


def decided(scored: ScoredTable, **criteria: Any) -> dict[int, str]:
    """Row -> message, of those that are dropped; reason and message are joined."""
    found: dict[int, str] = {}
    counts = Counts()
    for chosen in choose(scored, Selection(**criteria), counts, unwatched):
        rows = [chosen.start + i for i, kept in enumerate(chosen.kept_N) if not kept]
        told = [f"{r}: {m}" for r, m in zip(chosen.reasons, chosen.messages, strict=True)]
        found |= dict(zip(rows, told, strict=True))
    assert counts.kept + counts.dropped.total() == counts.rows == scored.n_rows
    assert counts.dropped.total() == len(found)
    return found


def scores(folder: Path, values: list[float | None], **columns: list[Any]) -> ScoredTable:
    rows = [
        row(i, v, **{name: each[i] for name, each in columns.items()}) for i, v in enumerate(values)
    ]
    return opened(folder, table_of(rows))


def test_without_criteria_only_unscored_rows_are_dropped(tmp_path: Path) -> None:
    assert decided(scores(tmp_path, [3.0, None, 1.0])) == {
        1: "unscored:image_missing: no score: no image"
    }


def test_a_score_that_is_not_finite_is_none(tmp_path: Path) -> None:
    """Whatever the status says: NaN never ranks."""
    table = scores(tmp_path, [3.0, float("nan"), float("inf")])
    dropped = "unscored:score_not_finite: no score: the score is not finite"
    assert decided(table) == {1: dropped, 2: dropped}
    assert decided(table, budget=2) == {1: dropped, 2: dropped}


def test_min_score_is_compared_as_it_is_stored(tmp_path: Path) -> None:
    """The float32 3.1 is a little less than the number 3.1."""
    assert decided(scores(tmp_path, [3.1, 3.0999]), min_score=3.1) == {
        1: "min_score: score 3.0999 is below 3.1"
    }


def test_min_low(tmp_path: Path) -> None:
    low = [{"score_low": v, "score_high": 5.0} for v in (2.0, 2.5, float("nan"))]
    rows = [row(i, 4.0, **more) for i, more in enumerate(low)]
    scored = opened(tmp_path, table_of(rows, ensemble=0.5))
    assert decided(scored, min_low=2.5) == {
        0: "min_low: lower end 2 of the score is below 2.5",
        2: "min_low: lower end nan of the score is below 2.5",
    }


def test_min_low_needs_an_ensemble(tmp_path: Path) -> None:
    """A column of that name that came with the input is no interval."""
    rows = [row(0, 4.0, score_low=3.0)]
    scored = opened(tmp_path, table_of(rows, score_low=pa.float64()))
    with pytest.raises(ManifestError) as caught:
        decided(scored, min_low=2.5)
    assert str(caught.value) == (
        f"{tmp_path}: its scores have no interval (column 'score_low'), which --min-low goes by; "
        f"an ensemble gives it: score with --ensemble, or `tokenfocus merge`"
    )


def test_agreement_of_members(tmp_path: Path) -> None:
    members = [[3.0, 3.0, 3.0], [2.0, 4.0, 3.5], [2.0, 3.0, 4.0]]
    scored = scores(tmp_path, [3.0, 3.0, 3.0], member_scores=members)
    assert decided(scored, max_spread=1.5) == {
        1: "max_spread: the members' scores spread over 2, above 1.5",
        2: "max_spread: the members' scores spread over 2, above 1.5",
    }
    # of the first backbone it is the mean of both members that counts
    assert decided(scored, min_score=3.0, min_agreement=0.6) == {
        2: "min_agreement: 1 of 2 reach 3, below the share 0.6"
    }


def test_one_member_cannot_disagree(tmp_path: Path) -> None:
    from tests.support.scores import metadata

    table = table_of([row(0, 3.0, member_scores=[3.0])])
    scored = opened(tmp_path, table.replace_schema_metadata(metadata({"q": ["m0"]})))
    with pytest.raises(ManifestError) as caught:
        decided(scored, max_spread=1.0)
    assert str(caught.value) == (
        f"{tmp_path}: has the scores of one member, 'm0', and --max-spread compares several; score "
        f"with several adapters or backbones"
    )


def with_elements(folder: Path, **more: Any) -> ScoredTable:
    rows = [
        row(0, 3.0, elements={"a dog": 0.9, "brown dog": 0.5, "two cats": 0.7}),
        row(1, 3.0, elements={"a dog": 0.2, "brown dog": 0.9}),
        row(2, 3.0, elements={"two cats": 0.1, "a dog": 0.3}),
        row(3, 3.0),
    ]
    return opened(folder, table_of(rows, **more))


def test_all_elements_present(tmp_path: Path) -> None:
    assert decided(with_elements(tmp_path), elements_present=True) == {
        1: "elements_present: element 'a dog' (animal) scores 0.2, below 0.5",
        2: "elements_present: element 'two cats' (count) scores 0.1, below 0.5; 1 more likewise",
        3: "elements_present: the row has no elements, so nothing says that they are present",
    }


def test_elements_of_a_type(tmp_path: Path) -> None:
    """A row without any of that type has none that is absent."""
    found = decided(with_elements(tmp_path), element_types=["Count "], element_threshold=0.6)
    assert found == {2: "element_type: element 'two cats' (count) scores 0.1, below 0.6"}


def test_a_named_element(tmp_path: Path) -> None:
    assert decided(with_elements(tmp_path), elements=["Brown  dog"]) == {
        2: "element: the row does not have the named element",
        3: "element: the row does not have the named element",
    }


def test_a_type_or_element_that_no_row_has(tmp_path: Path) -> None:
    scored = with_elements(tmp_path)
    with pytest.raises(ConfigError) as caught:
        decided(scored, element_types=["counts"])
    assert str(caught.value) == (
        f"{tmp_path}: no element is of the type 'counts'. Did you mean 'count'? Known: animal, "
        f"color, count."
    )
    with pytest.raises(ConfigError) as caught:
        decided(scored, elements=["a cat"], budget=1)
    assert str(caught.value) == (
        f"{tmp_path}: no scored row has the element 'a cat'; case and white space aside it must be "
        f"the whole text of an element"
    )
    with pytest.raises(ConfigError) as caught:
        decided(scores(tmp_path / "bare", [3.0]), elements_present=True)
    assert str(caught.value) == (
        f"{tmp_path}/bare: no scored row has elements; `tokenfocus data elements` makes them of "
        f"prompts, and `tokenfocus score` scores them"
    )


def test_the_ensembles_decision_counts_unless_a_threshold_is_given(tmp_path: Path) -> None:
    rows = [row(0, 3.0, elements={"a dog": 0.6}, element_present=[False])]
    scored = opened(tmp_path, table_of(rows, ensemble=0.7))
    assert decided(scored, elements_present=True) == {
        0: "elements_present: element 'a dog' (animal) scores 0.6, absent by the ensemble's "
        "threshold of 0.7"
    }
    assert decided(scored, elements_present=True, element_threshold=0.6) == {}


@pytest.mark.parametrize("as_text", [False, True])
def test_dependencies(as_text: bool, tmp_path: Path) -> None:
    parents: Any = [[], [0]]
    kind: Any = pa.string() if as_text else pa.list_(pa.list_(pa.int64()))
    given = "[[], [0]]" if as_text else parents
    rows = [row(0, 3.0, elements={"a dog": 0.2, "brown dog": 0.9}, element_parents=given)]
    rows.append(row(1, 3.0, elements={"brown dog": 0.9}, element_parents=None))
    scored = opened(tmp_path, table_of(rows, element_parents=kind))
    assert decided(scored, element_types=["color"]) == {}
    assert decided(scored, element_types=["color"], dependencies=True) == {
        0: "element_type: element 'brown dog' (color) scores 0.9, and what it depends on is absent"
    }


def test_dependencies_that_cannot_be(tmp_path: Path) -> None:
    rows = [row(0, 3.0, elements={"a dog": 0.2}, element_parents=[[4]])]
    kind = pa.list_(pa.list_(pa.int64()))
    scored = opened(tmp_path, table_of(rows, element_parents=kind))
    with pytest.raises(ManifestError) as caught:
        decided(scored, elements_present=True, dependencies=True)
    assert str(caught.value) == (
        f"{tmp_path}: row 0, column 'element_parents': element 0 depends on 4; there are 1, got "
        f"[[4]]; wanted for each element a list of the places, from 0 on, of those that it depends "
        f"on"
    )
    with pytest.raises(ManifestError) as caught:
        decided(with_elements(tmp_path / "bare"), elements_present=True, dependencies=True)
    assert str(caught.value) == (
        f"{tmp_path}/bare: has no column 'element_parents', which --dependencies goes by; name it "
        f"with --map element_parents=COLUMN (for each element, the places of those that it depends "
        f"on)"
    )


def test_elements_that_were_not_scored(tmp_path: Path) -> None:
    rows = [row(0, None, elements={"a dog": 0.2}), row(1, 3.0, element_scores=[0.2, 0.3])]
    with pytest.raises(ManifestError) as caught:
        decided(opened(tmp_path, table_of(rows)), elements_present=True)
    assert str(caught.value) == (
        f"{tmp_path}: row 1 has 0 elements in column 'elements' and 2 element_scores; name the "
        f"column of the elements that were scored with --map elements=COLUMN"
    )


def test_best_of_each_prompt(tmp_path: Path) -> None:
    """Case and white space aside; ties go by sample_id, and a row without a prompt is alone."""
    prompts = ["A dog", "a  DOG", "a dog", None, None]
    table = scores(tmp_path, [2.0, 3.0, 2.0, 1.0, 1.0], prompt=prompts)
    assert decided(table, best_of=2) == {
        2: "best_of: score 2 is number 3 of its prompt, and 2 are kept"
    }


def test_top_is_of_what_is_left_and_rounded_up(tmp_path: Path) -> None:
    table = scores(tmp_path, [1.0, 2.0, 3.0, 4.0, 5.0])
    assert decided(table, top=0.3, min_score=2.0) == {
        0: "min_score: score 1 is below 2",
        1: "top: score 2 is number 4 of 4, and 2 are kept, the last with 4",
        2: "top: score 3 is number 3 of 4, and 2 are kept, the last with 4",
    }
    hundred = scores(tmp_path / "h", [1 + i / 100 for i in range(100)])
    assert len(decided(hundred, top=0.07)) == 93


def test_budget(tmp_path: Path) -> None:
    found = decided(scores(tmp_path, [1.0, 2.0, 2.0]), budget=1)
    assert found == {
        0: "budget: score 1 is number 3 of 3, and 1 are kept, the last with 2",
        2: "budget: score 2 is number 2 of 3, and 1 are kept, the last with 2",
    }
    assert decided(scores(tmp_path / "few", [1.0, 2.0]), budget=5) == {}


def test_balance_is_as_the_smallest_group_is(tmp_path: Path) -> None:
    groups = ["a", "a", "a", "b", None]
    table = scores(tmp_path, [1.0, 2.0, 3.0, 1.0, 5.0], generator=groups)
    assert decided(table, balance="generator") == {
        0: "balance: score 1 is number 3 of 'a', of which 1 are kept",
        1: "balance: score 2 is number 2 of 'a', of which 1 are kept",
        4: "balance: no value in 'generator', so the row is of no group",
    }


def test_balance_fills_a_budget(tmp_path: Path) -> None:
    """Every group gives its best first; what a small one leaves goes to the others."""
    groups = ["a", "a", "a", "b", "c", "c", "c"]
    table = scores(tmp_path, [1.0, 2.0, 3.0, 1.0, 4.0, 5.0, 4.5], generator=groups)
    found = decided(table, balance="generator", budget=6)
    assert found == {0: "balance: score 1 is number 3 of 'a', of which 2 are kept"}


def test_balance_by_the_rarest_element_type(tmp_path: Path) -> None:
    both, dog = {"a dog": 0.9, "two cats": 0.9}, {"a dog": 0.9}
    rows = [row(i, 3.0 + i / 8, elements=e) for i, e in enumerate([both, dog, dog, {}])]
    scored = opened(tmp_path, table_of(rows))
    assert decided(scored, balance="element_type") == {
        1: "balance: score 3.125 is number 2 of 'animal', of which 1 are kept",
        3: "balance: no value in 'element_type', so the row is of no group",
    }


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "generatr",
            "--balance generatr: no such column. Did you mean 'generator'? Known: element_scores, "
            "element_type, elements, entropy, error_code, error_message, generator, height, "
            "image_uri, level_mass, level_probs, member_element_scores, member_scores, "
            "n_visual_tokens, prompt, prompt_type, sample_id, score, status, width.",
        ),
        (
            "score",
            "--balance score: column 'score' is of type float; wanted text, whole numbers or "
            "booleans, whose values name groups",
        ),
    ],
)
def test_balance_by_what_names_no_groups(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError) as caught:
        decided(scores(tmp_path, [1.0]), balance=name)
    assert str(caught.value) == f"{tmp_path}: {message}"


def test_criteria_apply_in_the_documented_order(tmp_path: Path) -> None:
    """Best of each prompt, top share, then groups: each of what the one before has left."""
    prompts = ["p", "p", "q", "q", "r", "r"]
    groups = ["a", "b", "a", "b", "b", "b"]
    table = scores(tmp_path, [1.0, 2.0, 3.0, 4.0, 5.0, 4.5], prompt=prompts, generator=groups)
    found = decided(table, best_of=1, top=0.6, balance="generator", budget=1)
    assert {n: text.partition(":")[0] for n, text in found.items()} == {
        0: "best_of", 2: "best_of", 5: "best_of", 1: "top", 3: "balance",
    }  # fmt: skip
