"""What a job refuses before it starts: backbones and workers that cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from tokenfocus_ray.config import JobConfig, PoolConfig, ScoringConfig
from tokenfocus_ray.datasets.sources import plan_source
from tokenfocus_ray.distributed.preflight import check_scales
from tokenfocus_ray.distributed.score.job import elements_hint
from tokenfocus_ray.distributed.score.pools import check_budget, fewest_workers, passes
from tokenfocus_ray.errors import ConfigError
from tokenfocus_ray.storage import Store


@pytest.mark.parametrize(
    ("job", "gpus", "cpus", "message"),
    [
        ({"workers": 100}, 0, 4, "workers: 100 need 51.75 logical CPUs (50, and 1.75 to feed "
         "them), but the session has 4; use fewer, give each less under 'cpus', or a larger "
         "session"),
        ({}, 0, 2, "workers: 1 need 2.25 logical CPUs (0.5, and 1.75 to feed them), but the "
         "session has 2; use fewer, give each less under 'cpus', or a larger session"),
        ({"workers": 3}, 2, 16, "workers: 3 need 3 GPUs, but the session has 2; use fewer, or give "
         "each less under 'gpus'"),
        ({"workers": 5, "gpus": 0.5}, 2, 16, "workers: 5 need 2.5 GPUs, but the session has 2; use "
         "fewer, or give each less under 'gpus'"),
    ],
)  # fmt: skip
def test_workers_that_would_wait_for_ever(
    job: dict[str, float], gpus: int, cpus: float, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        check_budget(["a"], JobConfig.parse(job), gpus, cpus)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("job", "gpus"), [({}, 0), ({}, 2), ({"gpus": 0.5}, 2), ({"workers": 4}, 0)]
)
def test_workers_that_fit(job: dict[str, float], gpus: int) -> None:
    check_budget(["a"], JobConfig.parse(job), gpus, 4)


@pytest.mark.parametrize(
    ("job", "message"),
    [
        ({"order": "side_by_side", "workers": 1}, "workers: 1 of a and 1 of b need 2.75 logical "
         "CPUs (1, and 1.75 to feed them), but the session has 2.5; use fewer, give each less "
         "under 'cpus', or score one_after_another, or a larger session"),
        ({"pools": {"b": {"workers": 3}}}, "workers: 3 need 3.25 logical CPUs (1.5, and 1.75 to "
         "feed them), but the session has 2.5; use fewer, give each less under 'cpus', or a "
         "larger session"),
        ({"pools": {"c": {}}}, "job: pools: no backbone has the name 'c'. Known: a, b."),
    ],
)  # fmt: skip
def test_several_backbones_that_do_not_fit(job: dict[str, object], message: str) -> None:
    check_budget(["a", "b"], JobConfig(), 0, 2.5)
    with pytest.raises(ConfigError) as caught:
        check_budget(["a", "b"], JobConfig.parse(job), 0, 2.5)
    assert str(caught.value) == message


def test_passes_over_several_backbones() -> None:
    assert passes(3, JobConfig()) == [range(1), range(1, 2), range(2, 3)]
    assert passes(3, JobConfig(order="side_by_side")) == [range(3)]


@pytest.mark.parametrize(
    ("pools", "gpus", "expected"),
    [
        ({"a": {}}, 0, {"a": 1}),
        ({"a": {}}, 8, {"a": 8}),
        ({"a": {}, "b": {}}, 8, {"a": 4, "b": 4}),
        ({"a": {"gpus": 0.5}, "b": {}}, 6, {"a": 4, "b": 4}),
        ({"a": {"workers": 4, "gpus": 0.5}, "b": {}}, 8, {"a": 4, "b": 6}),
        ({"a": {"gpus": 0.5}, "b": {"gpus": 0.5}}, 1, {"a": 1, "b": 1}),
    ],
)
def test_gpus_are_shared(
    pools: dict[str, dict[str, float]], gpus: int, expected: dict[str, int]
) -> None:
    assert fewest_workers({n: PoolConfig.parse(p) for n, p in pools.items()}, gpus) == expected


def test_backbones_on_different_scales_are_not_averaged() -> None:
    one = ScoringConfig(backbone="a")
    words = ScoringConfig(backbone="b", total_levels={"bad": 1, "b": 2, "c": 3, "d": 4, "e": 5})
    check_scales({"one": one, "words": words})
    tens = ScoringConfig(backbone="b", element_levels={"No": 0, "Yes": 10})
    with pytest.raises(ConfigError) as caught:
        check_scales({"one": one, "tens": tens})
    assert str(caught.value) == (
        "backbones 'one' and 'tens' have element_levels of the values [0.0, 1.0] and [0.0, 10.0]; "
        "give both the same, since their scores are averaged"
    )


def test_without_elements_there_is_a_way_to_some(tmp_path: Path) -> None:
    path, keep = tmp_path / "m.csv", Store.of(tmp_path / "out")
    path.write_text("prompt,image_uri\na cat,a.png\n")
    assert elements_hint(plan_source([str(path)], None, {}, keep)) == (
        f"no elements: prompts get a total score only; `tokenfocus data elements {path} --out "
        f"FOLDER` makes a manifest with some"
    )
    path.write_text("prompt,image_uri,elements\na cat,a.png,\n")
    assert elements_hint(plan_source([str(path)], None, {}, keep)) is None
