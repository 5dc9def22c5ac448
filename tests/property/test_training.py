"""Who trains on what, and in which order, over random prompts.

Legend: N samples.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tokenfocus_ray.config import BagsConfig
from tokenfocus_ray.errors import ConfigError
from tokenfocus_ray.training.bags import Bag, make_bags, prompt_groups
from tokenfocus_ray.training.schedule import Schedule, early_stop, learning_rate

quick = settings(max_examples=60, deadline=None)
Method = Literal["kfold", "bootstrap"]
METHODS: tuple[Method, ...] = ("kfold", "bootstrap")
#: Few texts in several spellings, so that ids and texts chain samples together.
texts = st.sampled_from(
    [
        "a cat",
        "A Cat",
        " a  cat ",
        "a\tcat\n",
        "two dogs",
        "TWO dogs",
        "straße",
        "STRASSE",
        "x",
        "y",
    ]
)
prompt_ids = st.sampled_from([None, None, "p0", "p1", "p2", "p3", "p4"])
Prompt = tuple[str | None, str]
prompts = st.lists(st.tuples(prompt_ids, texts), max_size=25)


#: More prompts than any number of bags asks for, a few of them chained.
many_prompts = st.lists(
    st.tuples(
        st.one_of(st.none(), st.integers(0, 60).map("p{}".format)),
        st.integers(0, 60)
        .map("cat {}".format)
        .flatmap(lambda text: st.sampled_from([text, text.upper(), f" {text.replace(' ', '  ')}"])),
    ),
    min_size=20,
    max_size=40,
)


def spelling(text: str) -> str:
    """A text without case and spacing; the reference's own."""
    return " ".join(text.split()).casefold()


def linked(one: Prompt, other: Prompt) -> bool:
    same_id = one[0] is not None and one[0] == other[0]
    return same_id or spelling(one[1]) == spelling(other[1])


def partition(samples: Sequence[Prompt]) -> set[frozenset[int]]:
    """Samples that chains of one id or one text hold together, by flooding."""
    left, found = set(range(len(samples))), set()
    while left:
        group, border = set(), {left.pop()}
        while border:
            at = border.pop()
            group.add(at)
            reached = {i for i in left if linked(samples[at], samples[i])}
            left -= reached
            border |= reached
        found.add(frozenset(group))
    return found


def grouped(samples: Sequence[Prompt]) -> list[int]:
    return prompt_groups([i for i, _ in samples], [text for _, text in samples])


@quick
@given(prompts)
def test_groups_are_chains_of_ids_and_texts(samples: list[Prompt]) -> None:
    groups = grouped(samples)
    members: dict[int, set[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, set()).add(index)
    assert {frozenset(m) for m in members.values()} == partition(samples)
    assert list(dict.fromkeys(groups)) == list(range(len(members))), "in order of appearance"


@quick
@given(prompts, st.randoms(use_true_random=False))
def test_order_of_samples_does_not_change_the_groups(samples: list[Prompt], random: Any) -> None:
    order = list(range(len(samples)))
    random.shuffle(order)
    groups, turned = grouped(samples), grouped([samples[i] for i in order])
    pairs = {(groups[i], turned[at]) for at, i in enumerate(order)}
    assert len(pairs) == len(set(groups)) == len(set(turned))


#: Prompts with one to five images each, as numbers of prompts.
images = st.lists(st.integers(1, 5), min_size=4, max_size=24).map(
    lambda counts: [group for group, count in enumerate(counts) for _ in range(count)]
)


@st.composite
def configs(draw: st.DrawFn) -> BagsConfig:
    return BagsConfig(
        method=draw(st.sampled_from(METHODS)),
        count=draw(st.integers(2, 7)),
        validation=draw(st.floats(0.01, 0.49)),
        seed=draw(st.integers(0, 2**40)),
    )


def bags_of(groups: list[int], config: BagsConfig) -> list[Bag]:
    assume(len(set(groups)) >= config.count)
    return make_bags(groups, config)


def prompts_of(groups: list[int], indices: Sequence[int]) -> set[int]:
    return {groups[i] for i in indices}


@quick
@given(images, configs())
def test_a_bag_never_parts_a_prompt(groups: list[int], config: BagsConfig) -> None:
    """Train, validation and held out share no prompt, and each has all images of its prompts."""
    for number, bag in enumerate(bags_of(groups, config)):
        assert bag.index == number
        used = [bag.train, bag.validation, bag.held_out]
        sets = [prompts_of(groups, indices) for indices in used]
        assert sum(map(len, sets)) == len(set().union(*sets)) == len(set(groups))
        for indices in used:
            assert indices, "none is empty"
            assert set(indices) == {
                i for i, group in enumerate(groups) if group in prompts_of(groups, indices)
            }


@quick
@given(many_prompts, configs())
def test_a_bag_shares_no_id_and_no_text(samples: list[Prompt], config: BagsConfig) -> None:
    """The same, told from ids and texts rather than from our numbers."""
    assume(len(partition(samples)) >= max(4, config.count))
    for bag in make_bags(grouped(samples), config):
        for one, other in (
            (bag.train, bag.validation),
            (bag.train, bag.held_out),
            (bag.validation, bag.held_out),
        ):
            assert not any(linked(samples[a], samples[b]) for a in set(one) for b in set(other))


@quick
@given(images, configs())
def test_every_sample_is_held_out(groups: list[int], config: BagsConfig) -> None:
    """By exactly one bag with kfold, by at least one with bootstrap."""
    bags = bags_of(groups, config)
    assert len(bags) == config.count
    times = Counter(i for bag in bags for i in bag.held_out)
    assert set(times) == set(range(len(groups)))
    if config.method == "kfold":
        assert set(times.values()) == {1}


@quick
@given(images, configs())
def test_kfold_trains_once_and_bootstrap_as_often_as_drawn(
    groups: list[int], config: BagsConfig
) -> None:
    for bag in bags_of(groups, config):
        times = Counter(bag.train)
        assert len(set(bag.validation)) == len(bag.validation)
        assert len(set(bag.held_out)) == len(bag.held_out)
        drawn: dict[int, set[int]] = {}
        for index, count in times.items():
            drawn.setdefault(groups[index], set()).add(count)
        assert all(len(counts) == 1 for counts in drawn.values()), "a prompt's images alike"
        draws = [next(iter(counts)) for counts in drawn.values()]
        if config.method == "kfold":
            assert set(draws) == {1}
        else:
            assert sum(draws) == len(set(groups))


@quick
@given(images, configs())
def test_validation_is_its_share_of_what_is_not_left_out(
    groups: list[int], config: BagsConfig
) -> None:
    n = len(set(groups))
    for i, bag in enumerate(bags_of(groups, config)):
        others = n - len(range(i, n, config.count))
        wanted = min(max(1, round(config.validation * others)), others - 1)
        assert len(prompts_of(groups, bag.validation)) == wanted


@quick
@given(images, configs())
def test_bags_depend_on_the_seed_only(groups: list[int], config: BagsConfig) -> None:
    assert bags_of(groups, config) == make_bags(groups, config)


@pytest.mark.parametrize("method", METHODS)
def test_seeds_give_different_bags(method: Method) -> None:
    groups = [i // 2 for i in range(60)]
    made = [make_bags(groups, BagsConfig(method=method, seed=seed)) for seed in range(6)]
    assert len({tuple(bag.held_out for bag in bags) for bags in made}) == 6
    assert len({tuple(bag.train for bag in bags) for bags in made}) == 6


def test_members_of_one_fan_out_differ() -> None:
    bags = make_bags(list(range(40)), BagsConfig(method="bootstrap", count=5))
    assert len({bag.train for bag in bags}) == len({bag.validation for bag in bags}) == 5


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("count", "least"), [(2, 4), (3, 3), (4, 4), (7, 7)])
def test_too_few_prompts(method: Method, count: int, least: int) -> None:
    """The least number works, one prompt less does not, however many images it has."""
    config = BagsConfig(method=method, count=count)
    assert len(make_bags(list(range(least)), config)) == count
    with pytest.raises(ConfigError) as caught:
        make_bags(list(range(least - 1)) * 9, config)
    assert str(caught.value) == (
        f"bags.count = {count} needs at least {least} different prompts, but the training data has "
        f"{least - 1}; lower bags.count or add data"
    )


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    n = draw(st.integers(1, 30))
    return Schedule(
        samples=tuple(draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=40))),
        groups=tuple(draw(st.lists(st.integers(0, 6), min_size=n, max_size=n))),
        epochs=draw(st.integers(1, 4)),
        batch_size=draw(st.integers(1, 12)),
        seed=draw(st.integers(0, 2**40)),
        by_prompt=draw(st.booleans()),
    )


@quick
@given(schedules())
def test_each_epoch_has_each_sample_as_often_as_the_bag(schedule: Schedule) -> None:
    steps = list(schedule.steps())
    assert [step.index for step in steps] == list(range(schedule.n_steps))
    for epoch in range(schedule.epochs):
        mine = [step for step in steps if step.epoch == epoch]
        assert len(mine) == schedule.steps_per_epoch
        assert [step.ends_epoch for step in mine] == [False] * (len(mine) - 1) + [True]
        assert all(len(step.samples) == schedule.batch_size for step in mine[:-1])
        seen = [i for step in mine for i in step.samples]
        assert Counter(seen) == Counter(schedule.samples)
        assert seen == schedule.order(epoch)


@quick
@given(schedules(), st.data())
def test_a_resumed_run_is_the_tail_of_the_whole(schedule: Schedule, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, schedule.n_steps))
    assert list(schedule.steps(start)) == list(schedule.steps())[start:]


@quick
@given(schedules(), st.integers(1, 9))
def test_shares_of_any_number_of_workers_make_the_step(schedule: Schedule, workers: int) -> None:
    for step in schedule.steps():
        shares = [step.share(rank, workers) for rank in range(workers)]
        sizes = [len(share) for share in shares]
        assert max(sizes) - min(sizes) <= 1
        dealt = [shares[p % workers][p // workers] for p in range(len(step.samples))]
        assert tuple(dealt) == step.samples
        assert sum(sizes) == len(step.samples)


@quick
@given(schedules())
def test_by_prompt_keeps_images_of_a_prompt_together(schedule: Schedule) -> None:
    """In runs of four; what is left over of a prompt is one shorter run."""
    schedule = replace(schedule, by_prompt=True)
    for epoch in range(schedule.epochs):
        order = [schedule.groups[i] for i in schedule.order(epoch)]
        counts = Counter(order)
        runs = 1 + sum(a != b for a, b in itertools.pairwise(order))
        assert runs <= sum(-(-count // 4) for count in counts.values())


def test_order_changes_with_epoch_and_seed() -> None:
    samples = tuple(range(30))
    for by_prompt in (False, True):
        one, other = (
            Schedule(samples, tuple(i // 3 for i in samples), 2, 4, seed, by_prompt)
            for seed in (0, 1)
        )
        orders = [s.order(epoch) for s in (one, other) for epoch in (0, 1)]
        assert len({tuple(order) for order in orders}) == 4


@quick
@given(st.integers(1, 300), st.floats(1e-7, 1.0), st.floats(0, 0.99))
def test_learning_rate_warms_up_and_falls(n_steps: int, peak: float, warmup: float) -> None:
    rates = [learning_rate(step, n_steps, peak, warmup) for step in range(n_steps)]
    n_warm = math.ceil(warmup * n_steps)
    rising = [peak * (step + 1) / n_warm for step in range(n_warm)]
    assert rates[:n_warm] == pytest.approx(rising, rel=1e-12)
    falling = rates[n_warm:]
    done = [i / len(falling) for i in range(len(falling))]
    cosine = [peak * (0.55 + 0.45 * math.cos(math.pi * d)) for d in done]
    assert falling == pytest.approx(cosine, rel=1e-12)
    assert all(0 < rate <= peak * (1 + 1e-12) for rate in rates)
    assert all(a > b for a, b in itertools.pairwise(falling))
    assert all(rate > peak / 10 for rate in falling)


scores = st.lists(st.sampled_from([-1.0, 0.1, 0.2, 0.3, 0.4]), max_size=8)


@quick
@given(scores, st.integers(1, 4))
def test_early_stop_after_epochs_without_a_better_one(found: list[float], patience: int) -> None:
    best, since = -math.inf, 0
    for score in found:
        best, since = (score, 0) if score > best else (best, since + 1)
    assert early_stop(found, patience) == (since >= patience)


def test_early_stop_by_hand() -> None:
    assert not early_stop([], 1)
    assert not early_stop([0.5], 1)
    assert early_stop([0.5, 0.5], 1)
    assert not early_stop([0.5, 0.4], 2)
    assert not early_stop([0.5, 0.4, 0.6], 2)
    assert early_stop([0.5, 0.4, 0.3], 2)
