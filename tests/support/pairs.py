"""Score tables of several images a prompt, for exports of pairs."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.support.scores import info, score_table
from tokenfocus_ray.datasets.scored import ScoredTable
from tokenfocus_ray.exports.pairing import Rules
from tokenfocus_ray.exports.pairs import PairTable
from tokenfocus_ray.tables.members import EnsembleInfo

TWO = {"q": ["m0", "m1"], "r": ["m0"]}


def rows_of(prompts: Mapping[str, Sequence[Sequence[float] | None]]) -> list[dict[str, Any]]:
    """Rows of ``score_table``: prompt -> the members' scores of each image, None where unscored."""
    return [
        {"id": f"{prompt}/{i}", "prompt": prompt, **({"scores": list(own)} if own else {})}
        for prompt, each in prompts.items()
        for i, own in enumerate(each)
    ]


def table_of(
    prompts: Mapping[str, Sequence[Sequence[float] | None]],
    backbones: Mapping[str, Sequence[str]] = TWO,
    **more: Sequence[Any],
) -> pa.Table:
    """A score table with paths, generators and seeds; ``more`` are further columns."""
    rows = rows_of(prompts)
    columns: dict[str, Any] = {
        "image_uri": [f"images/{i}.png" for i in range(len(rows))],
        "generator": ["ab"[i % 2] for i in range(len(rows))],
        "seed": list(range(len(rows))),
        **more,
    }
    return score_table(backbones, rows, **columns)


def with_intervals(table: pa.Table, radius: float, coverage: float = 0.9) -> pa.Table:
    """The table as an ensemble's, with intervals cut at 1 and 5."""
    scores: list[Any] = table["score"].to_pylist()
    low = pa.array([max(1.0, s - radius) for s in scores], pa.float32())
    high = pa.array([min(5.0, s + radius) for s in scores], pa.float32())
    table = table.append_column("score_low", low).append_column("score_high", high)
    ensemble = EnsembleInfo(fingerprint="f", coverage=coverage)
    made = info(TWO).model_copy(update={"ensemble": ensemble})
    return table.replace_schema_metadata(made.to_metadata())


def written(table: pa.Table, folder: Path, parts: int = 1) -> str:
    """The table as a folder of so many files."""
    folder.mkdir(parents=True)
    size = -(-table.num_rows // parts)
    for part in range(parts):
        rows = table.slice(part * size, size)
        pq.write_table(rows, folder / f"part-{part:05d}.parquet")
    return str(folder)


def found_in(
    table: pa.Table, rules: Rules, parts: int = 1, ranked: bool = False
) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Pairs, or rankings, of the table, and what was counted."""
    with tempfile.TemporaryDirectory() as folder:
        scores = written(table, Path(folder) / "scores", parts)
        (Path(folder) / "temporary").mkdir()
        pairs = PairTable(ScoredTable.open(scores), rules, ranked=ranked)
        prepared = pairs.prepare(str(Path(folder) / "temporary"))
        rows = [row for made in prepared.read() for row in made.to_pylist()]
        return rows, prepared.counts
