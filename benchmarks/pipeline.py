"""What the batch job costs around the scorer, and what it holds at a million rows.

    python benchmarks/pipeline.py                      # everything
    python benchmarks/pipeline.py --only efficiency    # or cpu, members, scale
    python benchmarks/pipeline.py --only scale --rows 100000

- efficiency: rows/s of the job once its first piece is committed, over a bare in-process loop of
  the same scorer (72 million random weights, 336 px) on the same images, in turns;
- cpu: images/s that a core decodes and resizes, by size and format: what a GPU stage needs;
- members: five LoRA members of one backbone over one member, and over five separate runs;
- scale: rows of small images through a stand-in scorer of constant cost: rows/s, peak memory at a
  tenth of the rows and at all, and a relaunch after a kill at 90 %.

Prints tables and, as its last line, one flat JSON object.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from _memory import Watch
from PIL import Image

from tokenfocus_ray.config import JobConfig, ScoringConfig
from tokenfocus_ray.datasets.manifest import Columns
from tokenfocus_ray.schema import ScoreRow
from tokenfocus_ray.scoring.request import Request, unscored
from tokenfocus_ray.scoring.stage import ScoreStage

#: Times that a figure is taken.
ROUNDS = 3
EFFICIENCY_ROUNDS = 5
#: Seconds that the stand-in scorer spends on a row.
STAND_IN_COST = 50e-6


class StandIn:
    """Scores everything 3 at a constant cost."""

    metadata: dict[str, str] = {}  # noqa: RUF012

    def score_requests(self, requests: list[Request]) -> list[ScoreRow]:
        """One row a request, NaN where its image could not be read."""
        time.sleep(STAND_IN_COST * len(requests))
        return [
            unscored(r, r.image)
            if isinstance(r.image, Exception)
            else ScoreRow(r.sample_id, "ok", score=3.0, member_scores=[3.0], level_mass=[1.0])
            for r in requests
        ]


class StandInStage(ScoreStage):
    """The scoring stage around :class:`StandIn`."""

    def __init__(self, columns: Columns, device: str, threads: int | None) -> None:
        self.columns = columns
        self.scorer: Any = StandIn()


def timed(what: Callable[[], Any]) -> float:
    """Seconds that a call takes."""
    started = time.perf_counter()
    what()
    return time.perf_counter() - started


def save_mid_size(folder: Path) -> str:
    """The packing benchmark's backbone as a folder."""
    sys.path.insert(0, str(Path(__file__).parent))
    from packing import SIDE, mid_size_scorer

    backbone = mid_size_scorer().backbone
    backbone.model.save_pretrained(folder)
    backbone.tokenizer.save_pretrained(folder)
    pixels = {"shortest_edge": SIDE * SIDE, "longest_edge": SIDE * SIDE}
    preprocessor = {"size": pixels, "patch_size": 14, "temporal_patch_size": 2, "merge_size": 2}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return str(folder)


def efficiency(folder: Path, images: int) -> dict[str, float]:
    """The job's rate over that of a bare loop."""
    import torch

    from tokenfocus_ray import AlignmentScorer
    from tokenfocus_ray.datasets.synthetic.files import write_benchmark
    from tokenfocus_ray.distributed.score.job import score_manifest
    from tokenfocus_ray.distributed.session import ray_session
    from tokenfocus_ray.scoring.scorer import WINDOW

    write_benchmark(str(folder / "data"), images * 4 // 3 + 12, 0)
    manifest = folder / "data" / "train.parquet"
    table = pq.read_table(manifest).slice(0, images)
    pq.write_table(table, manifest)
    config = ScoringConfig(backbone=save_mid_size(folder / "backbone"))
    rows = table.to_pylist()
    torch.set_num_threads(os.cpu_count() or 1)
    scorer = AlignmentScorer.from_config(config, device="cpu")

    def bare() -> None:
        scorer.score(
            [str(folder / "data" / r["image_uri"]) for r in rows],
            [r["prompt"] for r in rows],
            [r["elements"] for r in rows],
            [r["prompt_type"] for r in rows],
        )

    job = JobConfig(commit_rows=WINDOW)  # what the bare loop decodes at a time
    # bare before and after each job: a machine that slows down on the way does so for both
    rates: dict[str, list[float]] = {"bare": [images / timed(bare)], "ray": []}
    for i in range(EFFICIENCY_ROUNDS):
        with ray_session():
            out = folder / f"out{i}"
            score_manifest(str(manifest), str(out), config, job=job, say=str)
        record = json.loads((out / "__job" / "run.json").read_text())
        rates["ray"].append(record["launch"]["rows_per_s"])
        rates["bare"].append(images / timed(bare))
        before, after = rates["bare"][-2:]
        shown = f"{before:.2f} before, {after:.2f} after"
        print(f"round {i + 1}: ray {rates['ray'][-1]:.2f}, bare {shown}", flush=True)
    around = [statistics.mean(pair) for pair in itertools.pairwise(rates["bare"])]
    ratios = [r / b for r, b in zip(rates["ray"], around, strict=True)]
    print(f"ratio by round: {', '.join(f'{r:.3f}' for r in ratios)}")
    return {
        "bare_rows_per_s": statistics.median(rates["bare"]),
        "ray_rows_per_s": statistics.median(rates["ray"]),
        "ray_efficiency": statistics.median(ratios),
    }


def cpu() -> dict[str, float]:
    """Decoding and resizing on one core."""
    from tokenfocus_ray.backbones import loading, registry
    from tokenfocus_ray.scoring.image import decode

    spec = loading.image_spec(registry.resolve("tiny-qwen2_5_vl"), None)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    found: dict[str, float] = {}
    print("| side | JPEG images/s | PNG images/s |\n| --- | --- | --- |")
    for side in (512, 1024, 2048):
        picture = Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC)
        for form in ("JPEG", "PNG"):
            buffer = io.BytesIO()
            picture.save(buffer, form)
            data = buffer.getvalue()
            count = max(4, 24 * 512 // side)

            def work(data: bytes = data, count: int = count) -> None:
                for _ in range(count):
                    spec.prepare(decode(data))

            rate = statistics.median(count / timed(work) for _ in range(ROUNDS))
            found[f"{form.lower()}_{side}_per_s"] = rate
        jpeg, png = (found[f"{form}_{side}_per_s"] for form in ("jpeg", "png"))
        print(f"| {side} | {jpeg:.1f} | {png:.1f} |")
    return found


def members(folder: Path, images: int) -> dict[str, float]:
    """Five members on one vision pass, against one, and against five runs of one."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForImageTextToText

    from tokenfocus_ray import AlignmentScorer

    backbone = save_mid_size(folder / "backbone")
    adapters = {}
    for i in range(5):
        torch.manual_seed(i)
        model: Any = AutoModelForImageTextToText.from_pretrained(backbone)
        targets = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"
        config = LoraConfig(r=16, target_modules=targets, init_lora_weights=False)
        get_peft_model(model, config).save_pretrained(str(folder / f"m{i}"))
        adapters[f"m{i}"] = str(folder / f"m{i}")
    pictures = [
        np.random.default_rng(i).integers(0, 256, (336, 336, 3), np.uint8) for i in range(images)
    ]
    elements = [["red circle (color)", "two circles (counting)", "circle (object)"]] * images

    def scorer(chosen: dict[str, str]) -> AlignmentScorer:
        return AlignmentScorer.from_pretrained(backbone, adapters=chosen, device="cpu")

    def score(one: AlignmentScorer) -> None:
        one.score(pictures, ["two red circles above a square"] * images, elements)

    torch.set_num_threads(os.cpu_count() or 1)
    single, five = scorer({"m0": adapters["m0"]}), scorer(adapters)
    for one in (single, five):
        score(one)
    times: dict[str, list[float]] = {"one": [], "five": [], "separate": []}
    for _ in range(ROUNDS):
        times["one"].append(timed(partial(score, single)))
        times["five"].append(timed(partial(score, five)))
        times["separate"].append(sum(timed(partial(score, single)) for _ in range(5)))
    for name, values in times.items():
        print(f"{name}: {statistics.median(values):.2f} s ({min(values):.2f} .. {max(values):.2f})")
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        "cost_5_members": medians["five"] / medians["one"],
        "cost_5_members_over_separate": medians["five"] / medians["separate"],
    }


def write_rows(folder: Path, rows: int) -> Path:
    """A manifest of many rows over a few small images."""
    folder.mkdir()
    for i in range(256):
        color = (i, 255 - i, (i * 7) % 256)
        Image.new("RGB", (32, 32), color).save(folder / f"{i}.png")
    path = folder / "manifest.parquet"
    schema = pa.schema([("sample_id", pa.string()), ("prompt", pa.string()), ("path", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, 100_000):
            numbers = range(start, min(rows, start + 100_000))
            columns: list[Any] = [
                [f"sample-{n}" for n in numbers],
                [f"a picture of colour {n % 256}, number {n}" for n in numbers],
                [f"{n % 256}.png" for n in numbers],
            ]
            writer.write_table(pa.table(columns, schema=schema))
    return path


def stand_in_job(manifest: str, out: str) -> None:
    """The job with the stand-in, in a process of its own."""
    from tokenfocus_ray.backbones import loading, registry
    from tokenfocus_ray.distributed.score.job import run_job
    from tokenfocus_ray.distributed.score.pools import Scorer

    spec = loading.image_spec(registry.resolve("tiny-qwen2_5_vl"), 4)
    summary = run_job(
        [manifest], out, [Scorer("stand-in", spec, StandInStage)], {"scorer": "stand-in"},
        images=None, mapping={}, job=JobConfig(commit_rows=1000), overwrite=False,
        retry_unscored=False, say=print,
    )  # fmt: skip
    print(summary.line(), flush=True)


def launch(manifest: Path, out: Path, stop_at: int | None = None) -> tuple[float, Watch, int]:
    """Runs the job in a process, and kills it once so many rows are committed."""
    command = [sys.executable, __file__, "--stand-in", str(manifest), str(out)]
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    watch = Watch(psutil.Process(process.pid))
    watch.start()
    done = 0
    while process.poll() is None:
        time.sleep(0.5)
        if stop_at is not None:
            done = committed(out)
            if done >= stop_at:
                family = psutil.Process(process.pid).children(recursive=True)
                process.kill()
                for one in family:
                    one.kill() if one.is_running() else None
    seconds = time.perf_counter() - started
    watch.ended.set()
    assert stop_at is not None or process.returncode == 0
    return seconds, watch, done


def committed(out: Path) -> int:
    """Rows in pieces and parts."""
    pieces = len(list((out / "__job" / "commits").glob("*.parquet")))
    parts = sum(pq.read_metadata(p).num_rows for p in out.glob("part-*.parquet"))
    return pieces * 1000 + parts


def scale(folder: Path, rows: int) -> dict[str, float]:
    """A tenth of the rows, all of them, and a relaunch after a kill at 90 %."""
    found: dict[str, float] = {}
    for name, count in (("100k", rows // 10), ("1m", rows)):
        manifest = write_rows(folder / name, count)
        seconds, watch, _ = launch(manifest, folder / f"out-{name}")
        run = json.loads((folder / f"out-{name}" / "__job" / "run.json").read_text())
        assert run["rows"] == count
        found[f"rows_per_s_{name}"] = count / seconds
        found[f"peak_rss_{name}_mib"] = watch.total
        print(
            f"{count:,} rows: {seconds:.0f} s, {count / seconds:.0f} rows/s; MiB at most: "
            f"{watch.shown()}"
        )
    full = rows / found["rows_per_s_1m"]
    manifest = folder / "1m" / "manifest.parquet"
    _, _, done = launch(manifest, folder / "again", stop_at=rows * 9 // 10)
    seconds, _, _ = launch(manifest, folder / "again")
    run = json.loads((folder / "again" / "__job" / "run.json").read_text())
    assert run["rows"] == rows
    left = run["launch"]["rows"]
    beyond = seconds / full - left / rows
    print(
        f"killed at {done:,} rows, relaunched: {seconds:.0f} s for {left:,} rows, "
        f"{seconds / full:.3f} of the full job: {left / rows:.3f} are the share of those rows, "
        f"{beyond:.3f} starting once more"
    )
    return found | {"resume_share": seconds / full, "resume_beyond_rows": beyond}


def main() -> None:
    """Runs the parts and prints their figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=["efficiency", "cpu", "members", "scale"])
    parser.add_argument("--images", type=int, default=256, help="of efficiency")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of scale")
    parser.add_argument("--stand-in", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.stand_in:
        stand_in_job(*args.stand_in)
        return
    print(f"{platform.machine()}, {os.cpu_count()} CPUs")
    figures: dict[str, float] = {}
    parts: dict[str, Callable[[Path], dict[str, float]]] = {
        "efficiency": partial(efficiency, images=args.images),
        "cpu": lambda _: cpu(),
        "members": partial(members, images=16),
        "scale": partial(scale, rows=args.rows),
    }
    for name, part in parts.items():
        if args.only in (None, name):
            print(f"== {name}", flush=True)
            folder = Path(tempfile.mkdtemp(prefix="pipeline-"))
            try:
                figures |= part(folder)
            finally:
                shutil.rmtree(folder)
    print(json.dumps({name: float(f"{value:.4g}") for name, value in figures.items()}))


if __name__ == "__main__":
    main()
