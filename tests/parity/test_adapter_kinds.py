"""Every kind of peft adapter that is accepted equals plain peft: alone, or side by side."""

from __future__ import annotations

import itertools
import math
from copy import deepcopy
from pathlib import Path
from typing import Any

import peft
import pytest
import transformers
from peft import (
    AdaLoraConfig,
    BOFTConfig,
    FourierFTConfig,
    HRAConfig,
    IA3Config,
    LNTuningConfig,
    LoHaConfig,
    LoKrConfig,
    LoraConfig,
    OFTConfig,
)

from tests.support.folders import LANGUAGE, build, save_kind
from tests.support.measure import Ensemble
from tests.support.samples import make_samples, score
from tokenfocus_ray.errors import AdapterError
from tokenfocus_ray.scoring.scorer import AlignmentScorer

pytestmark = pytest.mark.usefixtures("one_thread")
NAME = "tiny-internvl"
TOLERANCE = 1e-5
#: A decomposition of every layer's weights takes long.
ONE_LAYER = r".*language_model\.layers\.1\.mlp\.down_proj"


def lora(**options: Any) -> LoraConfig:
    return LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": LANGUAGE, **options})


def scored(folders: dict[str, str]) -> Ensemble:
    """One sample with two elements, scored by all members."""
    samples = make_samples((2,))
    scorer = AlignmentScorer.from_pretrained(NAME, adapters=folders, device="cpu")
    return Ensemble(build(NAME, Path()), folders, scorer, samples, score(scorer, samples))


def spread(found: Ensemble) -> float:
    """How far apart the members are: adapters that change nothing would pass every comparison."""
    masses = sorted(map(math.log, found.rows[0].level_mass))
    return min(b - a for a, b in itertools.pairwise(masses))


def test_kinds_of_lora_side_by_side_equal_plain_peft(tmp_path: Path) -> None:
    kinds = {
        "rslora": lora(use_rslora=True),
        "dora": lora(use_dora=True),
        "biased": lora(lora_bias=True),
        "patterns": lora(
            target_modules=["q_proj", "v_proj"],
            layers_to_transform=[0, 2],
            rank_pattern={"q_proj": 2},
            alpha_pattern={"v_proj": 32},
        ),
        "ends": lora(target_modules=["embed_tokens", "lm_head", "q_proj"]),
        "saved": lora(modules_to_save=["language_model.norm", "multi_modal_projector"]),
    }
    folders = {
        name: save_kind(build(NAME, tmp_path), tmp_path / name, seed, config)
        for seed, (name, config) in enumerate(kinds.items())
    }
    found = scored(folders)
    assert found.peft_gap() < TOLERANCE
    assert spread(found) > 100 * TOLERANCE
    assert not found.scorer.backbone.shares_vision  # a member has a projector of its own


@pytest.mark.parametrize(
    "config",
    [
        LoHaConfig(r=4, alpha=64, target_modules=LANGUAGE),
        LoKrConfig(r=4, alpha=64, target_modules=LANGUAGE),
        IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]),
        OFTConfig(r=0, oft_block_size=16, target_modules=LANGUAGE),
        BOFTConfig(boft_block_size=4, target_modules=LANGUAGE),
        FourierFTConfig(n_frequency=50, target_modules=LANGUAGE),
        HRAConfig(r=4, target_modules=LANGUAGE),
        LNTuningConfig(target_modules=["input_layernorm"]),
        AdaLoraConfig(init_r=6, target_r=4, total_step=10, target_modules=LANGUAGE),
    ],
    ids=lambda config: str(config.peft_type.value),
)
def test_other_types_side_by_side_equal_plain_peft(config: Any, tmp_path: Path) -> None:
    folders = {
        f"m{i}": save_kind(build(NAME, tmp_path), tmp_path / f"m{i}", i, deepcopy(config), 0.2)
        for i in range(2)
    }
    found = scored(folders)
    assert found.peft_gap() < TOLERANCE
    assert spread(found) > 100 * TOLERANCE


@pytest.mark.parametrize(
    "options",
    [
        {"bias": "all"},
        {"bias": "lora_only"},
        {"init_lora_weights": "pissa", "target_modules": ONE_LAYER},
        {"init_lora_weights": "olora", "target_modules": ONE_LAYER},
    ],
    ids=str,
)
def test_lora_that_changes_the_backbone_is_right_alone_and_refused_beside_others(
    options: dict[str, Any], tmp_path: Path
) -> None:
    backbone = build(NAME, tmp_path)
    folder = save_kind(backbone, tmp_path / "changing", 1, lora(**options))
    found = scored({"changing": folder})
    assert found.peft_gap() < TOLERANCE
    plain = save_kind(backbone, tmp_path / "plain", 2, lora())
    with pytest.raises(AdapterError, match="also for the members beside it"):
        scored({"plain": plain, "changing": folder})


def test_converted_pissa_is_a_plain_lora(tmp_path: Path) -> None:
    """What the refusal advises: peft's own conversion, beside another member."""
    backbone = build(NAME, tmp_path)
    model: Any = transformers.AutoModelForImageTextToText.from_pretrained(backbone)
    wrapped: Any = peft.get_peft_model(
        model, lora(init_lora_weights="pissa", target_modules=ONE_LAYER)
    )
    wrapped.peft_config["default"].init_lora_weights = True
    wrapped.save_pretrained(tmp_path / "start")
    wrapped.peft_config["default"].init_lora_weights = "pissa"
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            parameter.data += 0.05
    wrapped.save_pretrained(tmp_path / "pissa")
    wrapped.save_pretrained(
        tmp_path / "converted", path_initial_model_for_weight_conversion=str(tmp_path / "start")
    )
    before = scored({"m": str(tmp_path / "pissa")}).rows[0]
    plain = save_kind(backbone, tmp_path / "plain", 2, lora())
    after = scored({"plain": plain, "m": str(tmp_path / "converted")})
    assert after.rows[0].member_scores[1] == pytest.approx(before.score, abs=1e-4)
    assert after.peft_gap() < TOLERANCE
