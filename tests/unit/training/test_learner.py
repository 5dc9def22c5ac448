from __future__ import annotations

import io
import math
import re
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.support.folders import TINY
from tests.support.learners import (
    Labelled,
    examples,
    fill_adapter,
    labelled,
    make_learner,
    requests,
    train_config,
    trained_parameters,
)
from tests.support.measure import rows_gap
from tokenfocus_ray.errors import DivergedError, LevelError, TrainingError
from tokenfocus_ray.training.learner import Learner
from tokenfocus_ray.training.schedule import learning_rate

TINIEST = "tiny-internvl"
DROPOUT = {"dropout": 0.3}


def items() -> list[Labelled]:
    """Two samples, with and without a total."""
    return labelled()[:2]


def values(learner: Learner) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in trained_parameters(learner.wrapped).items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def through_a_file(state: dict[str, Any]) -> Any:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def steps(learner: Learner, first: int, count: int) -> list[dict[str, float]]:
    return [learner.step(i, examples(learner, items())) for i in range(first, first + count)]


@pytest.mark.parametrize("lora", [DROPOUT, None], ids=["adapter", "decoder"])
@pytest.mark.parametrize("name", TINY)
def test_a_restored_member_goes_on_bit_by_bit(name: str, lora: dict[str, Any] | None) -> None:
    """Values, moments and dropout: as if it had never been interrupted."""
    config = train_config(name, lora=lora, optimizer={"learning_rate": 1e-3, "weight_decay": 0.1})
    through = make_learner(config, seed=3)
    steps(through, 0, 2)
    state = through_a_file(through.state())
    later = steps(through, 2, 2)
    restored = make_learner(config, seed=3)
    restored.load_state(state)
    assert steps(restored, 2, 2) == later
    assert same(values(restored), values(through))


def test_state_holds_what_is_trained_only() -> None:
    learner = make_learner(train_config(TINIEST))
    steps(learner, 0, 1)
    state = learner.state()
    trained = trained_parameters(learner.wrapped)
    assert state.keys() == {"model", "optimizer"}
    assert state["model"].keys() == trained.keys()
    assert state["optimizer"]["state"].keys() == trained.keys()
    for name, moments in state["optimizer"]["state"].items():
        assert moments.keys() == {"step", "exp_avg", "exp_avg_sq"}
        assert moments["exp_avg"].shape == trained[name].shape


def test_trained_values_load_without_the_optimizer() -> None:
    """As at the end, when the best epoch predicts."""
    one, other = (make_learner(train_config(TINIEST), seed=seed) for seed in (0, 1))
    steps(one, 0, 1)
    other.load_trained(through_a_file({"model": one.trained()}))
    assert same(values(one), values(other))


def test_a_checkpoint_of_other_parameters_is_refused_by_name() -> None:
    """torch would load what fits and leave the rest as it started."""
    learner = make_learner(train_config(TINIEST))
    state = through_a_file({"model": learner.trained()})
    first, *_ = sorted(state["model"])
    state["model"] = {f"other.{k}" if k == first else k: v for k, v in state["model"].items()}
    with pytest.raises(TrainingError) as caught:
        learner.load_trained(state)
    assert str(caught.value) == (
        f"a checkpoint is of other parameters than are trained now: 2 differ, such as {first!r}; "
        f"go on with the versions that it was written with, or train anew into another folder"
    )


def test_dropout_depends_on_seed_and_step_only() -> None:
    """Not on what torch's generator did before, nor on the restart."""
    learner = make_learner(train_config(TINIEST, lora=DROPOUT))
    fill_adapter(learner.wrapped)
    state = through_a_file({"model": learner.trained()})

    def loss(seed: int, step: int) -> float:
        learner.load_trained(state)
        learner.seed = seed
        torch.rand(seed + 5)
        return learner.step(step, examples(learner, items()))["loss"]

    losses = [loss(0, 0), loss(0, 1), loss(1, 0)]
    assert len(set(losses)) == 3
    assert loss(0, 0) == losses[0]


def test_any_seed_of_the_user_s() -> None:
    """A date as a seed must not overflow torch's generator."""
    learner = make_learner(train_config(TINIEST), seed=20_991_231 * 1009 + 4)
    assert math.isfinite(learner.step(5, examples(learner, items()))["loss"])


def test_steps_learn() -> None:
    config = train_config(TINIEST, optimizer={"learning_rate": 3e-3, "warmup": 0})
    learner = make_learner(config, n_steps=30)
    before = values(learner)
    shown = steps(learner, 0, 6)
    assert shown[-1]["loss"] < 0.8 * shown[0]["loss"]
    assert not same(before, values(learner))


def test_what_a_step_shows() -> None:
    learner = make_learner(train_config(TINIEST), n_steps=10)
    shown = learner.step(1, examples(learner, items()))
    assert list(shown) == [
        "loss",
        "total_first_token",
        "total_regression",
        "elements_first_token",
        "elements_regression",
        "learning_rate",
        "grad_norm",
    ]
    terms = [v for n, v in shown.items() if n.startswith(("total_", "elements_"))]
    assert shown["loss"] == pytest.approx(sum(terms), rel=1e-12)
    assert shown["learning_rate"] == learning_rate(1, 10, 1e-4, 0.05)


def test_learning_rate_of_the_backbone_wins() -> None:
    config = train_config(
        TINIEST, run={"learning_rate": 0.004}, optimizer={"learning_rate": 1.0, "warmup": 0}
    )
    learner = make_learner(config)
    assert learner.step(0, examples(learner, items()))["learning_rate"] == 0.004
    assert learner.optimizer.param_groups[0]["lr"] == 0.004


def test_gradient_is_scaled_down_to_the_largest_norm() -> None:
    """AdamW hides the scale from the weights, but not from its first moment."""

    def first_moments(most: float) -> tuple[float, float]:
        learner = make_learner(train_config(TINIEST, optimizer={"max_grad_norm": most}))
        norm = learner.step(0, examples(learner, items()))["grad_norm"]
        moments = [s["exp_avg"].norm() for s in learner.optimizer.state.values()]
        return norm, 10 * float(torch.stack(moments).norm())

    norm, moment = first_moments(1e9)
    assert moment == pytest.approx(norm, rel=1e-4)
    clipped_norm, clipped = first_moments(norm / 4)
    assert clipped_norm == pytest.approx(norm, rel=1e-5)
    assert clipped == pytest.approx(norm / 4, rel=1e-4)


def test_gradients_accumulate_until_a_step() -> None:
    learner = make_learner(train_config(TINIEST))
    given = examples(learner, items())
    learner.gradients(given)
    once = {n: p.grad.clone() for n, p in trained_parameters(learner.wrapped).items()}  # type: ignore[union-attr]
    learner.gradients(given)
    for name, parameter in trained_parameters(learner.wrapped).items():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, 2 * once[name])
    learner.wrapped.zero_grad()
    learner.step(0, given)
    assert all(p.grad is None for p in learner.wrapped.parameters())


@pytest.mark.parametrize(("budget", "passes"), [(1, 4), (10_000, 1)])
def test_a_step_of_many_micro_batches(budget: int, passes: int) -> None:
    """The weights move alike, whatever fits into memory at once."""
    config = train_config(TINIEST, run={"token_budget": budget})
    learner, whole = make_learner(config), make_learner(train_config(TINIEST))
    calls: list[None] = []
    learner.backbone.language_model.register_forward_hook(lambda *_: calls.append(None))
    shown, wanted = (each.step(0, examples(each, labelled())) for each in (learner, whole))
    assert len(calls) == passes
    assert shown == pytest.approx(wanted, rel=1e-5)
    trained = trained_parameters(whole.wrapped)
    for name, parameter in trained_parameters(learner.wrapped).items():
        assert (parameter - trained[name]).abs().max() < 1e-5


def test_gradient_checkpointing_gives_the_same_gradient() -> None:
    """With dropout too, whose draws are repeated."""

    def gradients(checkpointing: bool) -> dict[str, torch.Tensor]:
        run = {"gradient_checkpointing": checkpointing}
        learner = make_learner(train_config(TINIEST, lora=DROPOUT, run=run))
        fill_adapter(learner.wrapped)
        calls: list[None] = []
        learner.backbone.language_model.layers[0].self_attn.register_forward_pre_hook(
            lambda *_: calls.append(None)
        )
        torch.manual_seed(0)
        learner.gradients(examples(learner, items()))
        assert len(calls) == 1 + checkpointing, "once more in the backward pass"
        return {
            n: p.grad for n, p in trained_parameters(learner.wrapped).items() if p.grad is not None
        }

    plain, checkpointed = gradients(False), gradients(True)
    assert plain.keys() == checkpointed.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient, atol=1e-6, rtol=1e-5)


def test_a_share_without_rows_adds_nothing() -> None:
    """The last step of an epoch may have fewer rows than workers."""
    learner = make_learner(train_config(TINIEST))
    before = values(learner)
    shown = learner.step(0, [])
    assert (shown["loss"], shown["grad_norm"]) == (0, 0)
    assert same(before, values(learner))


def test_rows_without_any_label_add_nothing() -> None:
    learner = make_learner(train_config(TINIEST))
    (none, *_) = labelled()
    shown = learner.step(0, examples(learner, [Labelled(none.sample, None, [])]))
    assert (shown["loss"], shown["grad_norm"]) == (0, 0)


def test_training_that_diverged() -> None:
    learner = make_learner(train_config(TINIEST, optimizer={"warmup": 0}))
    broken = next(iter(trained_parameters(learner.wrapped).values()))
    with torch.no_grad():
        broken.fill_(math.nan)
    before = values(learner)
    given = examples(learner, items())
    with pytest.raises(DivergedError) as caught:
        learner.step(0, given)
    assert isinstance(caught.value, FloatingPointError)
    first, second = (repr(each.request.sample_id) for each in given)
    # longest first
    assert str(caught.value) == (
        f"step 0: the loss is nan and its gradient's norm nan, with rows {second}, {first}; lower "
        f"optimizer.learning_rate (0.0001), and choose another --out, or look at the rows"
    )
    after = values(learner)
    assert all(torch.equal(before[n], after[n]) for n in before if not before[n].isnan().any())


def test_gradient_that_diverged() -> None:
    """The loss of this step is still finite, the weights after it would not be."""
    learner = make_learner(train_config(TINIEST, run={"learning_rate": 0.25}))
    broken = next(iter(trained_parameters(learner.wrapped).values()))
    broken.register_hook(lambda gradient: gradient * math.inf)
    learner._low = torch.bfloat16
    before = values(learner)
    given = [
        replace(e, request=replace(e.request, sample_id=f"s{i}"))
        for i, e in enumerate(examples(learner, items() * 4))
    ]
    with pytest.raises(DivergedError) as caught:
        learner.step(3, given)
    assert re.fullmatch(
        r"step 3: the loss is \d+\.\d+ and its gradient's norm (nan|inf), with rows 's0', 's1', "
        r"'s2', 's3', 's4' and 3 more; lower backbones\.tiny-internvl\.learning_rate \(0\.25\), or "
        r"set backbones\.tiny-internvl\.dtype to float32, and choose another --out, or look at the "
        r"rows",
        str(caught.value),
    )
    assert same(before, values(learner))


def test_rows_of_the_micro_batch_that_diverged_are_named() -> None:
    """Not all of the step."""
    learner = make_learner(train_config(TINIEST, run={"token_budget": 1}))
    given = examples(learner, labelled())
    spoilt = replace(given[2].labels.total, mean=math.inf)
    given[2] = replace(given[2], labels=replace(given[2].labels, total=spoilt))
    with pytest.raises(DivergedError, match=r"loss is inf .*, with rows '\w+'; lower") as caught:
        learner.step(0, given)
    assert f"with rows {given[2].request.sample_id!r}; " in str(caught.value)


def test_prediction_is_without_dropout_and_changes_nothing() -> None:
    learner = make_learner(train_config(TINIEST, lora={"dropout": 0.9}))
    fill_adapter(learner.wrapped)
    asked = requests(learner, [item.sample for item in items()])
    before = values(learner)
    first = learner.predict(asked)
    steps_taken = learner.gradients(examples(learner, items()))
    second = learner.predict(asked)
    assert math.isfinite(steps_taken["loss"])
    assert rows_gap(first, second) == 0
    assert same(before, values(learner))
    assert [row.status for row in first] == ["ok", "ok"]


def test_low_precision_computes_in_it_and_keeps_float32_weights() -> None:
    config = train_config(TINIEST)
    learner = make_learner(config)
    learner._low = torch.bfloat16
    shown = learner.step(0, examples(learner, items()))
    exact = make_learner(config)
    wanted = exact.step(0, examples(exact, items()))
    assert {p.dtype for p in learner.wrapped.parameters()} == {torch.float32}
    assert shown["loss"] != wanted["loss"]
    assert shown["loss"] == pytest.approx(wanted["loss"], rel=0.05)


def test_vision_pass_has_a_graph_where_it_is_trained() -> None:
    learner = make_learner(train_config(TINIEST, lora={"vision": True}))
    fill_adapter(learner.wrapped)
    learner.gradients(examples(learner, items()))
    seen = {n: p for n, p in trained_parameters(learner.wrapped).items() if "vision_tower" in n}
    assert seen
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in seen.values())


def test_levels_that_are_not_one_token() -> None:
    config = train_config(TINIEST, total_levels={"dreadful": 1, "splendid": 5})
    with pytest.raises(LevelError, match=r"^level word 'dreadful' is not one token of tiny-int"):
        make_learner(config)
