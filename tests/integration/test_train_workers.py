"""One member on two workers, without Ray: gradients, steps, scores and restarts as with one.

In float64: where weights are float32, what differs is rounding.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.support.train import (
    BACKBONE,
    backbone_run,
    practise,
    practise_on_two,
    small_config,
    small_learner,
)
from tests.support.train import examples as make_examples
from tokenfocus_ray.config import TrainConfig

# a budget so small that a batch is several micro-batches, not as many on each worker
PARALLEL = backbone_run(workers=2, token_budget=300, max_visual_tokens=4)
SHARDED = PARALLEL | {"strategy": "fsdp"}
CONFIGS: dict[str, TrainConfig] = {
    "ddp": small_config(backbones={BACKBONE: PARALLEL}, loss={"kl": 0.1, "rank": 0.5}),
    "fsdp": small_config(backbones={BACKBONE: SHARDED}, loss={"rank": 0.5}),
    "fsdp-decoder": small_config(
        backbones={BACKBONE: SHARDED}, lora=None, loss={"whole_answer": 0.3}
    ),
}
Results = tuple[dict[str, Any], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def practised(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Results]:
    """Configuration -> results of one worker, and of each of two."""
    folder = tmp_path_factory.mktemp("practise")
    practise_on_two(CONFIGS, folder)
    found = {}
    for name, config in CONFIGS.items():
        alone = folder / f"{name}-alone"
        alone.mkdir()
        pair = [torch.load(folder / f"{name}-{rank}.pt", weights_only=False) for rank in range(2)]
        found[name] = practise(config, 0, 1, alone), pair
    return found


def assert_close(mine: dict[str, Any], expected: dict[str, Any]) -> None:
    assert set(mine) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(mine[name], value, atol=1e-10, rtol=1e-10, msg=name)


@pytest.mark.parametrize("name", CONFIGS)
class TestTwoWorkers:
    def test_gradients_are_those_of_one_worker(
        self, practised: dict[str, Results], name: str
    ) -> None:
        alone, pair = practised[name]
        for each in pair:
            for batch in range(2):
                assert_close(each[f"gradients{batch}"], alone[f"gradients{batch}"])
                assert each[f"terms{batch}"] == pytest.approx(alone[f"terms{batch}"], rel=1e-10)

    def test_steps_are_those_of_one_worker(self, practised: dict[str, Results], name: str) -> None:
        alone, pair = practised[name]
        for each in pair:
            assert_close(each["stepped"], alone["stepped"])
            for i in (2, 3):
                assert each[f"terms{i}"] == pytest.approx(alone[f"terms{i}"], rel=1e-10)

    def test_each_row_is_scored_by_one_worker(
        self, practised: dict[str, Results], name: str
    ) -> None:
        alone, (first, second) = practised[name]
        for key in ("scores", "few"):
            assert not set(first[key]) & set(second[key])
            together = first[key] | second[key]
            assert together == pytest.approx(alone[key], abs=1e-10, nan_ok=True)

    @pytest.mark.parametrize("how", ["restarted", "predicted"])
    def test_restart_goes_on_from_the_checkpoint(
        self, practised: dict[str, Results], name: str, how: str
    ) -> None:
        """Also where the first step after it leaves a worker without rows."""
        alone, pair = practised[name]
        for each in pair:
            assert_close(each[how], alone[how])
            assert each[f"terms_{how}"] == pytest.approx(alone[f"terms_{how}"], rel=1e-10)


def test_restart_changes_nothing() -> None:
    """Dropout too goes on as it would have."""
    config = small_config(lora={"dropout": 0.3})
    learner = small_learner(config)
    batches = [make_examples(learner, 6)[i : i + 2] for i in (0, 2, 4)]
    learner.step(0, batches[0])
    state = {key: copied(value) for key, value in learner.state().items()}
    undisturbed = [learner.step(i, batches[i]) for i in (1, 2)]
    again = small_learner(config)
    torch.manual_seed(99)
    again.load_state(state)
    assert [again.step(i, batches[i]) for i in (1, 2)] == undisturbed
    assert_close(again.trained(), learner.trained())


def copied(value: Any) -> Any:
    """A deep copy of tensors in mappings and lists."""
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, list):
        return [copied(item) for item in value]
    return value.clone() if isinstance(value, torch.Tensor) else value
