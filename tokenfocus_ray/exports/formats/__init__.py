"""Formats of pairs, one a file; a new one is a file and a line here."""

from __future__ import annotations

from tokenfocus_ray.exports.formats import (
    diffusion_dpo,
    hpdv3,
    imagereward,
    kohya,
    label_studio,
    ms_swift,
    reward,
    trl,
    unified_reward,
)
from tokenfocus_ray.exports.formats.base import Format

FORMATS: dict[str, Format] = {
    one.FORMAT.name: one.FORMAT
    for one in (
        diffusion_dpo, trl, unified_reward, ms_swift, hpdv3, kohya, imagereward, reward,
        label_studio,
    )
}  # fmt: skip
