"""Where the GPU tests run, and when they are skipped."""

from __future__ import annotations

import pytest
import torch

DEVICE = "cuda"
#: ``pytestmark`` of every module of tests/gpu.
NEEDS_GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]
