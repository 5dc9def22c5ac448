"""On a GPU too, LoRA members equal peft models of their own."""

from __future__ import annotations

import pytest

from tests.support.folders import MID_SIZE, TINY
from tests.support.gpu import DEVICE, NEEDS_GPU
from tests.support.measure import Ensemble, vision_calls

pytestmark = NEEDS_GPU

TOLERANCE = 1e-4


@pytest.fixture(scope="module", params=[*TINY, MID_SIZE[2]])
def ensemble(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Ensemble:
    return Ensemble.make(request.param, tmp_path_factory.mktemp("members"), DEVICE)


def test_members_equal_plain_peft_forwards(ensemble: Ensemble) -> None:
    assert ensemble.peft_gap(DEVICE) < TOLERANCE


def test_adapters_are_on_the_gpu(ensemble: Ensemble) -> None:
    where = {p.device.type for p in ensemble.scorer.backbone.model.parameters()}
    assert where == {DEVICE}


def test_one_vision_pass_serves_all_members(ensemble: Ensemble) -> None:
    assert vision_calls(ensemble.scorer, ensemble.samples) == 1
