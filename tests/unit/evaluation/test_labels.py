from __future__ import annotations

import json
import math
from typing import Any

import pyarrow as pa
import pytest

from tests.support.scores import info, older_metadata
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.evaluation import Label, read_labels
from tokenfocus_ray.evaluation.labels import scale_of
from tokenfocus_ray.schema import ELEMENT_TYPE, Element, sample_id

PIG = {"text": "pig", "type": "animal"}
RED = {"text": "red", "type": "color"}
SCHEMA = pa.schema(
    [
        ("sample_id", pa.string()),
        ("prompt", pa.string()),
        ("image_uri", pa.string()),
        ("elements", pa.list_(ELEMENT_TYPE)),
        ("total_scores", pa.list_(pa.int64())),
        ("element_labels", pa.list_(pa.list_(pa.int64()))),
        ("generator", pa.string()),
    ]
)


def table(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=SCHEMA)


def test_means_over_annotators() -> None:
    labels = read_labels(
        table(
            {
                "sample_id": "a",
                "elements": [PIG, RED],
                "total_scores": [4, 3, 3],
                "element_labels": [[1, 0, 1], [0, 0]],
                "generator": "g",
            }
        )
    )
    elements = (Element("pig", "animal"), Element("red", "color"))
    assert labels == {"a": Label(10 / 3, elements, (2 / 3, 0.0), "g")}


def test_id_is_derived_where_it_is_missing() -> None:
    row = {"image_uri": "x/1.png", "prompt": "a pig", "total_scores": [5]}
    expected = [sample_id("x/1.png", "a pig")]
    assert list(read_labels(table(row))) == expected  # a null id
    assert list(read_labels(table(row).drop_columns("sample_id"))) == expected  # no such column
    assert read_labels(table(row))[expected[0]].prompt == "a pig"


def test_ids_are_read_as_in_scores() -> None:
    """A number or bytes are the text that a scoring job makes of them; a float is no id."""
    totals = pa.array([[5]])
    for given in (pa.array([7]), pa.array([b"7"]), pa.array(["7"])):
        assert list(read_labels(pa.table({"sample_id": given, "total_scores": totals}))) == ["7"]
    with pytest.raises(ManifestError) as caught:
        read_labels(pa.table({"sample_id": [7.0], "total_scores": totals}), "labels.parquet")
    assert str(caught.value) == (
        "labels.parquet: row 0: sample_id is 7.0 (float); give one text, as the scores have it"
    )


@pytest.mark.parametrize("totals", [None, [], [0, 3], [3, 6], [4, None]])
def test_unusable_totals_are_nan(totals: list[int | None] | None) -> None:
    label = read_labels(table({"sample_id": "a", "total_scores": totals}))["a"]
    assert math.isnan(label.total)


def test_nan_and_impossible_element_labels_are_nan() -> None:
    labels = pa.table(
        {
            "sample_id": ["a"],
            "total_scores": [[math.nan, 3.0]],
            "elements": [["pig (animal)", "red", "two", "big"]],
            "element_labels": [[[1.0, 2.0], [], [math.nan], [0.5]]],
        }
    )
    label = read_labels(labels)["a"]
    assert math.isnan(label.total)
    assert [math.isnan(value) for value in label.element_labels] == [True, True, True, False]
    assert label.elements[0] == Element("pig", "animal")


def test_unlabelled_elements_are_nan() -> None:
    label = read_labels(table({"sample_id": "a", "elements": [PIG], "total_scores": [3]}))["a"]
    assert len(label.element_labels) == 1
    assert math.isnan(label.element_labels[0])


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.int64(), 2),
        pa.large_list(pa.float32()),
        pa.list_view(pa.int8()),
        pa.large_list_view(pa.float64()),
        pa.list_(pa.decimal128(3, 1)),
    ],
    ids=str,
)
def test_ratings_in_every_kind_of_list(kind: Any) -> None:
    given = pa.table({"sample_id": ["a", "b"], "total_scores": pa.array([[3, 4], None], kind)})
    found = read_labels(given)
    assert found["a"].total == 3.5
    assert math.isnan(found["b"].total)


def test_ratings_in_a_dictionary_and_elements_as_truth_values() -> None:
    ratings = pa.ListArray.from_arrays([0, 2, 3], pa.array([3.0, 4.0, 5.0]).dictionary_encode())
    element = [{"text": "pig", "type": ""}]
    given = pa.table(
        {"sample_id": ["a", "b"], "total_scores": ratings, "elements": [element] * 2,
         "element_labels": [[[True, False]], [[True]]]}
    )  # fmt: skip
    found = read_labels(given)
    assert [label.total for label in found.values()] == [3.5, 5]
    assert [label.element_labels for label in found.values()] == [(0.5,), (1.0,)]


def test_annotators_of_the_same_sample_are_pooled() -> None:
    row = {"sample_id": "a", "elements": [PIG], "total_scores": [5, 5], "element_labels": [[1, 1]]}
    again = {**row, "total_scores": [2], "element_labels": [[0]]}
    label = read_labels(table(row, again))["a"]
    assert (label.total, label.element_labels) == (4.0, (2 / 3,))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            pa.table({"sample_id": ["a"], "score": [1.0]}),
            "labels.parquet: missing column total_scores; wanted total_scores; found sample_id, "
            "score",
        ),
        (
            pa.table({"total_scores": [[1]]}),
            "labels.parquet: missing columns image_uri, prompt; wanted sample_id, or image_uri "
            "and prompt; found total_scores",
        ),
        (
            pa.table({"sample_id": ["a"], "total_scores": [3.5]}),
            "labels.parquet: column total_scores has type double; give a list of numbers, one for "
            "each annotator",
        ),
        (
            pa.table({"sample_id": ["a"], "total_scores": [[3]], "element_labels": [[1, 0]]}),
            "labels.parquet: column element_labels has type list<item: int64>; give a list of "
            "numbers, one for each annotator, for each element",
        ),
        (
            pa.table({"sample_id": ["a"], "total_scores": [["good"]]}),
            "labels.parquet: column total_scores has type list<item: string>; its entries must be "
            "numbers",
        ),
        (
            table({"sample_id": "a", "elements": [PIG], "element_labels": [[1], [0]]}),
            "labels.parquet: row 0: element_labels has 2 entries for 1 elements; give a list of 0 "
            "or 1 for each element, in the order of elements",
        ),
        (
            table({"sample_id": "a", "elements": [{"text": " ", "type": ""}]}),
            "labels.parquet: row 0: an element's text is empty: {'text': ' ', 'type': ''}; put the "
            "elements right",
        ),
        (
            table({"sample_id": "a", "elements": [PIG]}, {"sample_id": "a", "elements": [RED]}),
            "labels.parquet: row 1: an earlier row has the same image and prompt but other "
            "elements: ['pig'] and ['red']; keep one of them",
        ),
        (
            table({"prompt": "a pig"}),
            "labels.parquet: row 0: no sample_id, and image_uri None with prompt 'a pig' do not "
            "make one; give sample_id, or both of them",
        ),
    ],
)
def test_bad_tables_are_refused(labels: pa.Table, message: str) -> None:
    with pytest.raises(ManifestError) as error:
        read_labels(labels, "labels.parquet")
    assert str(error.value) == message


@pytest.mark.parametrize("ratings", [range(5), range(1, 11), range(0, 101, 10)])
def test_ratings_on_another_scale_are_refused(ratings: range) -> None:
    """Half of them would be left out, or all, and the rest be taken for another rating."""
    rows = [{"sample_id": f"s{i}", "total_scores": [r]} for i, r in enumerate([*ratings] * 9)]
    outside = sum(not 1 <= r <= 5 for r in [*ratings] * 9)
    with pytest.raises(ManifestError) as caught:
        read_labels(table(*rows), "l.parquet")
    assert str(caught.value) == (
        f"l.parquet: {outside} of {len(rows)} samples have total_scores outside 1..5, the scale of "
        f"the scores; all ratings lie in {min(ratings)}..{max(ratings)}. Map them to 1..5, or "
        "score with total_levels of that scale"
    )
    found = read_labels(table(*rows), scale=(min(ratings), max(ratings)))
    assert [label.total for label in found.values()] == [*ratings] * 9


def test_the_scale_of_scores_is_that_of_their_levels() -> None:
    schema = pa.schema([]).with_metadata
    levels = {"total_levels": {"bad": 0, "good": 10.0, "fair": 5}}
    one, two = {"q": ["base"]}, {"q": ["base"], "i": ["base"]}
    for backbones in (one, two):
        assert scale_of(schema(info(backbones, **levels).to_metadata()), "t") == (0, 10)
    several = json.dumps({name: json.dumps(levels) for name in two})
    for backbones, config, scale in (
        (one, json.dumps(levels), (0, 10)), (two, several, (0, 10)), (one, "{}", (1, 5))
    ):  # fmt: skip
        assert scale_of(schema(older_metadata(backbones, config=config)), "t") == scale
    assert scale_of(pa.schema([]), "t") == (1, 5)
    with pytest.raises(ManifestError) as caught:
        scale_of(schema(older_metadata(one, config="[" * 100_000)), "t")
    assert str(caught.value).startswith("t: the table's metadata says '[[[[[")


def test_infinite_ratings_are_no_scale_of_their_own() -> None:
    totals = pa.array([[math.inf]] * 4 + [[3.0]])
    table = pa.table({"sample_id": list("abcde"), "total_scores": totals})
    assert [math.isnan(label.total) for label in read_labels(table).values()] == [True] * 4 + [
        False
    ]
