from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tokenfocus_ray.config import ScoringConfig
from tokenfocus_ray.errors import ConfigError
from tokenfocus_ray.plan import measure
from tokenfocus_ray.plan.measure import Feeding, Measured
from tokenfocus_ray.plan.outcome import ScoringPlan
from tokenfocus_ray.plan.scoring import plan_scoring

NAMES = ("tiny-qwen2_5_vl", "tiny-internvl")
CONFIG = ScoringConfig(backbone=NAMES[0])


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Six rows of one image, of which one cannot be scored; one core prepares 100 images/s."""
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    rows = [{"image_uri": "a.png", "prompt": f"{i} cats", "elements": ["cat"]} for i in range(5)]
    rows.append({"image_uri": "none.png", "prompt": "x"})
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    feeding = Feeding(0.01, 5, "a machine")
    monkeypatch.setattr("tokenfocus_ray.plan.scoring.measure_feeding", lambda *_: feeding)
    return str(tmp_path / "m.jsonl")


def planned(manifest: str, config: Any = CONFIG, **options: Any) -> ScoringPlan:
    return plan_scoring(manifest, config, say=lambda _: None, **options)


def test_hours_follow_from_operations_and_efficiency(manifest: str) -> None:
    plan = planned(manifest, gpu="own=2:24", efficiency=0.25, price=3.0, gpus=2)
    (one,) = plan.backbones
    assert (plan.rows, plan.sampled, plan.opened, one.load.unscored) == (
        6,
        6,
        6,
        {"image_missing": 1},
    )
    assert one.load.work is not None
    assert one.on_gpu is not None
    rate = 2e12 * 0.25 / one.load.work.flops
    assert one.on_gpu.images_per_s == pytest.approx((rate, rate))
    assert one.on_gpu.gpu_hours == pytest.approx((5 / rate / 3600,) * 2)
    assert one.on_gpu.cpu_cores == pytest.approx((rate * 0.01,) * 2)
    assert (one.on_gpu.source, one.on_gpu.busy, one.on_gpu.fits) == ("given", None, True)
    assert plan.flops == pytest.approx(5 * one.load.work.flops)
    assert plan.tokens == pytest.approx(5 * one.load.work.tokens)


def test_too_few_cores_make_a_card_wait(manifest: str) -> None:
    """A core prepares 100 images/s, whatever the card could do."""
    fed = planned(manifest, gpu="own=2:24", efficiency=0.5).backbones[0].on_gpu
    found = planned(manifest, gpu="own=2:24", efficiency=0.5, cpus=1).backbones[0].on_gpu
    assert fed is not None
    assert found is not None
    assert found.busy == pytest.approx((100 / fed.images_per_s[0],) * 2)
    assert found.images_per_s == fed.images_per_s
    assert found.gpu_hours == pytest.approx((5 / 100 / 3600,) * 2)


def test_efficiency_is_a_range_unless_it_is_given(manifest: str) -> None:
    plan = planned(manifest, gpu="L4")
    on_gpu = plan.backbones[0].on_gpu
    assert on_gpu is not None
    assert (on_gpu.efficiency, on_gpu.source) == ((0.2, 0.5), "assumed")
    assert on_gpu.gpu_hours[1] == pytest.approx(2.5 * on_gpu.gpu_hours[0])
    assert plan.notes == (
        "tiny-qwen2_5_vl: so small a backbone (1,927,680 values) makes a L4 wait for Python, far "
        "below the efficiency that is assumed; use --measure there",
    )


def test_a_card_without_bfloat16(manifest: str) -> None:
    assert planned(manifest, gpu="T4", efficiency=0.3).notes == (
        "tiny-qwen2_5_vl: T4 has no bfloat16, in which a GPU scores by default; this plan holds "
        "with dtype: float16 in --config",
    )
    own = CONFIG.model_copy(update={"dtype": "float16"})
    assert planned(manifest, own, gpu="T4", efficiency=0.3).notes == ()


def test_a_card_that_is_too_small(manifest: str) -> None:
    plan = planned(manifest, gpu="own=2:0.001", efficiency=0.3)
    assert not plan.fits
    assert plan.gpu_hours is None
    assert " fits=no " in plan.line()
    assert "gpu_hours" not in plan.line()


def test_several_backbones_follow_one_another(manifest: str) -> None:
    configs = {name: ScoringConfig(backbone=name) for name in NAMES}
    plan = planned(manifest, configs, gpu="L4", efficiency=0.5)
    assert [one.name for one in plan.backbones] == list(NAMES)
    hours = [one.on_gpu.gpu_hours[0] for one in plan.backbones if one.on_gpu]
    assert plan.gpu_hours == pytest.approx((sum(hours),) * 2)


def test_fewer_image_tokens_cost_less(manifest: str) -> None:
    few = CONFIG.model_copy(update={"max_visual_tokens": 4})
    plans = [planned(manifest, c, gpu="L4").backbones[0].load.work for c in (CONFIG, few)]
    assert [work and work.visual_tokens for work in plans] == [16.0, 4.0]


def test_nothing_can_be_scored(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"image_uri": "none.png", "prompt": "x"}\n')
    plan = planned(str(path), gpu="L4", cpus=1, price=1.0)
    assert plan.notes == (
        "tiny-qwen2_5_vl: no row of the sample can be scored, so nothing is planned",
    )
    assert plan.line() == "rows=1 tokens=0 flops=0 gpu=L4 fits=yes memory_gib=0"


def measured(seconds: float, device: str = "cpu", memory: int = 0) -> Measured:
    return Measured("a machine", device, memory, 1, 2, 2, 64, 0.01, (seconds,) * 3, 2.0, 1.0)


def test_the_machine_at_hand(manifest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenfocus_ray.plan.scoring.measure_scoring", lambda *_: measured(0.1))
    plan = planned(manifest, measure=True)
    assert plan.gpu is None
    assert plan.rates_here == pytest.approx((0.87 / 0.11,) * 3)
    assert plan.line().endswith(" images_per_s=7.91 images_per_s_range=7.91")
    # a CPU's figures say nothing of a card
    on_gpu = planned(manifest, measure=True, gpu="L4").backbones[0].on_gpu
    assert on_gpu is not None
    assert on_gpu.source == "assumed"


def test_a_card_at_hand_is_calibrated(manifest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    here = measured(0.001, "NVIDIA L4", 24 * 10**9)
    monkeypatch.setattr("tokenfocus_ray.plan.scoring.measure_scoring", lambda *_: here)
    plan = planned(manifest, measure=True)
    (one,) = plan.backbones
    assert one.on_gpu is not None
    assert one.load.work is not None
    assert (plan.gpu and plan.gpu.name, one.on_gpu.source) == ("L4", "measured")
    assert one.on_gpu.efficiency == pytest.approx((one.load.work.flops / 0.001 / 121e12,) * 2)
    assert one.on_gpu.images_per_s == pytest.approx((1000.0,) * 2)
    other = planned(manifest, measure=True, gpu="H100").backbones[0].on_gpu
    assert other is not None
    assert other.source == "assumed"


def test_json(manifest: str, tmp_path: Path) -> None:
    plan = planned(manifest, gpu="L4", efficiency=0.5)
    plan.write_json(str(tmp_path / "plan.json"))
    found = json.loads((tmp_path / "plan.json").read_text())
    assert found["gpu"]["name"] == "L4"
    assert found["backbones"][0]["load"]["unscored"] == {"image_missing": 1}
    assert found["totals"]["gpu_hours"] == list(plan.gpu_hours or ())
    assert found["totals"]["flops"] == plan.flops


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {},
            "nothing to plan for: give --gpu with the name of a card, or --measure for the machine "
            "at hand",
        ),
        ({"gpu": "L4", "price": -1}, "--price -1: wanted a number above 0"),
        ({"gpu": "L4", "cpus": float("nan")}, "--cpus nan: wanted a number above 0"),
        ({"gpu": "L4", "samples": 0}, "--samples 0: wanted a number above 0"),
        (
            {"gpu": "L4", "efficiency": 35},
            "--efficiency 35: wanted a share of the peak, above 0, to 1",
        ),
    ],
)
def test_what_cannot_be_planned(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        planned("nowhere.csv", **options)
    assert str(caught.value) == message


def test_real_measurement_without_a_card(manifest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "ROUNDS", 1)
    monkeypatch.setattr(measure, "ROUND_SECONDS", 0.01)
    said: list[str] = []
    plan = plan_scoring(manifest, CONFIG, measure=True, say=said.append)
    assert plan.rates_here is not None
    assert said[0] == "looking at 6 rows"
