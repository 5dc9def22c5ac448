from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tokenfocus_ray.backbones import loading, registry
from tokenfocus_ray.config import PoolConfig, ScoringConfig
from tokenfocus_ray.datasets.manifest import Columns
from tokenfocus_ray.errors import ImageDecodeError
from tokenfocus_ray.plan import measure
from tokenfocus_ray.plan.measure import Measured, measure_feeding, measure_scoring, this_machine
from tokenfocus_ray.plan.sample import SampledRow

COLUMNS = Columns("prompt", None, "uri", None, "elements", None)
NAME = "tiny-internvl"
SPEC = loading.image_spec(registry.resolve(NAME), None)


def encoded(side: int = 64) -> bytes:
    pixels = np.random.default_rng(side).integers(0, 256, (side, side, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def row(data: bytes | None, **values: object) -> SampledRow:
    own = {"prompt": "a cat", "elements": ["cat"], **values}
    return SampledRow(1.0, "", own, size=None if data is None else (64, 64), data=data)


def test_feeding() -> None:
    """Larger images take longer; a row that is damaged behind its header is marked."""
    small, large = (measure_feeding(SPEC, [row(encoded(side))] * 3) for side in (64, 512))
    assert small is not None
    assert large is not None
    assert (small.images, small.machine) == (3, this_machine())
    assert 0 < small.seconds < large.seconds
    rows = [row(encoded()[:-200]), row(encoded()), row(None)]
    found = measure_feeding(SPEC, rows)
    assert found is not None
    assert found.images == 1
    assert isinstance(rows[0].error, ImageDecodeError)
    assert rows[0].error.code == "image_corrupt"
    assert measure_feeding(SPEC, rows[:1]) is None


def test_stages_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "ROUNDS", 2)
    monkeypatch.setattr(measure, "ROUND_SECONDS", 0.05)
    rows = [row(encoded()), row(None), row(encoded(32), elements="["), row(encoded(48))]
    threads, said = torch.get_num_threads(), list[str]()
    found = measure_scoring(
        ScoringConfig(backbone=NAME), registry.resolve(NAME), SPEC, rows, COLUMNS,
        PoolConfig(), 2, said.append,
    )  # fmt: skip
    assert found is not None
    assert torch.get_num_threads() == threads
    assert (found.device, found.workers, len(found.score_seconds)) == ("cpu", 1, 2)
    assert said == [f"measuring {NAME} on {found.cores} CPU cores"]
    assert 1 <= found.rows <= 2
    assert found.prepare_seconds > 0
    assert all(seconds > 0 for seconds in found.score_seconds)
    assert 0 <= found.busy_cores <= found.cores
    low, likely, high = found.rates()
    assert 0 < low <= likely <= high


def test_nothing_to_measure_with() -> None:
    config, source = ScoringConfig(backbone=NAME), registry.resolve(NAME)
    assert (
        measure_scoring(config, source, SPEC, [row(None)], COLUMNS, PoolConfig(), 2, print) is None
    )


def test_scorers_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "ROUNDS", 1)
    monkeypatch.setattr(measure, "ROUND_SECONDS", 0.01)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    config, source, pool = (
        ScoringConfig(backbone=NAME),
        registry.resolve(NAME),
        PoolConfig(workers=2),
    )
    found = measure_scoring(config, source, SPEC, [row(encoded())], COLUMNS, pool, 2, str)
    assert found is not None
    assert (found.workers, found.threads, found.cores) == (2, 2, 4)


def test_rates_by_round() -> None:
    found = Measured("here", "cpu", 0, 1, 2, 2, 64, 0.02, (0.1, 0.2, 0.4), 2.0, 1.0)
    assert found.rates() == pytest.approx((0.87 / 0.42, 0.87 / 0.22, 0.87 / 0.12))


def test_machine_in_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor : 0\nmodel name\t: A fast one\n")
    monkeypatch.setattr(measure, "CPU_INFO", cpuinfo)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    assert this_machine() == "A fast one, 1 core"
    monkeypatch.setattr(measure, "CPU_INFO", tmp_path / "none")
    monkeypatch.setattr("platform.processor", lambda: "")
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert this_machine() == "arm64, 1 core"
