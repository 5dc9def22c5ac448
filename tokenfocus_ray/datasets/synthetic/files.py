"""Writes the built-in benchmark: images, EvalMuse JSON and Parquet manifests."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tokenfocus_ray.datasets.evalmuse import write_evalmuse
from tokenfocus_ray.datasets.synthetic.benchmark import LabelledSample, generate
from tokenfocus_ray.errors import ConfigError, OutputError
from tokenfocus_ray.schema import ELEMENT_TYPE, sample_id

IMAGE_FOLDER = "images"
SPLITS = ("train", "test")
_INTS = pa.list_(pa.int64())

MANIFEST_SCHEMA = pa.schema(
    [
        ("sample_id", pa.string()),
        ("prompt", pa.string()),
        ("image_uri", pa.string()),
        ("elements", pa.list_(ELEMENT_TYPE)),
        ("prompt_type", pa.string()),
        ("prompt_id", pa.string()),
        ("img_path", pa.string()),
        ("generator", pa.string()),
        ("total_scores", _INTS),
        ("element_labels", pa.list_(_INTS)),
        ("true_alignment", pa.float32()),
        ("element_truth", pa.list_(pa.bool_())),
    ]
)


def write_benchmark(out: str, n_samples: int, seed: int) -> dict[str, int]:
    """Generates the benchmark into a folder.

    Writes ``images/GENERATOR/PROMPT.png``, and for each split ``SPLIT.parquet`` (a manifest with
    labels and exact truth) and ``SPLIT_list.json`` (EvalMuse's form). No prompt is in both splits.

    Args:
        out: Folder; files of the same names are replaced.
        n_samples: Number of images, at least 24: then both splits have a prompt.
        seed: Equal seeds give equal bytes.

    Returns:
        Split -> number of samples.

    Raises:
        ConfigError: too few samples, or a negative seed.
        OutputError: the folder cannot be written.
    """
    if n_samples < 24:
        raise ConfigError(
            f"samples must be at least 24 (six generators, four prompts), got {n_samples}"
        )
    if seed < 0:
        raise ConfigError(f"seed must be 0 or more, got {seed}")
    folder = Path(out)
    samples: dict[str, list[LabelledSample]] = {split: [] for split in SPLITS}
    try:
        for sample in generate(n_samples, seed):
            path = folder / IMAGE_FOLDER / sample.img_path
            path.parent.mkdir(parents=True, exist_ok=True)
            sample.image().save(path)
            samples[sample.split].append(sample)
        for split, members in samples.items():
            table = to_table(members)
            pq.write_table(table, folder / f"{split}.parquet")
            write_evalmuse(table, str(folder / f"{split}_list.json"))
    except OSError as error:
        raise OutputError(f"benchmark folder {out!r} cannot be written: {error}") from error
    return {split: len(members) for split, members in samples.items()}


def to_table(samples: Iterable[LabelledSample]) -> pa.Table:
    """Samples as a manifest; ``image_uri`` is relative to the benchmark's folder."""
    rows = [
        {
            "sample_id": sample_id(s.img_path, s.prompt),
            "prompt": s.prompt,
            "image_uri": f"{IMAGE_FOLDER}/{s.img_path}",
            "elements": [{"text": e.text, "type": e.type} for e in s.elements],
            "prompt_type": s.prompt_type,
            "prompt_id": s.prompt_id,
            "img_path": s.img_path,
            "generator": s.generator,
            "total_scores": list(s.total_scores),
            "element_labels": [list(labels) for labels in s.element_labels],
            "true_alignment": s.quality,
            "element_truth": list(s.truth),
        }
        for s in samples
    ]
    return pa.Table.from_pylist(rows, schema=MANIFEST_SCHEMA)
