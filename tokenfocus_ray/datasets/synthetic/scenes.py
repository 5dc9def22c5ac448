"""Scenes whose every fact is known: objects on a grid, drawn with PIL, and claims about them.

A :class:`SceneSpec` is what a prompt asks for, a :class:`Scene` is what stands in an image, and a
:class:`Claim` is one checkable statement. Truth is always read off the scene that was drawn, never
off the way in which it was made.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from tokenfocus_ray.schema import Element

GRID = 4
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "diamond", "heart")
PLURALS = {name: name + ("es" if name.endswith("s") else "s") for name in SHAPES}
SIZES = ("small", "large")
PATTERNS = ("striped", "dotted")
COLORS = {
    "red": (214, 39, 40),
    "green": (30, 140, 50),
    "blue": (35, 80, 210),
    "yellow": (245, 210, 30),
    "purple": (140, 50, 170),
    "orange": (250, 130, 20),
    "pink": (250, 140, 190),
    "black": (25, 25, 25),
}
BACKGROUNDS = {
    "snow": (240, 244, 248),
    "grass": (150, 200, 120),
    "sand": (222, 200, 150),
    "water": (120, 190, 215),
    "stone": (150, 150, 155),
}
RELATIONS = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six")


@dataclass(frozen=True, slots=True)
class Group:
    """Like objects that a prompt mentions together; ``None`` leaves an attribute open."""

    shape: str
    color: str
    size: str | None = None
    pattern: str | None = None
    count: int = 1


@dataclass(frozen=True, slots=True)
class SceneSpec:
    """What a prompt asks for; ``relation`` holds between the first two groups."""

    groups: tuple[Group, ...]
    background: str
    relation: str | None = None


@dataclass(frozen=True, slots=True)
class SceneObject:
    """One drawn object; ``cell`` is (column, row) on the grid, ``offset`` a jitter in cells."""

    shape: str
    color: str
    size: str
    pattern: str | None
    cell: tuple[int, int]
    offset: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Scene:
    """What stands in one image."""

    objects: tuple[SceneObject, ...]
    background: str


@dataclass(frozen=True, slots=True)
class Claim:
    """One statement about a scene, of one of seven element types.

    ``value`` is the colour, size, pattern, count, background or relation that is claimed; ``other``
    is the second shape of a spatial claim.
    """

    type: str
    shape: str = ""
    value: str = ""
    other: str = ""

    def element(self) -> Element:
        """The claim as annotators see it, for example ``red circle (color)``."""
        match self.type:
            case "object":
                text = self.shape
            case "counting":
                plural = self.shape if self.value == "one" else PLURALS[self.shape]
                text = f"{self.value} {plural}"
            case "spatial":
                text = f"{self.shape} {self.value} {self.other}"
            case "location":
                text = f"{self.value} background"
            case _:
                text = f"{self.value} {self.shape}"
        return Element(text, self.type)

    def holds(self, scene: Scene) -> bool:
        """Whether the claim is true of what was drawn."""
        mine = [o for o in scene.objects if o.shape == self.shape]
        match self.type:
            case "location":
                return scene.background == self.value
            case "object":
                return bool(mine)
            case "counting":
                return len(mine) == NUMBERS.index(self.value)
            case "color":
                return any(o.color == self.value for o in mine)
            case "attribute":
                return any(o.size == self.value for o in mine)
            case "material":
                return any(o.pattern == self.value for o in mine)
            case "spatial":
                others = [o for o in scene.objects if o.shape == self.other]
                if not mine or not others:
                    return False
                dx, dy = RELATIONS[self.value]
                (ax, ay), (bx, by) = _center(mine), _center(others)
                return (ax - bx) * dx + (ay - by) * dy >= 1.0
        raise AssertionError(f"unknown claim type {self.type!r}")


def _center(objects: Iterable[SceneObject]) -> tuple[float, float]:
    cells = np.array([o.cell for o in objects], dtype=float)
    x, y = cells.mean(axis=0)
    return float(x), float(y)


def claims(spec: SceneSpec) -> list[Claim]:
    """Every claim that a prompt for this spec makes, object claims first."""
    out: list[Claim] = []
    for group in spec.groups:
        out.append(Claim("object", group.shape))
        out.append(Claim("color", group.shape, group.color))
        if group.count > 1:
            out.append(Claim("counting", group.shape, NUMBERS[group.count]))
        if group.size:
            out.append(Claim("attribute", group.shape, group.size))
        if group.pattern:
            out.append(Claim("material", group.shape, group.pattern))
    if spec.relation:
        first, second = spec.groups[:2]
        out.append(Claim("spatial", first.shape, spec.relation, second.shape))
    out.append(Claim("location", value=spec.background))
    return out


def random_spec(rng: np.random.Generator) -> SceneSpec:
    """One to three groups of different shapes, at most six objects in all."""
    n_groups = int(rng.choice([1, 2, 3], p=[0.2, 0.5, 0.3]))
    shapes = rng.choice(SHAPES, size=n_groups, replace=False)
    groups, left = [], 6
    for i, shape in enumerate(shapes):
        most = min(4, left - (n_groups - i - 1))
        count = 1 if rng.random() < 0.5 else int(rng.integers(1, most + 1))
        left -= count
        groups.append(
            Group(
                str(shape),
                str(rng.choice(list(COLORS))),
                str(rng.choice(SIZES)) if rng.random() < 0.5 else None,
                str(rng.choice(PATTERNS)) if rng.random() < 0.35 else None,
                count,
            )
        )
    relation = str(rng.choice(list(RELATIONS))) if n_groups > 1 and rng.random() < 0.7 else None
    return SceneSpec(tuple(groups), str(rng.choice(list(BACKGROUNDS))), relation)


def lay_out(spec: SceneSpec, rng: np.random.Generator) -> Scene:
    """Places every object of a spec on its own grid cell; open attributes are drawn at random.

    The two related groups take opposite halves of the grid, so that the relation holds.
    """
    cells = [(x, y) for x in range(GRID) for y in range(GRID)]
    free = {cells[i] for i in rng.permutation(len(cells))}
    objects: list[SceneObject] = []
    for index, group in enumerate(spec.groups):
        region = [c for c in cells if c in free and _allowed(c, index, spec.relation)]
        size = group.size or str(rng.choice(SIZES))
        pattern = group.pattern
        for i in rng.permutation(len(region))[: group.count]:
            free.discard(region[i])
            dx, dy = rng.uniform(-0.12, 0.12, size=2)
            jitter = (float(dx), float(dy))
            objects.append(SceneObject(group.shape, group.color, size, pattern, region[i], jitter))
    return Scene(tuple(sorted(objects, key=lambda o: (o.cell[1], o.cell[0]))), spec.background)


def _allowed(cell: tuple[int, int], index: int, relation: str | None) -> bool:
    if relation is None or index > 1:
        return True
    dx, dy = RELATIONS[relation]
    axis, sign = (0, dx) if dx else (1, dy)
    in_first_half = cell[axis] < GRID // 2
    wants_first_half = (sign < 0) == (index == 0)
    return in_first_half == wants_first_half
