"""What a job scores with: found, checked and named before an actor is started."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from tokenfocus_ray.backbones import loading, registry
from tokenfocus_ray.backbones.base import Source
from tokenfocus_ray.backbones.images import ImageSpec
from tokenfocus_ray.backbones.lora import (
    adapter_config_hash,
    adapter_hash,
    check_adapters,
    check_training_records,
    local_adapters,
)
from tokenfocus_ray.config import ScoringConfig
from tokenfocus_ray.distributed.identity import ADAPTER_CONFIGS, difference, differing
from tokenfocus_ray.errors import ConfigError
from tokenfocus_ray.scoring.levels import LevelVocabulary
from tokenfocus_ray.scoring.prompt import question_settings
from tokenfocus_ray.storage import Store

if TYPE_CHECKING:
    from tokenfocus_ray.ensemble.bundle import Ensemble


def resolve_config(config: ScoringConfig) -> tuple[ScoringConfig, Source]:
    """The configuration for any process, and the backbone that it names.

    Processes of a cluster stand in other working folders, so paths become absolute; a hub id may
    stand for another commit a minute later, so its commit becomes the revision.

    Raises:
        BackboneError: the backbone is not there.
    """
    backbone = config.backbone
    if backbone not in registry.BUILT_IN and os.path.isdir(backbone):
        backbone = os.path.abspath(backbone)
    source = registry.resolve(backbone, config.revision)
    return for_any_process(config, source), source


def for_any_process(config: ScoringConfig, source: Source) -> ScoringConfig:
    """The configuration with absolute paths, and the commit for a revision.

    Args:
        config: What to score with.
        source: What its backbone was resolved to.
    """
    adapters = {
        name: folder if "://" in folder else os.path.abspath(folder)
        for name, folder in config.adapters.items()
    }
    changed: dict[str, Any] = {"adapters": adapters}
    if source.on_hub:
        changed["revision"] = source.revision
    elif config.backbone not in registry.BUILT_IN:
        changed["backbone"] = source.location
    return config.model_copy(update=changed)


def members_record(
    config: ScoringConfig, source: Source, adapters: Mapping[str, str], run: Store
) -> dict[str, Any]:
    """A backbone as an ensemble keeps it, with the members that a training run made.

    Args:
        config: How they score.
        source: What their backbone was resolved to.
        adapters: Member -> folder in the run's; recorded as paths below it, since runs may move.
        run: The run's folder.
    """
    whole = for_any_process(config.model_copy(update={"adapters": dict(adapters)}), source)
    below = {name: folder.removeprefix(f"{run.uri}/") for name, folder in adapters.items()}
    values = whole.model_dump(mode="json") | {"adapters": below}
    return {"config": values, "identity": scoring_identity(whole, source)}


def check_ensemble(ensemble: Ensemble, identities: Mapping[str, Mapping[str, Any]]) -> None:
    """An ensemble holds for the members that it was fitted on, and for no others.

    Args:
        ensemble: To be applied.
        identities: Name of a backbone that is to score -> :func:`scoring_identity`.

    Raises:
        ConfigError: what differs.
    """
    for name, one in ensemble.backbones.items():
        recorded, now = dict(one.get("identity") or {}), dict(identities.get(name, {}))
        now = json.loads(json.dumps(now))
        for key in ("backbone", "ensemble"):  # a folder may have moved
            recorded.pop(key, None)
            now.pop(key, None)
        if recorded and (keys := differing(recorded, now)):
            shown = "; ".join(difference(k, recorded.get(k), now.get(k), "then") for k in keys)
            raise ConfigError(
                f"the ensemble was fitted on other scores of {name!r} ({shown}); set it back, or "
                f"stack again"
            )


def check_features(ensemble: Ensemble, made: Collection[str], columns: Collection[str]) -> None:
    """Every column that an ensemble takes is there.

    Args:
        ensemble: To be applied.
        made: From :func:`~tokenfocus_ray.tables.features.feature_names`.
        columns: Of the manifest.

    Raises:
        ConfigError: with what is missing.
    """
    wanted = dict.fromkeys(ensemble.total.features)
    missing = [f for f in wanted if f not in made and f not in columns]
    if ensemble.elements is not None:
        missing += [f for f in ensemble.elements.features if f not in made]
    if missing:
        raise ConfigError(
            f"the ensemble takes {', '.join(map(repr, missing))}, which neither these backbones "
            f"({', '.join(sorted(made))}) nor the manifest ({', '.join(columns)}) give; score with "
            f"the members that it was fitted on, and give the columns that it was fitted with"
        )


def scoring_identity(config: ScoringConfig, source: Source) -> dict[str, Any]:
    """What scores depend on, flat: options, weights, adapters, wording.

    Args:
        config: What to score with.
        source: What its backbone was resolved to.

    Raises:
        AdapterError: an adapter is not there.
    """
    from tokenfocus_ray.scoring.prompt import PromptTemplate

    values: dict[str, Any] = config.model_dump(mode="json", exclude={"revision"})  # see "weights"
    for name in ("total_levels", "element_levels"):  # questions name them in their order
        values[name] = [list(pair) for pair in values[name].items()]
    adapters = values.pop("adapters")
    values |= {f"adapters.{name}": adapter_hash(folder) for name, folder in adapters.items()}
    values |= {f"{ADAPTER_CONFIGS}.{n}": adapter_config_hash(f) for n, f in adapters.items()}
    values["weights"] = source.revision
    values["template"] = PromptTemplate(structure=config.structure).fingerprint()
    return values


def check_scorer(config: ScoringConfig, source: Source) -> ImageSpec:
    """Finds what would make every actor fail, before one is started and without the weights.

    Args:
        config: What to score with.
        source: What its backbone was resolved to.

    Returns:
        How the backbone wants its images.

    Raises:
        BackboneError, AdapterError, LevelError: as the actors would.
    """
    spec = loading.image_spec(source, config.max_visual_tokens)
    with local_adapters(config.adapters) as folders:
        check_adapters(folders, source)
        check_training_records(folders, config.backbone, question_settings(config))
    _, tokenizer = loading.load_text(source)
    context = registry.family_class(source.family).markup.before_answer
    for levels in (config.total_levels, config.element_levels):
        LevelVocabulary.of(levels).token_ids(
            lambda text: list(tokenizer(text, add_special_tokens=False)["input_ids"]),
            context,
            source.name,
        )
    return spec


def check_scales(configs: Mapping[str, ScoringConfig]) -> None:
    """Scores of several backbones are averaged, so their levels must have the same values.

    Raises:
        ConfigError: with the values of two that differ.
    """
    for kind in ("total_levels", "element_levels"):
        values = {name: list(getattr(c, kind).values()) for name, c in configs.items()}
        (first, wanted), *rest = values.items()
        for name, found in rest:
            if found != wanted:
                raise ConfigError(
                    f"backbones {first!r} and {name!r} have {kind} of the values {wanted} and "
                    f"{found}; give both the same, since their scores are averaged"
                )
