"""The samples of a run, prepared once before training: with images that decode, and fit to ask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tokenfocus_ray.backbones.base import Source
from tokenfocus_ray.backbones.images import ImageSpec
from tokenfocus_ray.config import TrainConfig
from tokenfocus_ray.distributed.train.images import image_inspector, inspect_images
from tokenfocus_ray.distributed.train.manifest import Manifest, read_manifest
from tokenfocus_ray.distributed.train.stream import SAMPLES_FILE, SKIPPED_FILE
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.progress import Watch, unwatched
from tokenfocus_ray.storage import Store
from tokenfocus_ray.tables.parquet import to_parquet
from tokenfocus_ray.training.bags import make_bags
from tokenfocus_ray.training.samples import (
    SAMPLES,
    SKIPPED,
    check_disjoint,
    check_weights,
    index_samples,
)

#: More bad rows than this share of a manifest is no accident.
MOST_SKIPPED = 0.5


def prepare_samples(
    manifest: Manifest,
    config: TrainConfig,
    sources: Mapping[str, Source],
    specs: Mapping[str, ImageSpec],
    store: Store,
    watch: Watch = unwatched,
) -> tuple[pa.Table, pa.Table]:
    """The samples, every image decoded once and every prompt fit to ask; written to the run.

    Args:
        manifest: What to train on.
        config: Levels, and the test manifest that must be disjoint.
        sources: What each backbone was resolved to.
        specs: How each wants its images.
        store: The run's folder.
        watch: Is told how many images have been looked at.

    Returns:
        Samples and rows left out, see :mod:`~tokenfocus_ray.training.samples`.

    Raises:
        ManifestError: nothing is left, more than half is left out, or a test prompt is among them.
    """
    from tokenfocus_ray.training.context_length import beyond_context

    samples, skipped = _before_images(manifest, config)
    inspect = image_inspector(manifest, list(specs.values()), config.images_only, store)
    seen = inspect_images(manifest, samples, inspect, store, watch)
    decoded = [row for row in samples.to_pylist() if seen[row["row"]]["code"] is None]
    sizes = {r["row"]: (seen[r["row"]]["width"], seen[r["row"]]["height"]) for r in decoded}
    for number, error in beyond_context(config, sources, decoded, sizes).items():
        seen[number] |= {"code": error.code, "message": error.message}
    samples, lost = _split(samples, seen)
    skipped = pa.concat_tables([skipped, lost])
    total = samples.num_rows + skipped.num_rows
    if skipped.num_rows > MOST_SKIPPED * total:
        first = skipped.slice(0, 1).to_pylist()[0]
        raise ManifestError(
            f"{manifest.where}: {skipped.num_rows} of {total} rows cannot be trained on; the "
            f"first, row {first['row']}: {first['code']}: {first['message']}"
        )
    store.write_bytes(SKIPPED_FILE, to_parquet(skipped))
    store.write_bytes(SAMPLES_FILE, to_parquet(samples))
    return samples, skipped


def _before_images(manifest: Manifest, config: TrainConfig) -> tuple[pa.Table, pa.Table]:
    """Samples and rows left out, as far as the manifest tells; refuses what it tells already."""
    samples, skipped = index_samples(manifest.table, manifest.columns, config, manifest.where)
    if config.test:
        test = read_manifest(config.test, config)
        prompts = test.table[test.columns.prompt].to_pylist()
        check_disjoint(samples, prompts, manifest.where, config.test)
    check_weights(samples, config)
    groups: list[Any] = samples["group"].to_pylist()
    make_bags(groups, config.bags)
    return samples, skipped


def _split(samples: pa.Table, seen: Mapping[int, Mapping[str, Any]]) -> tuple[pa.Table, pa.Table]:
    """Samples with where their images lie, and those whose images cannot be trained on."""
    found = [seen[row["row"]] for row in samples.select(["row"]).to_pylist()]
    column = samples.schema.get_field_index("image_uri")
    uris = pa.array([image["uri"] for image in found], pa.string())
    samples = samples.set_column(column, SAMPLES.field("image_uri"), uris)
    is_good = pa.array([image["code"] is None for image in found])
    bad = samples.filter(pc.invert(is_good)).to_pylist()
    lost = [{"sample_id": row["sample_id"], **seen[row["row"]]} for row in bad]
    return samples.filter(is_good), pa.Table.from_pylist(lost, schema=SKIPPED)
