"""What merging members' scores costs on Ray Data, and what it holds at ten million rows.

    python benchmarks/merge.py                  # 10 million rows
    python benchmarks/merge.py --rows 1000000

A score table of two backbones with three members each and three elements a row, and an ensemble of
the method that `auto` mostly picks (a blend with two times 150 trees):

- ratio: rows/s of the job, start of Ray included, over a bare loop of one process (pyarrow reads,
  the same ensemble, pyarrow writes), in turns on a tenth of the rows;
- scale: rows/s and peak memory at a tenth of the rows and at all.

Prints tables and, as its last line, one flat JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _memory import measured

from tokenfocus_ray.config import StackConfig
from tokenfocus_ray.distributed.merge import BATCH_ROWS, PART_ROWS, merge_scores
from tokenfocus_ray.ensemble.apply import merge
from tokenfocus_ray.ensemble.bundle import Ensemble
from tokenfocus_ray.ensemble.inputs import ScoreColumns
from tokenfocus_ray.ensemble.judge import fit_calibrated
from tokenfocus_ray.ensemble.stack_table import read_stack_table
from tokenfocus_ray.schema import SCORE_SCHEMA
from tokenfocus_ray.tables.members import BackboneInfo, ScoreTableInfo

BACKBONES = ("one", "two")
MEMBERS, ELEMENTS = 3 * len(BACKBONES), 3
ROUNDS = 3


def block(rows: int, seed: int) -> tuple[pa.Table, dict[str, np.ndarray[Any, Any]]]:
    """Score rows without ids, and their labels (total and elements)."""
    generator = np.random.default_rng(seed)
    truth = generator.random((rows, ELEMENTS)) < 0.6
    label = np.clip(1 + 4 * truth.mean(axis=1) + generator.normal(scale=0.4, size=rows), 1, 5)
    scores = label[:, None] + generator.normal(scale=0.8, size=(rows, MEMBERS))
    noise = generator.normal(scale=0.25, size=(rows, MEMBERS, ELEMENTS))
    elements = np.clip(0.2 + 0.6 * truth[:, None, :] + noise, 0, 1)

    def lists(values: Any, *lengths: int) -> Any:
        array: Any = pa.array(values.ravel(), pa.float32())
        for length in reversed(lengths):
            offsets = pa.array(np.arange(0, len(array) + 1, length), pa.int32())
            array = pa.ListArray.from_arrays(offsets, array)
        return array

    columns: dict[str, Any] = {
        "status": pa.array(["ok"] * rows),
        "score": pa.array(scores.mean(axis=1), pa.float32()),
        "member_scores": lists(scores, MEMBERS),
        "element_scores": lists(elements.mean(axis=1), ELEMENTS),
        "member_element_scores": lists(elements, MEMBERS, ELEMENTS),
    }
    for field in SCORE_SCHEMA:
        columns.setdefault(field.name, pa.nulls(rows, field.type))
    about = ScoreTableInfo(
        backbones=tuple(
            BackboneInfo(
                name=name, source=name, revision="", package="", template="", config={},
                members=("m0", "m1", "m2"),
            )
            for name in BACKBONES
        )
    )  # fmt: skip
    table = pa.table({name: columns[name] for name in SCORE_SCHEMA.names}, schema=SCORE_SCHEMA)
    return table.replace_schema_metadata(dict(about.to_metadata())), {
        "total": label,
        "elements": truth.ravel().astype(float),
    }


def fit(folder: Path) -> str:
    """A bundle, fitted on 600 rows of 150 prompts."""
    table, labels = block(600, seed=1)
    columns = ScoreColumns.of(table, "rows")
    config = StackConfig(method="blend", seeds=1, folds=2)
    total, elements = columns.stacked(BACKBONES)
    prompts = np.arange(600) // 4
    stacks = []
    for name, features, groups in (
        ("total", total, prompts),
        ("elements", elements, np.repeat(prompts, ELEMENTS)),
    ):
        given: dict[str, Any] = {**features, "label": labels[name], "prompt": groups}
        rows = pa.table(given)
        read = read_stack_table(
            rows, target="label", features=list(features), group="prompt", label_range=None,
            where=name,
        )  # fmt: skip
        stacks.append(fit_calibrated(read, config, elements=name == "elements")[0])
    Ensemble(stacks[0], stacks[1]).save(str(folder / "bundle"))
    return str(folder / "bundle")


def write_scores(folder: Path, rows: int) -> str:
    """A table of so many rows; numbers repeat, ids do not."""
    folder.mkdir()
    table, _ = block(PART_ROWS, seed=2)
    place = table.column_names.index("sample_id")
    with pq.ParquetWriter(folder / "scores.parquet", table.schema) as writer:
        for start in range(0, rows, PART_ROWS):
            ids = [f"{i:032x}" for i in range(start, min(start + PART_ROWS, rows))]
            some = table.slice(0, len(ids))
            field: Any = table.schema.field(place)
            writer.write_table(some.set_column(place, field, pa.array(ids)))
    return str(folder)


def bare_loop(scores: str, bundle: str, out: Path) -> float:
    """Seconds of one process without Ray."""
    started = time.perf_counter()
    ensemble = Ensemble.load(bundle)
    writer = None
    with pq.ParquetFile(f"{scores}/scores.parquet") as file:
        schema = file.schema_arrow
        for batch in file.iter_batches(BATCH_ROWS):
            table = pa.Table.from_batches([batch]).replace_schema_metadata(schema.metadata)
            merged = merge(ensemble, {"rows": table})
            writer = writer or pq.ParquetWriter(out, merged.schema, compression="zstd")
            writer.write_table(merged)
    assert writer is not None
    writer.close()
    return time.perf_counter() - started


def main() -> None:
    """Runs the parts and prints their figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--job", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job:
        scores, bundle, out = args.job
        print(merge_scores([scores], out, bundle).line(), flush=True)
        return
    print(f"{platform.machine()}, {os.cpu_count()} CPUs")
    folder = Path(tempfile.mkdtemp(prefix="merge-"))
    few, many = args.rows // 10, args.rows
    figures: dict[str, float] = {"rows": many}
    try:
        bundle = fit(folder)
        small = write_scores(folder / "small", few)
        loops, jobs, memory = [], [], []
        for r in range(ROUNDS):
            loops.append(few / bare_loop(small, bundle, folder / f"loop-{r}.parquet"))
            seconds, watch = measured(__file__, small, bundle, str(folder / f"small-{r}"))
            jobs.append(few / seconds)
            memory.append(watch.total)
            print(
                f"{few:,} rows: bare loop {loops[-1]:,.0f} rows/s, job {jobs[-1]:,.0f} rows/s, "
                f"ratio {jobs[-1] / loops[-1]:.2f}; MiB at most: {watch.shown()}",
                flush=True,
            )
            shutil.rmtree(folder / f"small-{r}")
        ratios = [mine / theirs for mine, theirs in zip(jobs, loops, strict=True)]
        figures |= {
            "loop_rows_per_s": statistics.median(loops),
            "job_rows_per_s_tenth": statistics.median(jobs),
            "ratio": statistics.median(ratios),
            "ratio_low": min(ratios),
            "ratio_high": max(ratios),
            "peak_mib_tenth": max(memory),
        }
        large = write_scores(folder / "large", many)
        seconds, watch = measured(__file__, large, bundle, str(folder / "out"))
        size = sum(p.stat().st_size for p in (folder / "large").iterdir()) / 2**20
        print(
            f"{many:,} rows ({size:,.0f} MiB): {seconds:.0f} s, {many / seconds:,.0f} rows/s; MiB "
            f"at most: {watch.shown()}"
        )
        figures |= {"job_rows_per_s": many / seconds, "peak_mib": watch.total}
        figures["memory_ratio"] = watch.total / max(memory)
    finally:
        shutil.rmtree(folder)
    print(json.dumps({name: float(f"{value:.4g}") for name, value in figures.items()}))


if __name__ == "__main__":
    main()
