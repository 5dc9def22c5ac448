"""What selecting, pairing and reporting cost, and whether their memory grows with the table.

    python benchmarks/outcomes.py                  # 1,000,000 rows, and a tenth of them
    python benchmarks/outcomes.py --rows 400000

A score table of four generators' images of each prompt, scored by two backbones of three members,
with three elements a row:

- select: a threshold, the best two images of a prompt, and the best 30 % of what is left, kept and
  dropped rows written;
- pairs: every pair of a prompt with a margin of .5, as HPDv3's JSON;
- report: the page, with its thumbnails.

Each runs in a process of its own, Ray's start included. The peers are plain pandas scripts of one
process that do the same to the whole table in memory, without the reasons, on a tenth of the rows,
in turns with ours. Prints tables and, as its last line, one flat JSON object; memory is that of all
processes, what is shared counted once, and ``peak_rss_*_mib`` the largest of the three.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from _memory import measured
from PIL import Image

from tokenfocus_ray.schema import ELEMENT_TYPE, SCORE_SCHEMA
from tokenfocus_ray.tables.members import BackboneInfo, ScoreTableInfo

GENERATORS = ("aurora", "basalt", "cinder", "dune")
TYPES = ("object", "color", "counting")
MEMBERS = 6
PART_ROWS = 50_000
IMAGES = 64
ROUNDS = 3
MIN_SCORE, BEST_OF, TOP, MARGIN = 2.0, 2, 0.3, 0.5


def part(rows: int, start: int) -> pa.Table:
    """Score rows of that many images, four of a prompt one after another."""
    generator = np.random.default_rng(start)
    number = np.arange(start, start + rows)
    prompt = number // len(GENERATORS)
    quality = np.array([0.0, 0.2, 0.4, 0.6])[number % len(GENERATORS)]
    truth = np.clip(generator.normal(3.0 + quality, 0.8), 1, 5)
    members = np.clip(truth[:, None] + generator.normal(scale=0.4, size=(rows, MEMBERS)), 1, 5)
    elements = np.clip(generator.normal(0.3 + truth[:, None] / 8, 0.2, size=(rows, 3)), 0, 1)
    each = np.clip(elements[:, None, :] + generator.normal(0, 0.1, (rows, MEMBERS, 3)), 0, 1)

    def lists(values: Any, *lengths: int) -> Any:
        array: Any = pa.array(values.ravel(), pa.float32())
        for length in reversed(lengths):
            offsets = pa.array(np.arange(0, len(array) + 1, length), pa.int32())
            array = pa.ListArray.from_arrays(offsets, array)
        return array

    claims = [{"text": f"thing {i}", "type": kind} for i, kind in enumerate(TYPES)]
    columns: dict[str, Any] = {
        "prompt": [f"three things of kind {p} beside a house in the evening" for p in prompt],
        "image_uri": [f"images/{n % IMAGES}.png" for n in number],
        "generator": [GENERATORS[n % len(GENERATORS)] for n in number],
        "seed": pa.array(number % 1000),
        "elements": pa.array([claims] * rows, pa.list_(ELEMENT_TYPE)),
        "sample_id": [f"{n:032x}" for n in number],
        "status": ["ok"] * rows,
        "score": pa.array(members.mean(axis=1), pa.float32()),
        "member_scores": lists(members, MEMBERS),
        "level_probs": lists(generator.dirichlet(np.ones(5), (rows, MEMBERS)), MEMBERS, 5),
        "level_mass": lists(np.ones((rows, MEMBERS)), MEMBERS),
        "entropy": lists(np.ones((rows, MEMBERS)), MEMBERS),
        "element_scores": lists(each.mean(axis=1), 3),
        "member_element_scores": lists(each, MEMBERS, 3),
        "width": pa.array([64] * rows, pa.int32()),
        "height": pa.array([64] * rows, pa.int32()),
        "n_visual_tokens": pa.array([4] * rows, pa.int32()),
    }
    for field in SCORE_SCHEMA:
        columns.setdefault(field.name, pa.nulls(rows, field.type))
    about = ScoreTableInfo(
        backbones=tuple(
            BackboneInfo(
                name=name, source=name, revision="", package="", template="",
                config={"total_levels": {str(i): i for i in range(1, 6)}},
                members=("m0", "m1", "m2"),
            )
            for name in ("one", "two")
        )
    )  # fmt: skip
    return pa.table(columns).replace_schema_metadata(dict(about.to_metadata()))


def write_scores(folder: Path, rows: int) -> str:
    """A table of so many rows, and the images that it names beside it."""
    (folder / "images").mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (IMAGES, 8, 8, 3), np.uint8)
    for i, pixels in enumerate(noise):
        Image.fromarray(pixels).resize((256, 256)).save(folder / "images" / f"{i}.png")
    (folder / "scores").mkdir()
    for start in range(0, rows, PART_ROWS):
        table = part(min(PART_ROWS, rows - start), start)
        name = f"part-{start // PART_ROWS:05d}.parquet"
        pq.write_table(table, folder / "scores" / name, compression="zstd", row_group_size=8192)
    return str(folder / "scores")


def ours(what: str, scores: str, out: str) -> None:
    """One of the three, in this process."""
    from tokenfocus_ray import Selection, export_pairs, select_scores, write_report

    images = str(Path(scores).parent)
    if what == "select":
        selection = Selection(min_score=MIN_SCORE, best_of=BEST_OF, top=TOP)
        print(select_scores(scores, out, selection, images=images).line())
    elif what == "pairs":
        print(export_pairs(scores, out, format="hpdv3", min_margin=MARGIN, images=images).line())
    else:
        print(write_report(scores, f"{out}.html", images=images).line())


def pandas_select(scores: str, out: Path) -> None:
    """The same selection, the whole table in memory."""
    table = pd.read_parquet(scores)
    kept = table[table["score"] >= MIN_SCORE]
    kept = kept.sort_values("score", ascending=False).groupby("prompt").head(BEST_OF)
    kept = kept.head(int(np.ceil(len(kept) * TOP))).sort_index()
    kept.to_parquet(f"{out}-kept.parquet", compression="zstd")
    table.drop(kept.index).to_parquet(f"{out}-dropped.parquet", compression="zstd")


def pandas_pairs(scores: str, out: Path) -> None:
    """The same pairs, the whole table in memory."""
    columns = ["sample_id", "prompt", "image_uri", "generator", "seed", "score"]
    table = pd.read_parquet(scores, columns=columns)
    both = table.merge(table, on="prompt", suffixes=("_1", "_2"))
    both = both[both["score_1"] - both["score_2"] >= MARGIN]
    with open(f"{out}.json", "w", encoding="utf-8") as file:
        json.dump(both.to_dict("records"), file)


PEERS: dict[str, Callable[[str, Path], None]] = {"select": pandas_select, "pairs": pandas_pairs}


def main() -> None:
    """Runs the parts and prints their figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--job", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job:
        who, what, scores, out = args.job
        ours(what, scores, out) if who == "ours" else PEERS[what](scores, Path(out))
        return
    print(f"{platform.machine()}, {os.cpu_count()} CPUs")
    folder = Path(tempfile.mkdtemp(prefix="outcomes-"))
    few, many = args.rows // 10, args.rows
    figures: dict[str, float] = {"rows": many}
    peaks: dict[int, list[float]] = {few: [], many: []}
    try:
        small, large = (write_scores(folder / str(rows), rows) for rows in (few, many))
        for what in ("select", "pairs", "report"):
            own: list[float] = []
            peer: list[float] = []
            memory: list[float] = []
            for r in range(ROUNDS):
                seconds, watch = measured(
                    __file__, "ours", what, small, str(folder / f"{what}-{r}"), seconds=0.2
                )
                own.append(seconds)
                memory.append(watch.total)
                line = f"{what}, {few:,} rows: {seconds:.1f} s, MiB at most: {watch.shown()}"
                if what in PEERS:
                    theirs, watch = measured(
                        __file__, "peer", what, small, str(folder / f"{what}-peer-{r}"), seconds=0.2
                    )
                    peer.append(theirs)
                    line += f"; pandas {theirs:.1f} s, {watch.total:,.0f} MiB"
                    figures[f"{what}_pandas_rss_tenth_mib"] = watch.total
                print(line, flush=True)
            if peer:
                ratios = [theirs / mine for mine, theirs in zip(own, peer, strict=True)]
                figures[f"{what}_times_as_fast_as_pandas_tenth"] = statistics.median(ratios)
                figures[f"{what}_times_as_fast_low"] = min(ratios)
                figures[f"{what}_times_as_fast_high"] = max(ratios)
            seconds, watch = measured(
                __file__, "ours", what, large, str(folder / f"{what}-large"), seconds=0.2
            )
            print(f"{what}, {many:,} rows: {seconds:.1f} s, MiB at most: {watch.shown()}")
            peaks[few].append(max(memory))
            peaks[many].append(watch.total)
            figures[f"{what}_rss_ratio"] = watch.total / max(memory)
            if what == "report":
                figures["report_seconds"] = seconds
            else:
                figures[f"{what}_rows_per_s"] = many / seconds
    finally:
        shutil.rmtree(folder)
    figures["peak_rss_100k_mib"], figures["peak_rss_1m_mib"] = (max(v) for v in peaks.values())
    print(json.dumps({name: float(f"{value:.4g}") for name, value in figures.items()}))


if __name__ == "__main__":
    main()
