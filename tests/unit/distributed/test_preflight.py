"""What a job scores with: found once by the driver, the same in every actor and at every launch."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from tests.support.hub import FIRST, SECOND, HubCache
from tokenfocus_ray.backbones import registry
from tokenfocus_ray.config import ScoringConfig, TrainConfig
from tokenfocus_ray.datasets.manifest import find_columns
from tokenfocus_ray.distributed.output import OutputFolder, OutputKind
from tokenfocus_ray.distributed.preflight import check_ensemble, resolve_config, scoring_identity
from tokenfocus_ray.distributed.train.checks import resolve_backbones
from tokenfocus_ray.ensemble.bundle import Ensemble
from tokenfocus_ray.errors import ConfigError
from tokenfocus_ray.scoring.stage import ScoreStage
from tokenfocus_ray.storage import Store

COLUMNS = find_columns(["prompt", "image_uri"], {}, "m")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HubCache:
    cache = HubCache(tmp_path / "hub", monkeypatch)
    cache.commit(FIRST, "tiny-qwen2_5_vl")
    weights = cache.commit(SECOND, "tiny-qwen2_5_vl") / "model.safetensors"
    tensors = {name: tensor * 1.5 for name, tensor in load_file(weights).items()}
    save_file(tensors, weights, {"format": "pt"})
    cache.point("main", FIRST)
    return cache


def test_actors_load_the_commit_that_the_driver_resolved(hub: HubCache) -> None:
    """Though the branch moves before they start; through pickle, as to another process."""
    config, source = resolve_config(ScoringConfig(backbone=hub.name))
    sent = pickle.dumps((config, source))
    hub.point("main", SECOND)
    config, source = pickle.loads(sent)
    built = ScoreStage(config, source, COLUMNS, "cpu", None).scorer
    assert built.metadata["tokenfocus.backbone_revision"] == FIRST
    assert json.loads(built.metadata["tokenfocus.config"])["revision"] == FIRST
    moved = ScoreStage(
        *resolve_config(ScoringConfig(backbone=hub.name)), COLUMNS, "cpu", None
    ).scorer
    assert moved.metadata["tokenfocus.backbone_revision"] == SECOND
    norms = [float(s.backbone.model.lm_head.weight.detach().norm()) for s in (built, moved)]
    assert norms[1] == pytest.approx(1.5 * norms[0])


def test_training_workers_load_the_commit_that_the_driver_resolved(hub: HubCache) -> None:
    config, sources = resolve_backbones(TrainConfig(data="m", backbones=[hub.name]))  # type: ignore[arg-type]
    assert config.backbones[hub.name].revision == sources[hub.name].revision == FIRST
    assert config.scoring(hub.name).revision == FIRST
    hub.point("main", SECOND)
    assert registry.on_this_node(sources[hub.name]).revision == FIRST


def identity(backbone: str, revision: str | None = None) -> dict[str, Any]:
    return scoring_identity(*resolve_config(ScoringConfig(backbone=backbone, revision=revision)))


def agree(store: Store, found: dict[str, Any]) -> bool:
    return OutputFolder(OutputKind("score", "no scoring job", "job.json"), store).is_begun(found)


def test_a_launch_on_another_commit_is_refused(hub: HubCache, tmp_path: Path) -> None:
    """And the message says how to go on."""
    store = Store.of(tmp_path)
    store.write_json("job.json", identity(hub.name))
    assert agree(store, identity(hub.name))
    hub.point("main", SECOND)
    with pytest.raises(ConfigError) as caught:
        agree(store, identity(hub.name))
    assert str(caught.value) == (
        f"{store.uri} was begun with another configuration (weights: {FIRST!r} there, {SECOND!r} "
        f"now: give revision {FIRST}); set it back to go on, or choose another --out"
    )
    assert agree(store, identity(hub.name, FIRST))


def test_an_output_of_an_unknown_commit_is_refused(hub: HubCache, tmp_path: Path) -> None:
    """As versions before this one recorded it."""
    store = Store.of(tmp_path)
    store.write_json("job.json", identity(hub.name) | {"weights": "main", "revision": None})
    with pytest.raises(ConfigError) as caught:
        agree(store, identity(hub.name))
    assert str(caught.value) == (
        f"{store.uri} was begun with another configuration (weights: 'main' there, {FIRST!r} now: "
        f"no commit is recorded, so they may differ); set it back to go on, or choose another --out"
    )


def test_an_output_of_a_folder_goes_on_without_its_revision(tmp_path: Path) -> None:
    """Versions before this one recorded what was asked for, too."""
    store = Store.of(tmp_path)
    store.write_json("job.json", identity("tiny-internvl") | {"revision": None})
    assert agree(store, identity("tiny-internvl"))


def test_another_scaling_of_an_adapter_is_another_configuration(tmp_path: Path) -> None:
    """Its weights are the same; records of before this was kept are gone on with."""
    adapter, store = tmp_path / "adapter", Store.of(tmp_path / "out")
    adapter.mkdir()
    (adapter / "adapter_model.safetensors").write_bytes(b"weights")

    def now(**values: Any) -> dict[str, Any]:
        (adapter / "adapter_config.json").write_text(json.dumps({"lora_alpha": 8} | values))
        config = ScoringConfig(backbone="tiny-internvl", adapters={"m": str(adapter)})
        return scoring_identity(*resolve_config(config))

    begun = now()
    store.write_json("job.json", begun)
    assert agree(store, now(peft_version="0.22", base_model_name_or_path="moved"))
    with pytest.raises(ConfigError, match=r"another configuration \(adapter_configs\.m: '"):
        agree(store, now(lora_alpha=16))
    total: Any = None
    with pytest.raises(ConfigError, match=r"other scores of 'b' \(adapter_configs\.m: '"):
        check_ensemble(Ensemble(total, backbones={"b": {"identity": begun}}), {"b": now(r=4)})
    del begun["adapter_configs.m"]
    store.write_json("job.json", begun)
    assert agree(store, now(lora_alpha=16))
    check_ensemble(Ensemble(total, backbones={"b": {"identity": begun}}), {"b": now(r=4)})


@pytest.mark.parametrize(
    ("recorded", "shown"),
    [
        (SECOND, f"{SECOND!r} then, {FIRST!r} now: give revision {SECOND}"),
        ("main", f"'main' then, {FIRST!r} now: no commit is recorded, so they may differ"),
    ],
)
def test_an_ensemble_of_another_commit_is_refused(recorded: str, shown: str, hub: HubCache) -> None:
    now = identity(hub.name)
    total: Any = None
    ensemble = Ensemble(total, backbones={"b": {"identity": now | {"weights": recorded}}})
    with pytest.raises(ConfigError) as caught:
        check_ensemble(ensemble, {"b": now})
    assert str(caught.value) == (
        f"the ensemble was fitted on other scores of 'b' (weights: {shown}); set it back, or stack "
        f"again"
    )
    check_ensemble(Ensemble(total, backbones={"b": {"identity": now}}), {"b": now})
