"""These tests need a GPU and are skipped with a reason where there is none; none needs Ray."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "gpu: needs a CUDA device")


# of a module, so that it comes before the fixtures of a module that already compute
@pytest.fixture(autouse=True, scope="module")
def full_float32() -> Iterator[None]:
    """TF32 off, in products and convolutions: its 10 bits of mantissa would hide errors."""
    products, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.set_float32_matmul_precision(products)
    torch.backends.cudnn.allow_tf32 = convolutions
