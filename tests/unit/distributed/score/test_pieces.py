"""Reading units into pieces, without Ray."""

from __future__ import annotations

import json
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tokenfocus_ray.datasets.names import counted
from tokenfocus_ray.datasets.sources import plan_source
from tokenfocus_ray.datasets.units import Source, Unit, read_unit
from tokenfocus_ray.distributed.score import tasks as feeding
from tokenfocus_ray.distributed.score.failures import STORE_TRIES
from tokenfocus_ray.distributed.score.ledger import UnitState
from tokenfocus_ray.distributed.score.pieces import unit_table, unpack
from tokenfocus_ray.distributed.score.tasks import ReadPieces
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.storage import Store


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """Ten rows."""
    table = pa.table({"prompt": [f"p{i}" for i in range(10)], "path": ["a.png"] * 10})
    pq.write_table(table, tmp_path / "m.parquet")
    return plan_source([str(tmp_path / "m.parquet")], None, {}, Store.of(tmp_path / "keep"))


class Failing:
    """Reads as ever, but a store fails after so many tables, so many times in a row."""

    def __init__(self, after: int, times: int) -> None:
        self.after, self.left, self.reads = after, times, 0

    def __call__(
        self, schema: pa.Schema, unit: Unit, rows: int, encoding: str | None
    ) -> Iterator[pa.Table]:
        self.reads += 1
        for i, table in enumerate(read_unit(schema, unit, rows, encoding)):
            if i == self.after and self.left:
                self.left -= 1
                raise ManifestError("cannot be read") from OSError(
                    "When reading: AWS Error SLOW_DOWN during GetObject operation"
                )
            yield table


def read(source: Source, tmp_path: Path) -> list[tuple[int, bool, list[Any]]]:
    stage = ReadPieces(source, Store.of(tmp_path / "out"), 4, None)
    batches = stage(unit_table(source.units[0], UnitState()))
    heads = [(head, table) for batch in batches for head, table in unpack(batch)]
    return [(h["piece"], h["last"], t["prompt"].to_pylist()) for h, t in heads]


EXPECTED = [
    (0, False, ["p0", "p1", "p2", "p3"]),
    (1, False, ["p4", "p5", "p6", "p7"]),
    (2, True, ["p8", "p9"]),
]


@pytest.mark.parametrize("after", [0, 1, 2])
def test_store_that_fails_while_a_unit_is_read(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """Reading goes on where it stood, after pauses that grow."""
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    failing = Failing(after, STORE_TRIES - 1)
    monkeypatch.setattr(feeding, "read_unit", failing)
    assert read(source, tmp_path) == EXPECTED
    assert failing.reads == STORE_TRIES
    assert len(pauses) == STORE_TRIES - 1
    assert pauses[-1] > pauses[0]


def test_store_that_keeps_failing(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr(feeding, "read_unit", Failing(1, STORE_TRIES))
    with pytest.raises(ManifestError, match="cannot be read"):
        read(source, tmp_path)


def test_file_that_is_broken_is_not_read_again(source: Source, tmp_path: Path) -> None:
    Path(source.units[0].uri).write_bytes(b"PAR1 but no more")
    with pytest.raises(ManifestError, match="cannot be read"):
        read(source, tmp_path)


def test_what_a_shard_passes_over_travels_with_its_pieces(tmp_path: Path) -> None:
    """To the driver, which says it."""
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for name in ("0.png", "._0.png", "1.png", "2.png", "README"):
            tar.addfile(tarfile.TarInfo(name))
    source = plan_source([str(tmp_path / "s.tar")], None, {}, Store.of(tmp_path / "keep"))
    stage = ReadPieces(source, Store.of(tmp_path / "out"), 2, None)
    batches = stage(unit_table(source.units[0], UnitState()))
    heads = [head for batch in batches for head, _ in unpack(batch)]
    assert len(heads) == 2
    passed = sum((Counter(json.loads(head["passed_over"])) for head in heads), Counter[str]())
    assert counted(passed) == "1 hidden, 1 without an ending"
