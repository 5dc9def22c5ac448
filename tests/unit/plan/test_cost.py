from __future__ import annotations

import pytest

from tokenfocus_ray.plan.cost import (
    Memory,
    Widths,
    Work,
    activation_bytes,
    busy_share,
    cores_to_feed,
    device_seconds,
    job_seconds,
    usable,
)

WIDTHS = Widths(
    hidden=100, keys=50, middle=300, vocabulary=1000, patch=12, vision_hidden=10, vision_middle=20,
    patches_per_token=4,
)  # fmt: skip


def test_operations_add_up() -> None:
    assert Work(10, 20, 3, vision_flops=1.0, language_flops=2.0, head_flops=4.0).flops == 7.0


def test_memory_of_a_micro_batch() -> None:
    """By hand: residual, layer, mask with its bias, features, logits."""
    layer = 2 * 100 + 3 * 300
    wanted = 50 * (100 + layer) * 2 + 50 * 25 * 3 + 50 * 0.5 * 100 * 2 + 4 * 1000 * 10
    assert activation_bytes(WIDTHS, "bfloat16", 50, 25, 0.5, 4) == wanted


def test_memory_of_a_large_vision_tower_counts() -> None:
    wide = Widths(
        hidden=1, keys=1, middle=1, vocabulary=1, patch=12, vision_hidden=1000, vision_middle=4000,
        patches_per_token=4,
    )  # fmt: skip
    patches = 50 * 0.5 * 4
    vision = patches * (12 * 8 + (1000 + 2000 + 12000) * 4)
    assert activation_bytes(wide, "float32", 50, 25, 0.5, 0) == vision + 50 * 0.5 * 4


def test_memory_of_a_card() -> None:
    memory = Memory(weights=15.0, adapters=1.0, batch=4.0, longest=2.0, batch_tokens=8192)
    assert (memory.needed, memory.usual) == (18.0, 20.0)
    assert usable(20.0) == 18.4
    assert memory.fits(20.0)
    assert not memory.fits(19.0)


def test_a_card_is_bound_by_arithmetic_or_by_moving_weights() -> None:
    assert device_seconds(3e12, 1e14, 0.3, 1e9, 1e12) == pytest.approx(0.1)
    assert device_seconds(3e12, 1e14, 0.3, 1e12, 1e12) == 1.0
    assert device_seconds(3e12, 1e14, 0.3, 1e12, None) == pytest.approx(0.1)


def test_cores_and_how_busy_a_card_is() -> None:
    assert cores_to_feed(50.0, 0.04) == 2.0
    assert busy_share(1, 4.0) == 0.25
    assert busy_share(8, 4.0) == busy_share(1, 0.0) == 1.0


@pytest.mark.parametrize(
    ("score", "prepare", "busy", "cores", "workers", "threads", "wanted"),
    [
        (0.01, 0.02, 1.0, 16, 1, 1, 0.01),  # the GPU decides
        (0.01, 0.02, 1.0, 16, 4, 1, 0.0025),  # four of them
        (0.01, 0.31, 1.0, 16, 1, 1, 0.32 / 15.87),  # the cores do
        (0.10, 0.02, 2.0, 2, 1, 2, 0.12 / 0.87),  # two threads that stand still together
        (0.20, 0.02, 1.0, 2, 2, 1, 0.22 / 1.87),  # two scorers of a thread each
        (0.10, 0.00, 8.0, 8, 1, 64, 0.8 / 0.8),  # never less than a tenth of the cores
    ],
)
def test_a_job_is_as_fast_as_what_it_waits_for(
    score: float, prepare: float, busy: float, cores: int, workers: int, threads: int, wanted: float
) -> None:
    found = job_seconds(score, prepare, busy, cores, workers, threads)
    assert found == pytest.approx(wanted)
