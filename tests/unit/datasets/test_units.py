from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tokenfocus_ray.datasets.units import Unit, read_unit

TABLE = pa.table({"a": [1, 2, 3], "image": [b"x", b"y", b"z"], "b.c": ["p", "q", "r"]})


def test_columns_that_the_schema_leaves_out_are_not_read(tmp_path: Path) -> None:
    """Not even from the disk: the pages of the image column are broken here."""
    path = tmp_path / "m.parquet"
    pq.write_table(TABLE, path, compression="none")
    column = pq.read_metadata(path).row_group(0).column(1)
    with path.open("r+b") as file:
        file.seek(column.dictionary_page_offset or column.data_page_offset)
        file.write(b"\xff" * column.total_compressed_size)
    unit = Unit(0, str(path), (0,), 1, 2, "")
    schema = pa.schema([f for f in TABLE.schema if f.name != "image"])
    (table,) = read_unit(schema, unit, 10)
    assert table.equals(TABLE.drop_columns(["image"]).slice(1))


def test_a_file_that_is_not_written_yet_is_read_from_its_content() -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(TABLE, sink)
    unit = Unit(0, "nowhere/0.parquet", (0,), 0, 3, "")
    data = sink.getvalue().to_pybytes()
    assert pa.concat_tables(read_unit(TABLE.schema, unit, 2, data=data)).equals(TABLE)
