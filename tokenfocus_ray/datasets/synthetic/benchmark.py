"""The built-in benchmark: prompts, simulated generators, simulated annotators, exact ground truth.

Simulated generators draw what a prompt asks for and make the mistakes of real ones: they drop
objects, recolour, reshape and miscount them, swap attributes between them, turn relations round,
lose patterns, change the background and add things. Element truth is read off the drawn scene.
Three simulated annotators rate every image with a bias and noise of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from tokenfocus_ray.datasets.synthetic.drawing import render
from tokenfocus_ray.datasets.synthetic.scenes import (
    BACKGROUNDS,
    COLORS,
    NUMBERS,
    PATTERNS,
    PLURALS,
    SHAPES,
    SIZES,
    Claim,
    Group,
    Scene,
    SceneSpec,
    claims,
    lay_out,
    random_spec,
)
from tokenfocus_ray.schema import Element

#: How much each element type weighs in the simulated overall impression.
IMPORTANCE = {
    "object": 2.0,
    "color": 1.5,
    "counting": 1.2,
    "spatial": 1.2,
    "attribute": 0.8,
    "material": 0.8,
    "location": 1.0,
}
MAX_ELEMENTS = 8
#: Share of the prompts in the test split.
TEST_SHARE = 0.25
IMAGE_SIZE = 224


@dataclass(frozen=True, slots=True)
class Generator:
    """A simulated text-to-image model: probability of each kind of mistake.

    Attributes:
        name: Shown in the ``generator`` column and as the image folder.
        level: Overall error rate in 0..1, scaled by the factors below.
        counting: Factor for wrong counts.
        binding: Factor for attributes that are wrong or swapped.
        layout: Factor for relations and backgrounds.
    """

    name: str
    level: float
    counting: float = 1.0
    binding: float = 1.0
    layout: float = 1.0

    def imagine(self, spec: SceneSpec, rng: np.random.Generator) -> SceneSpec:
        """The scene that this model draws instead of the one asked for."""
        p = self.level

        def happens(rate: float) -> bool:
            return bool(rng.random() < min(0.95, p * rate))

        groups = [self._imagine_group(g, spec, rng) for g in spec.groups]
        if len(groups) > 1 and happens(0.5 * self.binding):
            a, b = groups[:2]
            groups[:2] = [replace(a, color=b.color), replace(b, color=a.color)]
        if len(groups) > 1 and happens(0.45):
            groups.pop(int(rng.integers(len(groups))))
        relation = spec.relation if len(groups) > 1 else None
        if relation and groups[0].shape == groups[1].shape:
            relation = None
        if relation and happens(0.9 * self.layout):
            relation = None if rng.random() < 0.5 else _opposite(relation)
        background = spec.background
        if happens(0.6 * self.layout):
            background = _other(BACKGROUNDS, background, rng)
        if happens(0.5):
            unused = [s for s in SHAPES if s not in {g.shape for g in spec.groups}]
            groups.append(Group(str(rng.choice(unused)), str(rng.choice(list(COLORS)))))
        return SceneSpec(tuple(groups), background, relation)

    def _imagine_group(self, group: Group, spec: SceneSpec, rng: np.random.Generator) -> Group:
        p = self.level

        def happens(rate: float) -> bool:
            return bool(rng.random() < min(0.95, p * rate))

        if happens(0.4):
            unused = {g.shape for g in spec.groups}
            group = replace(group, shape=_other([s for s in SHAPES if s not in unused], "", rng))
        if happens(0.6 * self.binding):
            group = replace(group, color=_other(COLORS, group.color, rng))
        if group.size and happens(0.8 * self.binding):
            group = replace(group, size=_other(SIZES, group.size, rng))
        if group.pattern and happens(0.9 * self.binding):
            group = replace(
                group,
                pattern=None if rng.random() < 0.5 else _other(PATTERNS, group.pattern, rng),
            )
        if happens((0.9 if group.count > 1 else 0.25) * self.counting):
            step = int(rng.choice([-1, 1])) if group.count > 1 else 1
            group = replace(group, count=min(4, max(1, group.count + step)))
        return group


GENERATORS = (
    Generator("sim-aurora", 0.06),
    Generator("sim-birch", 0.22, counting=1.6),
    Generator("sim-cobalt", 0.35, binding=1.4, layout=0.6),
    Generator("sim-dune", 0.5, counting=0.7),
    Generator("sim-ember", 0.7, layout=1.4),
    Generator("sim-fjord", 0.95),
)


def _other(names: object, current: str, rng: np.random.Generator) -> str:
    return str(rng.choice([n for n in names if n != current]))  # type: ignore[attr-defined]


def _opposite(relation: str) -> str:
    pairs = {"left of": "right of", "above": "below"}
    return {**pairs, **{b: a for a, b in pairs.items()}}[relation]


def prompt_text(spec: SceneSpec, style: str) -> str:
    """The prompt for a spec.

    Args:
        spec: What is asked for.
        style: ``"synthetic"`` for whole sentences, ``"real"`` for the lists of keywords that
            people type.
    """
    phrases = [_phrase(g, style) for g in spec.groups]
    if style == "real":
        parts = list(reversed(phrases))
        if spec.relation:
            a, b = (_noun(g) for g in spec.groups[:2])
            parts.append(f"{a} {spec.relation} {b}")
        return ", ".join([*parts, f"{spec.background} background"])
    text = phrases[0]
    if len(phrases) > 1:
        text += f" {spec.relation} {phrases[1]}" if spec.relation else f" and {phrases[1]}"
    if len(phrases) > 2:
        text += f", with {phrases[2]}"
    return f"{text}, {spec.background} background"


def _noun(group: Group) -> str:
    return group.shape if group.count == 1 else PLURALS[group.shape]


def _phrase(group: Group, style: str) -> str:
    number = NUMBERS[group.count]
    if group.count == 1:
        number = "" if style == "real" else "one"
    words = (number, group.size, group.pattern, group.color, _noun(group))
    return " ".join(w for w in words if w)


@dataclass(frozen=True, slots=True)
class LabelledSample:
    """One image of the benchmark with its labels.

    Attributes:
        prompt_id: Samples of one prompt share it, and its split.
        prompt: The text prompt.
        prompt_type: ``"real"`` or ``"synthetic"``.
        split: ``"train"`` or ``"test"``.
        generator: Name of the simulated model.
        img_path: Path below the image folder.
        elements: [E] claims of the prompt, at most ``MAX_ELEMENTS``.
        truth: [E] exact truth of each element.
        quality: True alignment in 0..1, before any annotator.
        total_scores: [3] integer ratings 1..5.
        element_labels: [E][3] 0/1 ratings.
        scene: What was drawn.
    """

    prompt_id: str
    prompt: str
    prompt_type: str
    split: str
    generator: str
    img_path: str
    elements: tuple[Element, ...]
    truth: tuple[bool, ...]
    quality: float
    total_scores: tuple[int, ...]
    element_labels: tuple[tuple[int, ...], ...]
    scene: Scene

    def image(self) -> Image.Image:
        """The drawn image."""
        return render(self.scene, IMAGE_SIZE)


def alignment(spec: SceneSpec, scene: Scene) -> float:
    """True alignment in 0..1: weighted share of the true claims, less for things not asked for."""
    weights = [IMPORTANCE[c.type] for c in claims(spec)]
    truth = [c.holds(scene) for c in claims(spec)]
    asked = {g.shape for g in spec.groups}
    extra = len({o.shape for o in scene.objects} - asked)
    share = float(np.average(truth, weights=weights))
    return max(0.0, share - 0.06 * extra)


class Annotators:
    """Three raters: each with a bias, noise, and attention that slips on small objects."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.bias = rng.normal(0.0, 0.25, size=3)

    def rate(self, quality: float, rng: np.random.Generator) -> tuple[int, ...]:
        """Three integer ratings 1..5 of a true alignment in 0..1."""
        # convex: one wrong element costs more than its share
        latent = 1.0 + 4.0 * quality**1.8
        noisy = latent + self.bias + rng.normal(0.0, 0.45, size=3)
        return tuple(int(v) for v in np.clip(np.rint(noisy), 1, 5))

    def check(self, claim: Claim, scene: Scene, rng: np.random.Generator) -> tuple[int, ...]:
        """Three 0/1 ratings of a claim."""
        mine = [o for o in scene.objects if o.shape == claim.shape]
        slip = 0.10 if any(o.size == "small" for o in mine) else 0.04
        flips = rng.random(3) < slip
        return tuple(int(claim.holds(scene) != flip) for flip in flips)


def generate(n_samples: int, seed: int) -> Iterator[LabelledSample]:
    """Yields labelled samples, all generators for one prompt after another.

    Args:
        n_samples: Number of images; from 24 on, both splits have a prompt.
        seed: Equal seeds give equal samples, and a larger ``n_samples`` only adds some.
    """
    annotators = Annotators(np.random.default_rng([seed, 0]))
    every, texts, left = round(1 / TEST_SHARE), set[str](), n_samples
    for number in range(-(-n_samples // len(GENERATORS))):
        rng = np.random.default_rng([seed, 1, number])
        prompt = ""
        while not prompt or prompt in texts:  # a prompt stands once, or it could be in both splits
            spec = random_spec(rng)
            style = "synthetic" if rng.random() < 0.6 else "real"
            prompt = prompt_text(spec, style)
        texts.add(prompt)
        asked = claims(spec)
        if len(asked) > MAX_ELEMENTS:
            asked = [asked[i] for i in sorted(rng.permutation(len(asked))[:MAX_ELEMENTS])]
        for which, generator in enumerate(GENERATORS[:left]):
            rng = np.random.default_rng([seed, 2, number, which])
            scene = lay_out(generator.imagine(spec, rng), rng)
            quality = alignment(spec, scene)
            yield LabelledSample(
                prompt_id=f"{number:05d}",
                prompt=prompt,
                prompt_type=style,
                split="test" if number % every == every - 1 else "train",
                generator=generator.name,
                img_path=f"{generator.name}/{number:05d}.png",
                elements=tuple(c.element() for c in asked),
                truth=tuple(c.holds(scene) for c in asked),
                quality=quality,
                total_scores=annotators.rate(quality, rng),
                element_labels=tuple(annotators.check(c, scene, rng) for c in asked),
                scene=scene,
            )
        left -= len(GENERATORS)
