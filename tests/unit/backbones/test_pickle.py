"""What crosses to the CPU workers: it must pickle, and must not bring torch along."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tokenfocus_ray
from tokenfocus_ray.backbones.internvl import InternVLImageSpec
from tokenfocus_ray.backbones.qwen2_5_vl import QwenImageSpec

#: Every module that decoding workers import, the readers of data sets among them.
LIGHT = (
    "tokenfocus_ray",
    "tokenfocus_ray.errors",
    "tokenfocus_ray.schema",
    "tokenfocus_ray.config",
    "tokenfocus_ray.backbones.base",
    "tokenfocus_ray.backbones.images",
    "tokenfocus_ray.backbones.registry",
    "tokenfocus_ray.backbones.loading",
    "tokenfocus_ray.backbones.qwen2_5_vl",
    "tokenfocus_ray.backbones.internvl",
    "tokenfocus_ray.scoring.image",
    "tokenfocus_ray.scoring.levels",
    "tokenfocus_ray.scoring.prompt",
    "tokenfocus_ray.scoring.request",
    "tokenfocus_ray.datasets",
    "tokenfocus_ray.datasets.manifest",
    "tokenfocus_ray.datasets.synthetic.files",
    "tokenfocus_ray.scoring.wire",
)
#: Imports each module in turn and notes the first one that brought something heavy.
SCRIPT = """
import importlib, json, sys
heavy, found = {"torch", "transformers", "ray"}, {}
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
    found[name] = sorted(heavy & set(sys.modules))
    heavy -= set(found[name])
print(json.dumps({name: brought for name, brought in found.items() if brought}))
"""
USE_SPECS = """
import json, sys
from tokenfocus_ray.backbones import loading, registry
for name in json.loads(sys.argv[1]):
    loading.image_spec(registry.resolve(name)).plan(640, 480)
print(json.dumps(sorted({"torch", "transformers", "ray"} & set(sys.modules))))
"""


def run(script: str, names: Any) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(names)],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(tokenfocus_ray.__file__).parents[1],
    )
    return json.loads(done.stdout)


def test_light_modules_import_nothing_heavy() -> None:
    assert run(SCRIPT, LIGHT) == {}


def test_image_specs_of_built_in_backbones_need_nothing_heavy() -> None:
    assert run(USE_SPECS, ["tiny-qwen2_5_vl", "tiny-internvl"]) == []


@pytest.mark.parametrize(
    "spec",
    [
        QwenImageSpec(),
        QwenImageSpec(min_pixels=112**2).limited(64),
        InternVLImageSpec(),
        InternVLImageSpec(tile=112, tokens_per_tile=16).limited(64),
    ],
)
def test_image_specs_survive_pickling(spec: Any) -> None:
    back = pickle.loads(pickle.dumps(spec))
    assert (type(back), back) == (type(spec), spec)
