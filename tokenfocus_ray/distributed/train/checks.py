"""What can be told of a fan-out at once: its backbones, levels and the manifest's columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from tokenfocus_ray.backbones import registry
from tokenfocus_ray.backbones.base import Source
from tokenfocus_ray.backbones.images import ImageSpec
from tokenfocus_ray.config import TrainConfig
from tokenfocus_ray.distributed.preflight import check_scorer
from tokenfocus_ray.distributed.train.manifest import Manifest, read_manifest
from tokenfocus_ray.errors import ConfigError
from tokenfocus_ray.say import Say, silent
from tokenfocus_ray.schema import backbone_label
from tokenfocus_ray.storage import Store
from tokenfocus_ray.training.bags import member_name


def resolve_backbones(config: TrainConfig) -> tuple[TrainConfig, dict[str, Source]]:
    """The configuration at the commits that hub ids stand for now, and the backbones."""
    sources = {name: registry.resolve(name, run.revision) for name, run in config.backbones.items()}
    runs = {
        name: run.model_copy(update={"revision": sources[name].revision})
        if sources[name].on_hub
        else run
        for name, run in config.backbones.items()
    }
    return config.model_copy(update={"backbones": runs}), sources


def check_inputs(
    config: TrainConfig,
    sources: Mapping[str, Source],
    keep: Store | None = None,
    say: Say = silent,
) -> tuple[Manifest, dict[str, ImageSpec]]:
    """The manifest, and how each backbone wants its images.

    Args:
        config: The fan-out.
        sources: What each of its backbones was resolved to.
        keep: See :func:`~tokenfocus_ray.distributed.train.manifest.read_manifest`.
        say: Likewise.

    Raises:
        ConfigError: two backbones would name their members alike.
        ManifestError: the manifest cannot be read, or lacks columns.
        BackboneError, LevelError: a backbone cannot be trained.
    """
    labels = Counter(backbone_label(name) for name in config.backbones)
    label, n = labels.most_common(1)[0]
    if n > 1:
        raise ConfigError(
            f"backbones: {n} of {list(config.backbones)} would name their members "
            f"{member_name(label, 0)!r}; rename a folder"
        )
    manifest = read_manifest(config.data, config, keep, say)
    return manifest, {n: check_scorer(config.scoring(n), source) for n, source in sources.items()}
