from __future__ import annotations

import pytest

from tokenfocus_ray.errors import ConfigError
from tokenfocus_ray.plan.gpus import GPUS, Gpu, gpu_at_hand, gpu_of


def test_cards_by_name_whatever_its_case() -> None:
    assert gpu_of("h100") is GPUS["H100"]
    assert gpu_of(" A100-40gb ") is GPUS["A100-40GB"]


def test_own_card() -> None:
    card = gpu_of("mine=70.5:24")
    assert card == Gpu("mine", 70.5, 24.0)
    assert card.peak("bfloat16") == card.peak("float16") == 70.5e12
    with pytest.raises(ConfigError) as caught:
        card.peak("float32")
    assert str(caught.value) == (
        "--gpu mine: its peak in float32 is not known, and dtype is float32; plan with dtype "
        "bfloat16, or a card of the list (B200, H200, H100, H100-PCIE, A100, A100-40GB, L40S, L4, "
        "A10, V100, T4, RTX4090)"
    )


def test_float32_has_a_peak_of_its_own() -> None:
    assert gpu_of("A100").peak("float32") == 19.5e12
    assert gpu_of("A100").peak("bfloat16") == 312e12


def test_unknown_card() -> None:
    with pytest.raises(ConfigError) as caught:
        gpu_of("H1000")
    assert str(caught.value) == (
        "--gpu 'H1000': no such card. Did you mean 'H100'? Known: A10, A100, A100-40GB, B200, "
        "H100, H100-PCIE, H200, L4, L40S, RTX4090, T4, V100. State another one as "
        "NAME=TFLOPS:GIB, its dense 16-bit peak and its memory, such as A10G=70:24"
    )


@pytest.mark.parametrize(
    ("text", "value"), [("a=x:24", "x"), ("a=70:-1", "-1"), ("a=inf:24", "inf"), ("a=70:0", "0")]
)
def test_own_card_of_no_numbers(text: str, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        gpu_of(text)
    assert str(caught.value) == (
        f"--gpu {text!r}: {value!r} is no number above 0; wanted NAME=TFLOPS:GIB, such as "
        f"A10G=70:24"
    )


@pytest.mark.parametrize(
    ("name", "gigabytes", "found"),
    [
        ("NVIDIA H100 80GB HBM3", 85, "H100"),
        ("NVIDIA H100 PCIe", 85, "H100-PCIE"),
        ("NVIDIA H100 NVL", 100, None),
        ("NVIDIA H200", 150, "H200"),
        ("NVIDIA A100-SXM4-80GB", 85, "A100"),
        ("NVIDIA A100-PCIE-40GB", 42, "A100-40GB"),
        ("NVIDIA L4", 24, "L4"),
        ("NVIDIA L40S", 48, "L40S"),
        ("NVIDIA L40", 48, None),
        ("NVIDIA A10", 24, "A10"),
        ("NVIDIA A10G", 24, None),
        ("Tesla T4", 16, "T4"),
        ("Tesla V100-SXM2-16GB", 17, "V100"),
        ("Tesla V100-PCIE-32GB", 34, None),
        ("NVIDIA GeForce RTX 4090", 25, "RTX4090"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", 17, None),
    ],
)
def test_card_at_hand(name: str, gigabytes: int, found: str | None) -> None:
    card = gpu_at_hand(name, gigabytes * 10**9)
    assert (card and card.name) == found
