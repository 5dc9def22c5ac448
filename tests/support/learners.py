"""Learners on the built-in backbones, and labelled samples of every kind.

Legend: E elements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tests.support.samples import Sample, picture
from tokenfocus_ray.backbones import loading, registry
from tokenfocus_ray.config import TrainConfig
from tokenfocus_ray.scoring.request import Request
from tokenfocus_ray.scoring.scorer import AlignmentScorer
from tokenfocus_ray.training.learner import Learner
from tokenfocus_ray.training.objective import Example
from tokenfocus_ray.training.samples import vocabularies
from tokenfocus_ray.training.soft_labels import sample_labels

#: Short, so that a step takes a fraction of a second.
_THINGS = ("cat (animal)", "red (color)", "2 dogs", "hat", "sun (object)", "left of")


@dataclass(frozen=True)
class Labelled:
    """A sample with its annotators' ratings.

    Attributes:
        sample: Image, prompt, elements.
        total: Total ratings; None where nobody rated.
        elements: [E] ratings of each element.
        split_confidence: 1 where the annotator doubted the split.
        attribute_confidence: 0 where the annotator was unsure.
        group: Number of its prompt.
    """

    sample: Sample
    total: list[float | None] | None
    elements: list[list[float | None]]
    split_confidence: list[int] | None = None
    attribute_confidence: list[int] | None = None
    group: int = 0


def labelled() -> list[Labelled]:
    """None to six elements; missing totals, missing elements, doubts in both fields."""
    none, one, three, six = (
        Sample(picture(*size, seed), prompt, _THINGS[:count], kind)
        for seed, (size, prompt, count, kind) in enumerate(
            [
                ((64, 48), "a cat", 0, None),
                ((40, 72), "a red cat\non snow", 1, "real"),
                ((56, 56), "two dogs, one cat", 3, "synthetic"),
                ((90, 60), "cat, dogs, sun", 6, None),
            ]
        )
    )
    return [
        Labelled(none, [4, 3, 3], [], group=0),
        Labelled(one, None, [[1, 0, 1]], group=1),
        Labelled(
            three,
            [5, None, 2],
            [[1, 1, 0], [None, None, None], [0, 0, 0]],
            [0, 1, 0],
            [1, 1, 0],
            group=2,
        ),
        Labelled(six, [1], [[1], [0], [0], [1], [0], [1]], [0, 1], None, group=3),
    ]


def train_config(name: str, **values: Any) -> TrainConfig:
    """A configuration with one backbone and a small adapter; ``run`` holds the backbone's options.

    Values are those of :class:`TrainConfig`; mappings are laid over the defaults here.
    """
    lora = values.pop("lora", {})
    run = values.pop("run", {})
    small = {"rank": 4, "alpha": 8, "dropout": 0.0, "targets": ["q_proj", "v_proj", "up_proj"]}
    adapter = None if lora is None else small | lora
    return TrainConfig.parse({"data": "d", "backbones": {name: run}, "lora": adapter, **values})


def make_learner(config: TrainConfig, n_steps: int = 10, seed: int = 0) -> Learner:
    """A learner of the configuration's one backbone, in float32 on the CPU."""
    (name,) = config.backbones
    backbone = loading.load(registry.resolve(name), device="cpu", dtype=torch.float32)
    return Learner(backbone, config, config.scoring(name), n_steps, seed)


def requests(learner: Learner, samples: Sequence[Sample]) -> list[Request]:
    """Samples as they reach the device."""
    scorer = AlignmentScorer(learner.backbone, learner.config.scoring(*learner.config.backbones))
    return [scorer.request(s.image_HWC, s.prompt, list(s.elements), s.prompt_type) for s in samples]


def examples(learner: Learner, items: Sequence[Labelled]) -> list[Example]:
    """Labelled samples as a step takes them."""
    config = learner.config
    levels = vocabularies(config)
    return [
        Example(
            request,
            sample_labels(
                item.total,
                item.elements,
                *levels,
                item.split_confidence,
                item.attribute_confidence,
                config.loss.unsure,
            ),
            item.group,
        )
        for request, item in zip(requests(learner, [i.sample for i in items]), items, strict=True)
    ]


def trained_parameters(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """What is trained, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def fill_adapter(model: torch.nn.Module, seed: int = 0) -> None:
    """Gives an adapter random weights: peft starts with B = 0, whose A has no gradient."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(trained_parameters(model).items()):
            if "lora_" in name:
                parameter.copy_(0.05 * torch.randn(parameter.shape, generator=random))
