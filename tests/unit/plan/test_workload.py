from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.support.folders import LANGUAGE, TINY, WITH_VISION, build, save_adapter
from tokenfocus_ray.backbones import loading, registry
from tokenfocus_ray.config import ScoringConfig
from tokenfocus_ray.datasets.manifest import Columns
from tokenfocus_ray.errors import ImageDecodeError
from tokenfocus_ray.plan.sample import SampledRow
from tokenfocus_ray.plan.workload import Members, memory_of, widths_of, workload
from tokenfocus_ray.scoring.scorer import AlignmentScorer

COLUMNS = Columns("prompt", None, "uri", None, "elements", "kind")


def row(prompt: object, elements: Any = None, weight: float = 1.0, **more: Any) -> SampledRow:
    values = {"prompt": prompt, "elements": elements, "kind": more.pop("kind", None)}
    return SampledRow(weight, "", values, **({"size": (112, 112)} | more))


ROWS = [row("a cat", ["cat (animal)", "red hat (color)"]), row("two dogs and a very long prompt")]


def of(name: str, rows: list[SampledRow], members: Members | None = None, **config: Any) -> Any:
    backbone = loading.skeleton(registry.resolve(name))
    options = ScoringConfig(backbone=name, **config)
    return workload(backbone, options, rows, COLUMNS, members or Members(), 256)


@pytest.mark.parametrize("name", TINY)
def test_operations_are_those_of_the_scorer(name: str) -> None:
    """Counted by torch while the rows are scored, padding and all."""
    scorer = AlignmentScorer.from_pretrained(name, device="cpu")
    picture = np.zeros((112, 112, 3), np.uint8)
    requests = [
        scorer.request(picture, r.values["prompt"], r.values["elements"], None) for r in ROWS
    ]
    with FlopCounterMode(display=False) as counted, sdpa_kernel(SDPBackend.MATH):
        scorer.score_requests(requests)
    found = of(name, ROWS)
    assert (found.scored, found.unscored, found.parts) == (1.0, {}, 1.0)
    assert found.work.flops * len(ROWS) == pytest.approx(counted.get_total_flops(), rel=1e-3)
    assert found.work.visual_tokens == 16
    assert found.work.answers == 2.0


def test_rows_that_cannot_be_scored_cost_nothing() -> None:
    bad = [
        row("a", size=None, error=ImageDecodeError("image_missing", "gone")),
        row(" "),
        row("a", elements="[", weight=2.0),
        row("a", kind="odd"),
    ]
    found = of("tiny-internvl", [*ROWS, *bad])
    assert found.unscored == {
        "image_missing": 1,
        "prompt_empty": 1,
        "elements_invalid": 1,
        "prompt_type_invalid": 1,
    }
    assert found.scored == pytest.approx(2 / 7)
    assert found.work == of("tiny-internvl", ROWS).work


def test_no_row_can_be_scored() -> None:
    found = of("tiny-internvl", [row("")])
    assert (found.scored, found.work, found.unscored) == (0.0, None, {"prompt_empty": 1})


def test_rows_count_by_what_they_stand_for() -> None:
    light, heavy = row("a", weight=3.0), row("a", ["b"] * 9)
    found = of("tiny-internvl", [light, heavy])
    assert found.work.answers == pytest.approx((3 * 1 + 10) / 4)
    assert found.margin > 0


def test_a_sample_of_all_rows_leaves_no_doubt() -> None:
    assert of("tiny-internvl", [row("a"), row("a", ["b"] * 9)]).margin == 0.0


def test_structure_and_image_tokens_of_the_configuration() -> None:
    plain = of("tiny-qwen2_5_vl", ROWS).work
    assert of("tiny-qwen2_5_vl", ROWS, structure=False).work.tokens < plain.tokens


def test_members_share_the_vision_pass() -> None:
    one = of("tiny-internvl", ROWS).work
    three = of("tiny-internvl", ROWS, Members(3, language_values=1000)).work
    assert three.vision_flops == one.vision_flops
    assert three.language_flops == 3 * one.language_flops + 2 * 1000 * one.tokens
    assert three.head_flops == 3 * one.head_flops
    apart = of("tiny-internvl", ROWS, Members(3, vision_values=1000)).work
    assert apart.vision_flops == 3 * one.vision_flops + 2 * 1000 * 16 * 4


def test_members_of_adapters(tmp_path: Path) -> None:
    backbone = build("tiny-internvl", tmp_path)
    language = save_adapter(backbone, tmp_path / "a", 0, LANGUAGE)
    vision = save_adapter(backbone, tmp_path / "b", 1, WITH_VISION)
    assert Members.of({}) == Members(1, 0, 0)
    first, both = Members.of({"a": language}), Members.of({"a": language, "b": vision})
    assert (first.count, first.vision_values, first.vision_passes) == (1, 0, 1)
    assert first.language_values > 0
    assert (both.count, both.vision_passes) == (2, 2)
    assert both.vision_values > 0
    assert both.language_values > first.language_values
    # rank 4 on three layers of four: 128 + 128, 128 + 128, 128 + 384
    assert first.language_values == 4 * 4 * (256 + 256 + 512)


@pytest.mark.parametrize("name", TINY)
def test_memory(name: str) -> None:
    backbone = loading.skeleton(registry.resolve(name))
    values = sum(p.numel() for p in backbone.model.parameters())
    load = of(name, ROWS)
    memory = memory_of(backbone, "bfloat16", Members(2, 1000, 24), load)
    assert memory.weights == 2 * values / 2**30
    assert memory.adapters == 4 * 1024 / 2**30
    assert 0 < memory.longest < memory.batch
    longer = memory_of(backbone, "bfloat16", Members(), replace(load, longest=2 * load.longest))
    assert longer.longest > memory.longest


def test_widths() -> None:
    widths = widths_of(loading.skeleton(registry.resolve("tiny-qwen2_5_vl")))
    assert (widths.hidden, widths.keys, widths.middle, widths.vocabulary) == (128, 256, 384, 768)
    assert (widths.patch, widths.vision_hidden, widths.vision_middle) == (3 * 2 * 14 * 14, 128, 256)
    assert widths.patches_per_token == 4


def test_a_request_of_many_elements_is_several_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each repeats the image, and none is longer than a micro-batch."""
    many = [row("a", [f"red thing number {i}" for i in range(40)])]
    whole = of("tiny-qwen2_5_vl", many)
    monkeypatch.setattr("tokenfocus_ray.plan.workload.TOKEN_BUDGET", 900)
    parted = of("tiny-qwen2_5_vl", many)
    assert whole.parts == 1 < parted.parts
    assert parted.longest <= 900 < whole.longest
    assert parted.work.tokens > whole.work.tokens
    assert parted.work.answers == whole.work.answers == 41
