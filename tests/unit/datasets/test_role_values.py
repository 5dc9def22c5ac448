"""What is asked is one valid text or image, whatever the columns' types; else it is told."""

from __future__ import annotations

import datetime
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tokenfocus_ray.datasets.manifest import find_columns, passthrough
from tokenfocus_ray.datasets.role_types import roles_by_type
from tokenfocus_ray.datasets.role_values import valid_values
from tokenfocus_ray.datasets.sources import plan_source
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.storage import Store
from tokenfocus_ray.tables.text import ERROR_CODE, ERROR_MESSAGE


def broken(*values: bytes) -> pa.Array[Any]:
    """A text column of any bytes, as Arrow reads it from a file without looking."""
    raw = pa.array(values, pa.binary())
    return pa.Array.from_buffers(pa.string(), len(raw), raw.buffers())


def asked(encoding: str | None = None, **columns: Any) -> pa.Table:
    table = pa.table({"image_uri": ["x"] * len(next(iter(columns.values()))), **columns})
    return valid_values(table, find_columns(table.column_names, {}, "m"), encoding)


def planned(tmp_path: Path, **columns: Any) -> str:
    """What is said of a manifest with these columns."""
    base = {"prompt": ["a pig"], "image_uri": ["x"]}
    pq.write_table(pa.table(base | columns), tmp_path / "m.parquet")
    with pytest.raises(ManifestError) as caught:
        plan_source([str(tmp_path / "m.parquet")], None, {}, Store.of(tmp_path / "keep"))
    return str(caught.value).removeprefix(f"{tmp_path}/m.parquet: ")


TEXT = "text, its bytes, or whole numbers"


@pytest.mark.parametrize("name", ["prompt", "sample_id", "image_uri", "prompt_type"])
@pytest.mark.parametrize(
    "values",
    [
        pa.array([{"en": "a pig"}]),
        pa.array([True]),
        pa.array([datetime.date(2024, 1, 1)]),
        pa.array([datetime.datetime(2024, 1, 1)]),
        pa.array([[["a pig"]]]),
        pa.array([Decimal("1.5")]),
    ],
    ids=lambda values: str(values.type),
)
def test_a_text_of_another_type_is_refused_by_column(
    name: str, values: pa.Array[Any], tmp_path: Path
) -> None:
    """Before, Python's way of printing it was scored."""
    kind = str(values.type).replace("item", "element")
    assert planned(tmp_path, **{name: values}) == (
        f"column {name!r} ({name}) is of type {kind}; wanted {TEXT}: cast or rename it, or "
        f"name another with --map {name}=COLUMN"
    )


def test_ids_that_became_floats_are_refused(tmp_path: Path) -> None:
    """Before, 7 was '7.0', and every missing one 'nan'."""
    assert planned(tmp_path, sample_id=[7.0]) == (
        f"column 'sample_id' (sample_id) is of type double; wanted {TEXT}: whole numbers became "
        f"floats there, as pandas makes them beside missing values, and long ones have lost "
        f"digits: write them as text, or name another column with --map sample_id=COLUMN"
    )


@pytest.mark.parametrize(
    "values",
    [pa.array([[1, 2]]), pa.array([7]), pa.array([{"x": b"1"}])],
    ids=lambda v: str(v.type),
)
def test_an_image_of_another_type_is_refused_by_column(
    values: pa.Array[Any], tmp_path: Path
) -> None:
    kind = str(values.type).replace("item", "element")
    assert planned(tmp_path, image=values) == (
        f"column 'image' (image) is of type {kind}; wanted encoded bytes, a struct of bytes and "
        f"path, or paths: cast or rename it, or name another with --map image=COLUMN"
    )


def test_elements_of_another_type_are_refused_by_column(tmp_path: Path) -> None:
    assert planned(tmp_path, elements=[[1]]) == (
        "column 'elements' (elements) is of type list<element: int64>; wanted lists of texts or of "
        "structs with a text, or JSON text: cast or rename it, or name another with --map "
        "elements=COLUMN"
    )


@pytest.mark.parametrize(
    ("name", "role", "value"),
    [
        ("caption", "prompt", ["a pig", "a sow"]),
        ("jpg", "image", [b"1", b"2"]),
        ("image", "image_uri", ["1.png", "2.png"]),
    ],
)
def test_a_column_of_several_is_refused_at_the_start(
    name: str, role: str, value: Any, tmp_path: Path
) -> None:
    columns = {"caption": ["a pig"], "url": ["x"]} | {name: [value]}
    pq.write_table(pa.table(columns), tmp_path / "m.parquet")
    with pytest.raises(ManifestError) as caught:
        plan_source([str(tmp_path / "m.parquet")], None, {}, Store.of(tmp_path / "keep"))
    assert str(caught.value) == (
        f"{tmp_path}/m.parquet: column {name!r} ({role}) holds 2 values in row 0; write one of "
        f"them to a column of its own, or a row for each"
    )


def test_bytes_that_are_no_text_at_all_are_refused_at_the_start(tmp_path: Path) -> None:
    """Such as ids of 16 bytes; a few such rows among others are marked."""
    ids = [bytes([255, *range(i, i + 15)]) for i in range(9)]
    rows = {"prompt": ["a"] * 9, "image_uri": ["x"] * 9}
    message = planned(tmp_path, **rows, sample_id=pa.array(ids, pa.binary(16)))
    assert message.startswith(
        "none of the first 9 rows can be asked; in the first, sample_id is not utf-8: byte 0 is "
    )
    pq.write_table(pa.table(rows | {"sample_id": [b"a", *ids[1:]]}), tmp_path / "m.parquet")
    plan_source([str(tmp_path / "m.parquet")], None, {}, Store.of(tmp_path / "keep"))


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.binary(),
        pa.large_binary(),
        pa.binary_view(),
        pa.binary(5),
        pa.list_(pa.string()),
        pa.large_list(pa.large_string()),
        pa.list_(pa.string(), 1),
        pa.list_(pa.binary()),
        pa.dictionary(pa.int8(), pa.string()),
        pa.dictionary(pa.int32(), pa.binary()),
    ],
    ids=str,
)
def test_texts_of_every_type(kind: Any) -> None:
    """Binary is decoded, a list of one is its element."""
    value: Any = ["a pig"] if pa.types.is_nested(kind) else "a pig"
    plain = pa.string() if pa.types.is_dictionary(kind) else kind
    values = pa.array([value, None, value], None if "binary" in str(kind) else plain)
    table = asked(prompt=pa.chunked_array([values.cast(plain).cast(kind)]))
    assert table["prompt"].to_pylist() == ["a pig", None, "a pig"]
    assert table[ERROR_CODE].to_pylist() == [None] * 3


def test_bytes_of_another_encoding_mark_their_row_or_are_named() -> None:
    prompts = pa.array(["café".encode(), b"caf\xe9", "café".encode("utf-16"), b"\x89PNG"])
    table = asked(prompt=prompts)
    assert table["prompt"].to_pylist() == ["café", "caf\\xe9", "café", "\\x89PNG"]
    assert table[ERROR_CODE].to_pylist() == [None, "text_invalid", None, "text_invalid"]
    assert table[ERROR_MESSAGE][1].as_py().startswith("prompt is not utf-8: byte 3 is 0xe9 (")
    assert asked("latin-1", prompt=prompts)["prompt"][1].as_py() == "café"


@pytest.mark.parametrize("kind", ["string", "dictionary", "list"])
def test_text_that_is_not_utf8_marks_its_row(kind: str) -> None:
    """Arrow reads it from a file without looking; before, the whole job ended."""
    column: Any = broken(b"a pig", b"caf\xe9")
    if kind == "dictionary":
        column = pa.DictionaryArray.from_arrays(pa.array([0, 1]), column)
    if kind == "list":
        column = pa.ListArray.from_arrays([0, 1, 2], column)
    table = asked(prompt=column)
    assert table["prompt"].to_pylist() == ["a pig", None if kind == "list" else "caf\\xe9"]
    assert table[ERROR_CODE].to_pylist() == [None, "text_invalid"]
    assert asked("latin-1", prompt=column)["prompt"].to_pylist() == ["a pig", "café"]
    whole = asked(prompt=column.slice(0, 1))
    assert whole.schema == table.schema  # pieces of one job must have one schema


@pytest.mark.parametrize("is_list", [False, True])
def test_an_encoding_that_is_named_leaves_text_that_is_utf8(is_list: bool) -> None:
    """Whether or not a row beside it is not."""
    texts: Any = broken("café".encode(), b"caf\xe9")
    column = pa.ListArray.from_arrays([0, 1, 2], texts) if is_list else texts
    assert asked("latin-1", prompt=column)["prompt"].to_pylist() == ["café", "café"]
    assert asked("latin-1", prompt=column.slice(0, 1))["prompt"].to_pylist() == ["café"]


def test_elements_that_are_not_utf8_mark_their_row() -> None:
    labels = pa.ListArray.from_arrays([0, 1, 2], broken(b"pig (animal)", b"caf\xe9"))
    structs = pa.ListArray.from_arrays(
        [0, 1, 2], pa.StructArray.from_arrays([broken(b"pig", b"caf\xe9")], names=["text"])
    )
    for column in (labels, structs):
        table = asked(prompt=["a", "b"], elements=column)
        assert table[ERROR_CODE].to_pylist() == [None, "text_invalid"]
        assert [v is None for v in table["elements"].to_pylist()] == [False, True]


def test_other_columns_stay_as_they_are() -> None:
    table = asked(prompt=["a"], sample_id=pa.array([7], pa.uint8()), note=broken(b"caf\xe9"))
    assert table.schema.field("sample_id").type == pa.uint8()
    assert table["note"].cast(pa.binary()).to_pylist() == [b"caf\xe9"]
    assert table[ERROR_CODE].to_pylist() == [None]


def test_uuids_are_ids(tmp_path: Path) -> None:
    value = uuid.UUID(int=7)
    table = pa.table({"prompt": ["a"], "image_uri": ["x"]})
    ids = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([value.bytes], pa.binary(16)))
    table = table.append_column("sample_id", ids)
    pq.write_table(table, tmp_path / "m.parquet")
    plan_source([str(tmp_path / "m.parquet")], None, {}, Store.of(tmp_path / "keep"))
    given: dict[str, Any] = dict(zip(table.column_names, table.columns, strict=True))
    assert str(asked(**given)["sample_id"][0]) == str(value)


def test_a_list_of_one_image_is_its_image() -> None:
    images = pa.chunked_array([[[b"0"], [], None], [[b"1", b"2"], [b"3"], [None]]])
    structs = pa.array([[{"bytes": b"0", "path": "x"}], [], [{"bytes": b"1"}, {"bytes": b"2"}]])
    table = asked(prompt=["a"] * 6, image=images)
    assert table["image"].to_pylist() == [b"0", None, None, None, b"3", None]
    assert table[ERROR_CODE].to_pylist() == [None] * 3 + ["type_invalid"] + [None] * 2
    assert table[ERROR_MESSAGE][3].as_py() == "image is a list of 2; give one image"
    table = asked(prompt=["a"] * 3, image=structs)
    assert table["image"].to_pylist() == [{"bytes": b"0", "path": "x"}, None, None]
    assert table[ERROR_CODE].to_pylist() == [None, None, "type_invalid"]


def test_the_errors_of_the_source_come_first() -> None:
    errors: dict[str, Any] = {ERROR_CODE: ["source_corrupt", None], ERROR_MESSAGE: ["cut", None]}
    table = asked(prompt=[b"\xff", b"\xff"], **errors)
    assert table[ERROR_CODE].to_pylist() == ["source_corrupt", "text_invalid"]


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.list_(pa.string()),
        pa.dictionary(pa.int8(), pa.string()),
    ],
    ids=str,
)
def test_an_image_column_of_paths_travels_on(kind: Any) -> None:
    """Rows cannot be told apart without it; bytes stay behind."""
    names = ["prompt", "image", "url"]
    schema = pa.schema([("prompt", pa.string()), ("image", kind), ("url", pa.string())])
    found = roles_by_type(find_columns(names, {}, "m"), schema, {})
    assert (found.image, found.image_uri) == (None, "image")
    assert list(passthrough(names, found)) == names
    bytes_ = schema.set(1, pa.field("image", pa.binary()))
    found = roles_by_type(find_columns(names, {}, "m"), bytes_, {})
    assert list(passthrough(names, found)) == ["prompt", "url"]


def test_a_column_that_is_only_called_url_is_none_beside_bytes(tmp_path: Path) -> None:
    table = pa.table({"prompt": ["a"], "image": [b"1"], "url": [["x", "y"]], "path": [{"a": 1}]})
    pq.write_table(table, tmp_path / "m.parquet")
    arguments = ([str(tmp_path / "m.parquet")], None)
    source = plan_source(*arguments, {}, Store.of(tmp_path / "keep"))
    assert (source.columns.image, source.columns.image_uri) == ("image", None)
    mapping = {"image": "image", "image_uri": "path"}
    with pytest.raises(ManifestError, match=r"column 'path' \(image_uri\) is of type struct"):
        plan_source(*arguments, mapping, Store.of(tmp_path / "keep"))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_an_image_column_of_paths_in_a_manifest(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"m{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.table({"prompt": ["a"], "image": ["0.png"]}), path)
    else:
        path.write_text(
            {".csv": "prompt,image\na,0.png\n"}.get(suffix, '{"prompt":"a","image":"0.png"}')
        )
    source = plan_source([str(path)], None, {}, Store.of(tmp_path / "keep"))
    assert (source.columns.image, source.columns.image_uri) == (None, "image")
    assert not source.has_bytes
