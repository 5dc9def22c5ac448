"""On a GPU, packed scores equal plain forwards: tight in float32, within rounding in bfloat16."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.support.folders import MID_SIZE, TINY
from tests.support.gpu import DEVICE, NEEDS_GPU
from tests.support.measure import Compared, gap, packed_logits, row_differences
from tests.support.reference import PlainModel, distribution
from tests.support.samples import score
from tokenfocus_ray.config.scoring import LevelNormalization
from tokenfocus_ray.scoring.distribution import level_distribution
from tokenfocus_ray.scoring.scorer import AlignmentScorer

pytestmark = NEEDS_GPU

FLOAT32 = 1e-4
#: bfloat16 keeps 8 bits, so a logit of 10 is off by up to 0.03 and hidden states by more. Seen on a
#: CPU: 0.014 of the score, 0.012 of an element, 0.006 of the mass, by us and by plain forwards.
BFLOAT16 = {
    "score": 0.1,
    "level_probs": 0.05,
    "level_mass": 0.05,
    "entropy": 0.1,
    "element_scores": 0.05,
}


@pytest.fixture(scope="module", params=TINY + MID_SIZE)
def compared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Compared:
    return Compared.make(request.param, tmp_path_factory.mktemp("backbones"), DEVICE)


def test_packed_logits_equal_plain_forwards(compared: Compared) -> None:
    got_QV = packed_logits(compared.scorer, compared.samples)
    assert gap(got_QV, np.concatenate(compared.expected_QV)) < FLOAT32


def test_rows_equal_plain_forwards(compared: Compared) -> None:
    differences = row_differences(
        score(compared.scorer, compared.samples), compared.expected_rows()
    )
    assert max(differences.values()) < FLOAT32, differences


def test_rows_equal_plain_forwards_on_the_cpu(compared: Compared) -> None:
    """A run on a GPU continues what one on a CPU started."""
    plain, samples = PlainModel(compared.folder), compared.samples[:3]
    expected = [plain.row(plain.logits(sample)) for sample in samples]
    differences = row_differences(score(compared.scorer, samples), expected)
    assert max(differences.values()) < FLOAT32, differences


def test_bfloat16_rows_are_near_float32_on_the_cpu(compared: Compared) -> None:
    plain, samples = PlainModel(compared.folder), compared.samples[:3]
    expected = [plain.row(plain.logits(sample)) for sample in samples]
    scorer = AlignmentScorer.from_pretrained(compared.folder, device=DEVICE, dtype="bfloat16")
    assert scorer.backbone.dtype == torch.bfloat16
    differences = row_differences(score(scorer, samples), expected)
    assert all(differences[name] < most for name, most in BFLOAT16.items()), differences


def test_bfloat16_rows_are_near_plain_bfloat16_forwards(compared: Compared) -> None:
    """Packing adds no error of its own to that of the type."""
    plain = PlainModel(compared.folder, device=DEVICE, dtype=torch.bfloat16)
    expected = [plain.row(plain.logits(sample)) for sample in compared.samples]
    scorer = AlignmentScorer.from_pretrained(compared.folder, device=DEVICE, dtype="bfloat16")
    differences = row_differences(score(scorer, compared.samples), expected)
    assert all(differences[name] < most for name, most in BFLOAT16.items()), differences


def test_a_gpu_and_bfloat16_are_the_default() -> None:
    backbone = AlignmentScorer.from_pretrained(TINY[0]).backbone
    assert (backbone.device.type, backbone.dtype) == ("cuda", torch.bfloat16)


@pytest.mark.parametrize("normalization", ["logits", "probs"])
def test_distribution_equals_scipy(normalization: LevelNormalization) -> None:
    ids, values = (7, 3, 40, 11, 2), (1.0, 2.0, 3.0, 4.0, 5.0)
    logits = torch.tensor(np.random.default_rng(0).normal(5, 4, (64, 1500)), dtype=torch.bfloat16)
    got = level_distribution(logits.to(DEVICE), ids, values, normalization)
    wanted = distribution(logits.double().numpy(), ids, values, normalization)
    found = {name: gap(getattr(got, name).cpu(), value) for name, value in wanted.items()}
    assert max(found.values()) < 1e-5, found
