from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tokenfocus_ray.config import TrainConfig
from tokenfocus_ray.datasets.evalmuse import read_evalmuse
from tokenfocus_ray.datasets.manifest import find_columns
from tokenfocus_ray.datasets.text_tables import read_small
from tokenfocus_ray.errors import ConfigError, ManifestError
from tokenfocus_ray.schema import ERROR_CODES, sample_id
from tokenfocus_ray.training.samples import (
    SAMPLE_COLUMNS,
    SAMPLES,
    SKIP_CODES,
    SKIPPED,
    check_disjoint,
    check_weights,
    index_samples,
    labels_of,
    vocabularies,
)

CONFIG = TrainConfig(data="m.jsonl", backbones={"b": {}})  # type: ignore[dict-item]
GOOD: dict[str, Any] = {
    "sample_id": "good",
    "image_uri": "a.png",
    "prompt": "a pig",
    "prompt_type": "real",
    "elements": ["pig (animal)", "sun"],
    "total_scores": [4, 3, 3],
    "element_labels": [[1, 0, 1], [0, 0, 0]],
}


def index(
    *rows: dict[str, Any], schema: pa.Schema | None = None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Samples and rows left out, of a manifest with these rows."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = pa.Table.from_pylist([{n: row.get(n) for n in names} for row in rows], schema=schema)
    columns = find_columns(table.column_names, {}, "m.jsonl")
    samples, skipped = index_samples(table, columns, CONFIG, "m.jsonl")
    assert (samples.schema, skipped.schema) == (SAMPLES, SKIPPED)
    return samples.to_pylist(), skipped.to_pylist()


def test_a_row_that_its_source_could_not_read_is_left_out(tmp_path: Path) -> None:
    rows = [GOOD, GOOD | {"prompt": "\ud83d pig"}, GOOD | {"prompt": ["a", "b"]}]
    path = tmp_path / "m.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    table = read_small(path, {})
    _, skipped = index_samples(table, find_columns(table.column_names, {}, "m"), CONFIG, "m")
    assert skipped["code"].to_pylist() == ["text_invalid", "type_invalid"]


def skipped_as(**changed: Any) -> tuple[str, str]:
    """Code and message of a row that stands behind a good one."""
    samples, skipped = index(GOOD, GOOD | {"sample_id": "bad"} | changed)
    assert [s["sample_id"] for s in samples] == ["good"]
    (reason,) = skipped
    assert (reason["row"], reason["sample_id"]) == (1, changed.get("sample_id", "bad"))
    assert reason["code"] in SKIP_CODES | ERROR_CODES
    return reason["code"], reason["message"]


def test_canonical_row() -> None:
    samples, skipped = index(
        GOOD
        | {
            "prompt_id": "p7",
            "split_confidence": [0, 1, 0],
            "attribute_confidence": [1, 1, 0],
            "generator": "g",
        }
    )
    assert skipped == []
    assert samples == [
        {
            "sample_id": "good",
            "group": 0,
            "row": 0,
            "image_uri": "a.png",
            "prompt": "a pig",
            "prompt_type": "real",
            "elements": [{"text": "pig", "type": "animal"}, {"text": "sun", "type": ""}],
            "total_scores": [4.0, 3.0, 3.0],
            "element_labels": [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]],
            "split_confidence": [0, 1, 0],
            "attribute_confidence": [1, 1, 0],
        }
    ]


def test_columns_of_the_canonical_table() -> None:
    """What later stages read the table with."""
    found = find_columns(SAMPLES.names, {}, "samples")
    assert found == SAMPLE_COLUMNS


def test_only_totals_or_only_elements() -> None:
    totals, _ = index({k: GOOD[k] for k in ("image_uri", "prompt", "total_scores", "elements")})
    assert totals[0]["element_labels"] == [[], []]
    elements, _ = index({k: v for k, v in GOOD.items() if k != "total_scores"})
    assert elements[0]["total_scores"] == []


def test_labels_may_be_missing_in_part() -> None:
    """Null, NaN and empty lists; one rating anywhere is enough."""
    rows = [
        GOOD | {"sample_id": "a", "total_scores": None},
        GOOD | {"sample_id": "b", "total_scores": [None, float("nan"), 5.0]},
        GOOD | {"sample_id": "c", "element_labels": None},
        GOOD | {"sample_id": "d", "element_labels": [None, []]},
        GOOD | {"sample_id": "e", "total_scores": [], "element_labels": [[None], [1]]},
    ]
    samples, skipped = index(*rows)
    assert skipped == []
    assert [s["total_scores"] for s in samples] == [
        [],
        [None, None, 5.0],
        *[[4.0, 3.0, 3.0]] * 2,
        [],
    ]
    assert [s["element_labels"] for s in samples[2:]] == [[[], []], [[], []], [[None], [1.0]]]


def test_a_single_number_is_one_annotator_s() -> None:
    samples, _ = index(
        GOOD | {"total_scores": 3.5, "element_labels": [1, 0], "split_confidence": 1}
    )
    assert samples[0]["total_scores"] == [3.5]
    assert samples[0]["element_labels"] == [[1.0], [0.0]]
    assert samples[0]["split_confidence"] == [1]


def test_flags_may_be_true_and_false() -> None:
    samples, _ = index(GOOD | {"split_confidence": [True, False, False]})
    assert samples[0]["split_confidence"] == [1, 0, 0]


@pytest.mark.parametrize("written", ["animal", "1"])
def test_an_unknown_prompt_type_is_left_out(written: str) -> None:
    assert skipped_as(prompt_type=written) == (
        "prompt_type_invalid",
        f"the prompt type is {written!r}; write real or synthetic, leave it empty, or set "
        "structure: false, which asks without it",
    )


def test_ids_and_groups() -> None:
    """Given, or a hash of image and prompt, or the row's number; prompts by id and by text."""
    plain = {k: v for k, v in GOOD.items() if k != "sample_id"}
    samples, _ = index(
        plain | {"sample_id": 7, "prompt_id": 1, "prompt": "a pig"},
        plain | {"image_uri": "b.png", "prompt_id": 2, "prompt": "A  PIG"},
        plain | {"image_uri": "c.png", "prompt_id": 2, "prompt": "a sow"},
        plain | {"image_uri": "d.png", "prompt_id": 3, "prompt": "a cow"},
    )
    assert [s["sample_id"] for s in samples] == [
        "7",
        sample_id("b.png", "A  PIG"),
        sample_id("c.png", "a sow"),
        sample_id("d.png", "a cow"),
    ]
    assert [s["group"] for s in samples] == [0, 0, 0, 1]


def test_empty_prompt_ids_are_none() -> None:
    samples, _ = index(
        GOOD | {"sample_id": "a", "prompt_id": ""},
        GOOD | {"sample_id": "b", "prompt_id": "", "prompt": "a cow"},
    )
    assert [s["group"] for s in samples] == [0, 1]


def test_rows_with_image_bytes_are_named_by_number() -> None:
    """Their bytes are not in the table."""
    rows = [{"prompt": "a pig", "total_scores": [3]}, {"prompt": "a cow", "total_scores": [4]}]
    table = pa.Table.from_pylist(rows)
    columns = find_columns(["prompt", "total_scores", "image"], {}, "m.parquet")
    samples, _ = index_samples(table, columns, CONFIG, "m.parquet")
    assert samples["sample_id"].to_pylist() == ["row-00000000", "row-00000001"]
    assert samples["image_uri"].to_pylist() == [None, None]


def test_mapped_columns() -> None:
    table = pa.table({"q": ["a pig"], "f": ["a.png"], "parts": [["pig"]], "total_scores": [[3]]})
    mapping = {"prompt": "q", "image_uri": "f", "elements": "parts"}
    columns = find_columns(table.column_names, mapping, "m")
    samples, _ = index_samples(table, columns, CONFIG, "m")
    (row,) = samples.to_pylist()
    assert (row["prompt"], row["image_uri"]) == ("a pig", "a.png")
    assert row["elements"] == [{"text": "pig", "type": ""}]


def test_evalmuse(tmp_path: Path) -> None:
    record = {
        "prompt_id": "17",
        "prompt": "two pigs",
        "type": "synthetic",
        "img_path": "SDXL/1.png",
        "total_score": [5, 4, 4],
        "element_score": {"pigs (animal)": [1, 1, 0], "two (counting)": [0, 0, 1]},
        "promt_meaningless": [0, 0, 0],
        "split_confidence": [0, 0, 1],
        "attribute_confidence": [1, 0, 1],
        "fidelity_label": ["a", "b", "c"],
    }
    unlabelled: dict[str, Any] = record | {
        "img_path": "SDXL/2.png",
        "total_score": None,
        "element_score": {},
    }
    path = tmp_path / "train_list.json"
    path.write_text(json.dumps([record, unlabelled]))
    table = read_evalmuse(str(path))
    samples, skipped = index_samples(table, find_columns(table.column_names, {}, "m"), CONFIG, "m")
    assert samples.to_pylist() == [
        {
            "sample_id": sample_id("SDXL/1.png", "two pigs"),
            "group": 0,
            "row": 0,
            "image_uri": "SDXL/1.png",
            "prompt": "two pigs",
            "prompt_type": "synthetic",
            "elements": [
                {"text": "pigs", "type": "animal"},
                {"text": "two", "type": "counting"},
            ],
            "total_scores": [5.0, 4.0, 4.0],
            "element_labels": [[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
            "split_confidence": [0, 0, 1],
            "attribute_confidence": [1, 0, 1],
        }
    ]
    assert [s["code"] for s in skipped.to_pylist()] == ["label_missing"]
    (row,) = samples.to_pylist()
    labels = labels_of(row, vocabularies(CONFIG), 0.5)
    assert labels.total.mean == pytest.approx(13 / 3, abs=1e-10)
    # the second annotator was unsure, the third doubted the split
    assert labels.elements[0].mean == pytest.approx(1.5 / 2, abs=1e-10)
    assert labels.elements[0].weight == pytest.approx(2 / 3, abs=1e-10)


def test_label_missing() -> None:
    expected = ("label_missing", "neither the total nor an element has a rating")
    assert skipped_as(total_scores=None, element_labels=None) == expected
    assert skipped_as(total_scores=[None], element_labels=[[], [None]]) == expected


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"total_scores": [3, 6]}, "rating 6 is outside 1..5; correct or drop the row"),
        ({"total_scores": [0]}, "rating 0 is outside 1..5; correct or drop the row"),
        (
            {"element_labels": [[1], [2]]},
            "rating 2 is outside 0..1; correct or drop the row",
        ),
    ],
    ids=str,
)
def test_label_out_of_range(changed: dict[str, Any], message: str) -> None:
    assert skipped_as(**changed) == ("label_out_of_range", message)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("total_scores", "four", "total_scores is 'four'; give a list of numbers"),
        ("total_scores", "[4, 3", "total_scores is '[4, 3'; give a list of numbers"),
        ("total_scores", "[" * 9999, f"total_scores is '{'[' * 79}; give a list of numbers"),
        ("total_scores", ["4", "3"], "total_scores is ['4', '3']; give a list of numbers"),
        ("total_scores", {"a": 4}, "total_scores is {'a': 4}; give a list of numbers"),
        ("element_labels", [["x"], ["y"]], "element_labels is ['x']; give a list of numbers"),
        (
            "element_labels",
            1,
            "element_labels is 1; give a list of ratings for each element",
        ),
        (
            "element_labels",
            "yes; no",
            "element_labels is 'yes; no'; give a list of ratings for each element",
        ),
        ("split_confidence", ["1"], "split_confidence is ['1']; give a list of numbers"),
        ("attribute_confidence", "no", "attribute_confidence is 'no'; give a list of numbers"),
        ("split_confidence", [0.5], "split_confidence is [0.5]; give a list of 0 and 1"),
    ],
    ids=str,
)
def test_labels_of_another_shape(name: str, value: Any, message: str) -> None:
    """Alone in its manifest, since a column has one type."""
    with pytest.raises(ManifestError) as caught:
        index(GOOD | {name: value})
    assert str(caught.value) == (f"m.jsonl: none of its 1 rows can be trained on; row 0: {message}")


def test_label_mismatch() -> None:
    assert skipped_as(element_labels=[[1]]) == (
        "label_mismatch",
        "element_labels has 1 entries for 2 elements; give one list for each element",
    )


def test_duplicate_id() -> None:
    assert skipped_as(sample_id="good") == (
        "duplicate_id",
        "an earlier row has the sample id 'good' too",
    )


def test_one_image_and_prompt_twice_without_ids() -> None:
    row = {k: v for k, v in GOOD.items() if k != "sample_id"}
    samples, skipped = index(row, row | {"total_scores": [1]})
    key = sample_id("a.png", "a pig")
    assert [s["sample_id"] for s in samples] == [key]
    assert skipped == [
        {
            "row": 1,
            "sample_id": key,
            "code": "duplicate_id",
            "message": f"an earlier row has the sample id {key!r} too",
        }
    ]


def test_id_of_a_row_that_was_left_out_is_free() -> None:
    samples, skipped = index(GOOD | {"total_scores": [9]}, GOOD)
    assert ([s["row"] for s in samples], [s["row"] for s in skipped]) == ([1], [0])


@pytest.mark.parametrize("prompt", ["", " \n", None], ids=repr)
def test_prompt_empty(prompt: str | None) -> None:
    assert skipped_as(prompt=prompt) == (
        "prompt_empty",
        f"the prompt is empty (got {prompt!r}); give the text the image was made from",
    )


def test_elements_invalid() -> None:
    assert skipped_as(elements=["pig", " "]) == (
        "elements_invalid",
        "an element's text is empty: ' '",
    )


def many(total: Sequence[Any], labels: Any = ((1,), (0,))) -> list[dict[str, Any]]:
    """A row for each total rating."""
    plain = {k: v for k, v in GOOD.items() if k != "sample_id"}
    return [
        plain | {"image_uri": f"{i}.png", "total_scores": t, "element_labels": labels}
        for i, t in enumerate(total)
    ]


@pytest.mark.parametrize(
    ("ratings", "seen", "levels"),
    [
        ([[i % 5, 2] for i in range(60)], "0..4", '{"0": 0, "1": 1, "2": 2, "3": 3, "4": 4}'),
        # only one in twenty is a 0: the others would be trained on shifted
        (
            [[0 if i % 20 == 7 else 1 + i % 4] for i in range(60)],
            "0..4",
            '{"0": 0, "1": 1, "2": 2, "3": 3, "4": 4}',
        ),
        (
            [[1 + i % 10] for i in range(60)],
            "1..10",
            '{"1": 1, "2": 3.25, "3": 5.5, "4": 7.75, "5": 10}',
        ),
        (
            [i % 60 / 59 for i in range(60)],
            "0..1",
            '{"1": 0, "2": 0.25, "3": 0.5, "4": 0.75, "5": 1}',
        ),
        (
            [[7, None, float("nan"), float("inf")]] * 60,
            "7..7",
            '{"1": 7, "2": 7.25, "3": 7.5, "4": 7.75, "5": 8}',
        ),
    ],
    ids=["0..4", "few zeros", "1..10", "0..1", "alike"],
)
def test_total_ratings_on_another_scale_are_refused(
    ratings: list[Any], seen: str, levels: str
) -> None:
    flat = [[r] if isinstance(r, float) else r for r in ratings]
    outside = [
        i for i, r in enumerate(flat) if any(v is not None and not 1 <= v <= 5 for v in r if v == v)
    ]
    with pytest.raises(ManifestError) as caught:
        index(*many(ratings))
    assert str(caught.value) == (
        f"m.jsonl: {len(outside)} of 60 rows have total_scores outside 1..5, the first of them row "
        f"{outside[0]}; all ratings lie in {seen}. If that is their scale, give total_levels: "
        f"{levels}; else correct or drop those rows"
    )
    # the remedy is one: levels that hold every rating
    config = CONFIG.model_copy(update={"total_levels": json.loads(levels)})
    table = pa.Table.from_pylist(many([r[:1] for r in flat]))
    columns = find_columns(table.column_names, {}, "m.jsonl")
    assert index_samples(table, columns, config, "m.jsonl")[0].num_rows == 60


def test_element_ratings_on_another_scale_are_refused() -> None:
    with pytest.raises(ManifestError) as caught:
        index(*many([[3]] * 30), *many([[3]] * 8, [[5], [1]]))
    assert str(caught.value) == (
        "m.jsonl: 8 of 38 rows have element_labels outside 0..1, the first of them row 30; all "
        "ratings lie in 0..5. If that is their scale, map them to 0..1: element scores are "
        "thresholded at 0.5; else correct or drop those rows"
    )


@pytest.mark.parametrize(("n_wrong", "n_rows"), [(1, 3), (2, 5), (3, 100), (6, 200)])
def test_a_few_ratings_out_of_range_leave_out_their_rows(n_wrong: int, n_rows: int) -> None:
    samples, skipped = index(*many([[44]] * n_wrong + [[4]] * (n_rows - n_wrong)))
    assert (len(samples), len(skipped)) == (n_rows - n_wrong, n_wrong)
    assert {s["code"] for s in skipped} == {"label_out_of_range"}


def test_no_label_column() -> None:
    with pytest.raises(ManifestError) as caught:
        index({"image_uri": "a.png", "prompt": "a pig", "score": 3})
    assert str(caught.value) == (
        "m.jsonl: found columns ['image_uri', 'prompt', 'score']; wanted labels: total_scores (a "
        "list of ratings for each row), or element_labels (a list of ratings for each element)"
    )


def test_nothing_left() -> None:
    with pytest.raises(ManifestError) as caught:
        index(GOOD | {"prompt": ""}, GOOD | {"total_scores": [7]})
    assert str(caught.value) == (
        "m.jsonl: none of its 2 rows can be trained on; row 0: the prompt is empty (got ''); give "
        "the text the image was made from"
    )


def test_empty_manifest() -> None:
    with pytest.raises(ManifestError) as caught:
        index(
            schema=pa.schema(
                [
                    ("image_uri", pa.string()),
                    ("prompt", pa.string()),
                    ("total_scores", pa.list_(pa.int64())),
                ]
            )
        )
    assert str(caught.value) == "m.jsonl: none of its 0 rows can be trained on"


def of_prompts(*prompts: str) -> pa.Table:
    rows = [GOOD | {"sample_id": str(i), "prompt": p} for i, p in enumerate(prompts)]
    samples, _ = index_samples(pa.Table.from_pylist(rows), SAMPLE_COLUMNS, CONFIG, "m")
    return samples


def test_disjoint_prompts() -> None:
    check_disjoint(of_prompts("a pig", "a cow"), ["a pigs", None, "pig"], "train", "test")


@pytest.mark.parametrize("copy", ["a pig", "A Pig", "  a\tpig\n", "a  PIG"], ids=repr)
def test_prompt_of_the_test_data(copy: str) -> None:
    """Case and spacing do not make a prompt a new one."""
    with pytest.raises(ManifestError) as caught:
        check_disjoint(of_prompts("a cow", "a pig", "a pig"), ["x", copy], "train", "test")
    assert str(caught.value) == (
        "1 prompts are in both train and test, such as 'a pig': scores on the test data would "
        "flatter the members; remove them from one of the two"
    )


def test_long_prompt_of_the_test_data_is_cut() -> None:
    long = "pig " * 50
    with pytest.raises(ManifestError) as caught:
        check_disjoint(of_prompts(long, "a cow"), ["a COW", long], "train", "test")
    assert str(caught.value).startswith(
        f"2 prompts are in both train and test, such as {long[:80]!r}: scores"
    )


def test_rank_term_without_a_pair_is_refused() -> None:
    """Images of other prompts, alike in mean, or without a rating make none."""
    rated = [("a cat", [4, 2]), ("a cat", [3]), ("a dog", [5]), ("a cat", [None])]

    def samples(rows: list[tuple[str, Any]]) -> pa.Table:
        table = pa.Table.from_pylist(
            [
                GOOD | {"sample_id": str(i), "prompt": prompt, "total_scores": total}
                for i, (prompt, total) in enumerate(rows)
            ]
        )
        return index_samples(table, SAMPLE_COLUMNS, CONFIG, "m")[0]

    ranked = TrainConfig.parse({"data": "m", "backbones": ["b"], "loss": {"rank": 0.5}})
    with pytest.raises(ConfigError) as caught:
        check_weights(samples(rated), ranked)
    assert str(caught.value) == (
        "loss.rank = 0.5 compares images of one prompt, but in the training data no two of a "
        "prompt have different total ratings; set it to 0, or add such images"
    )
    check_weights(samples([*rated, ("A  cat", [5])]), ranked)
    check_weights(samples(rated), CONFIG)


def test_data_from_which_nothing_would_be_learned_is_refused() -> None:
    """Element labels alone, which a weight of 0 leaves out."""
    row = {k: v for k, v in GOOD.items() if k != "total_scores"}
    table = pa.Table.from_pylist([row])
    samples, _ = index_samples(table, find_columns(table.column_names, {}, "m"), CONFIG, "m")
    without = TrainConfig.parse({"data": "m", "backbones": ["b"], "loss": {"elements": 0}})
    with pytest.raises(ConfigError) as caught:
        check_weights(samples, without)
    assert str(caught.value) == (
        "loss.elements = 0 leaves out element labels, and the training data has no total rating; "
        "raise it, or add total_scores"
    )
    check_weights(samples, CONFIG)
