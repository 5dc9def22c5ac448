"""What cards can do by their makers' data sheets: arithmetic, memory, bandwidth.

Peaks are dense: data sheets since Ampere print twice as much in bold, for weights of which half are
zero, which these models do not have. Sources, all of them NVIDIA's own documents:

- H200, H100, H100-PCIE: data sheets "H200 Tensor Core GPU" and "H100 Tensor Core GPU" (BF16 1,979
  and 1,513 TFLOP/s "with sparsity", halved).
- B200: data sheet "DGX B200", an eighth of the system's (BF16 "with sparsity" halved).
- A100: data sheet "A100 Tensor Core GPU" (80 GB and 40 GB, SXM).
- L40S, L4: data sheets of these names (L4: BF16 242 TFLOP/s "with sparsity", halved).
- A10: data sheet "A10 Tensor Core GPU".  T4: data sheet "T4 Tensor Core GPU".
- V100: data sheet "V100 Tensor Core GPU" (SXM2, 32 GB).
- RTX4090: whitepaper "Ada GPU architecture", FP16 with FP32 accumulation.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from tokenfocus_ray.errors import ConfigError, did_you_mean

TERA, GIGA = 1e12, 1e9


@dataclass(frozen=True, slots=True)
class Gpu:
    """A card.

    Attributes:
        name: As it is given.
        half_tflops: Peak of 16-bit floats on tensor cores, dense, accumulated in float32.
        memory_gib: As sold.
        single_tflops: Peak of float32; None where it is not known.
        bandwidth_gb_s: Of its memory, in 1e9 bytes a second; None where it is not known.
        has_bfloat16: Whether its tensor cores take bfloat16.
    """

    name: str
    half_tflops: float
    memory_gib: float
    single_tflops: float | None = None
    bandwidth_gb_s: float | None = None
    has_bfloat16: bool = True

    def peak(self, dtype: str) -> float:
        """Operations a second at the most.

        Args:
            dtype: ``bfloat16``, ``float16`` or ``float32``.

        Raises:
            ConfigError: it is not known.
        """
        if dtype != "float32":
            return self.half_tflops * TERA
        if self.single_tflops is None:
            raise ConfigError(
                f"--gpu {self.name}: its peak in float32 is not known, and dtype is float32; plan "
                f"with dtype bfloat16, or a card of the list ({', '.join(GPUS)})"
            )
        return self.single_tflops * TERA


#: Card by name.
GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("B200", 2250, 180, 75, 8000),
        Gpu("H200", 989.5, 141, 67, 4800),
        Gpu("H100", 989.5, 80, 67, 3350),
        Gpu("H100-PCIE", 756.5, 80, 51, 2000),
        Gpu("A100", 312, 80, 19.5, 2039),
        Gpu("A100-40GB", 312, 40, 19.5, 1555),
        Gpu("L40S", 362, 48, 91.6, 864),
        Gpu("L4", 121, 24, 30.3, 300),
        Gpu("A10", 125, 24, 31.2, 600),
        Gpu("V100", 125, 32, 15.7, 900, has_bfloat16=False),
        Gpu("T4", 65, 16, 8.1, 320, has_bfloat16=False),
        Gpu("RTX4090", 165.2, 24, 82.6, 1008),
    )
}
_OWN = re.compile(r"(?P<name>[^=]+)=(?P<tflops>[^:]+):(?P<gib>.+)")


def gpu_of(text: str) -> Gpu:
    """A card by its name, or one's own.

    >>> gpu_of("l4").half_tflops, gpu_of("A10G=70:24").memory_gib
    (121, 24.0)

    Args:
        text: A name of :data:`GPUS`, whatever its case, or ``NAME=TFLOPS:GIB``.

    Raises:
        ConfigError: there is no such card, or a number is none.
    """
    if known := GPUS.get(text.strip().upper()):
        return known
    own = _OWN.fullmatch(text)
    if own is None:
        raise ConfigError(
            f"--gpu {text!r}: no such card. {did_you_mean(text.upper(), list(GPUS))} State another "
            f"one as NAME=TFLOPS:GIB, its dense 16-bit peak and its memory, such as A10G=70:24"
        )
    return Gpu(own["name"].strip(), _number(text, own["tflops"]), _number(text, own["gib"]))


def _number(text: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise ConfigError(
            f"--gpu {text!r}: {value!r} is no number above 0; wanted NAME=TFLOPS:GIB, such as "
            f"A10G=70:24"
        )
    return number


def gpu_at_hand(device_name: str, memory_bytes: int) -> Gpu | None:
    """The card of the list that a driver names so; None where it is not in it.

    >>> gpu_at_hand("NVIDIA A100-SXM4-40GB", 42_000_000_000).name
    'A100-40GB'
    >>> gpu_at_hand("NVIDIA A10G", 24_000_000_000) is None
    True

    Args:
        device_name: As torch tells it.
        memory_bytes: Of the card, which tells forms of one name apart.
    """
    words = set(re.split(r"[^A-Z0-9]+", device_name.upper().replace("RTX ", "RTX")))
    if words & {"NVL", "LAPTOP"} or {"V100", "PCIE"} <= words:  # slower ones of the same name
        return None
    named = [g for g in GPUS.values() if g.name.partition("-")[0] in words]
    if "PCIE" in words and any(g.name.endswith("PCIE") for g in named):
        named = [g for g in named if g.name.endswith("PCIE")]
    return min(named, key=lambda g: abs(g.memory_gib * GIGA - memory_bytes), default=None)
