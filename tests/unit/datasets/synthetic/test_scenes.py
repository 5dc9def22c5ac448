from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from tokenfocus_ray.datasets.synthetic.drawing import render
from tokenfocus_ray.datasets.synthetic.scenes import (
    BACKGROUNDS,
    COLORS,
    GRID,
    PATTERNS,
    PLURALS,
    RELATIONS,
    SHAPES,
    SIZES,
    Claim,
    Group,
    Scene,
    SceneObject,
    SceneSpec,
    claims,
    lay_out,
    random_spec,
)
from tokenfocus_ray.schema import Element

#: Two red circles at the left (a large striped one, a small plain one), a blue star at the right.
SCENE = Scene(
    (
        SceneObject("circle", "red", "large", "striped", (0, 0)),
        SceneObject("circle", "red", "small", None, (0, 2)),
        SceneObject("star", "blue", "small", "dotted", (3, 1)),
    ),
    "snow",
)
SPEC = SceneSpec(
    (Group("circle", "red", "large", "striped", 2), Group("star", "blue")), "snow", "left of"
)


@pytest.mark.parametrize(
    ("claim", "element"),
    [
        (Claim("object", "circle"), Element("circle", "object")),
        (Claim("color", "circle", "red"), Element("red circle", "color")),
        (Claim("attribute", "star", "small"), Element("small star", "attribute")),
        (Claim("material", "star", "dotted"), Element("dotted star", "material")),
        (Claim("counting", "cross", "two"), Element("two crosses", "counting")),
        (Claim("counting", "cross", "one"), Element("one cross", "counting")),
        (Claim("spatial", "circle", "above", "star"), Element("circle above star", "spatial")),
        (Claim("location", value="snow"), Element("snow background", "location")),
    ],
)
def test_claim_as_annotators_see_it(claim: Claim, element: Element) -> None:
    assert claim.element() == element


@pytest.mark.parametrize(
    "claim",
    [
        Claim("object", "circle"),
        Claim("object", "star"),
        Claim("color", "circle", "red"),
        Claim("counting", "circle", "two"),
        Claim("counting", "star", "one"),
        Claim("counting", "ring", "zero"),
        Claim("attribute", "circle", "large"),
        Claim("attribute", "circle", "small"),
        Claim("material", "circle", "striped"),
        Claim("material", "star", "dotted"),
        Claim("spatial", "circle", "left of", "star"),
        Claim("spatial", "star", "right of", "circle"),
        Claim("location", value="snow"),
    ],
    ids=lambda claim: claim.element().label(),
)
def test_claim_that_holds(claim: Claim) -> None:
    assert claim.holds(SCENE)


@pytest.mark.parametrize(
    "claim",
    [
        Claim("object", "heart"),
        Claim("color", "circle", "blue"),
        Claim("color", "heart", "red"),
        Claim("counting", "circle", "one"),
        Claim("counting", "circle", "three"),
        Claim("attribute", "star", "large"),
        Claim("material", "circle", "dotted"),
        Claim("material", "star", "striped"),
        Claim("spatial", "circle", "right of", "star"),
        Claim("spatial", "star", "left of", "circle"),
        Claim("spatial", "circle", "left of", "heart"),
        Claim("spatial", "heart", "left of", "star"),
        Claim("location", value="grass"),
    ],
    ids=lambda claim: claim.element().label(),
)
def test_claim_that_does_not_hold(claim: Claim) -> None:
    assert not claim.holds(SCENE)


@pytest.mark.parametrize("relation", RELATIONS)
def test_relation_is_of_centres_one_cell_apart(relation: str) -> None:
    """The star's row is the mean of the circles' rows: neither is above the other."""
    assert Claim("spatial", "circle", relation, "star").holds(SCENE) == (relation == "left of")


@pytest.mark.parametrize(
    ("relation", "cell"),
    [("left of", (0, 1)), ("right of", (2, 1)), ("above", (1, 0)), ("below", (1, 2))],
)
def test_rows_count_downwards(relation: str, cell: tuple[int, int]) -> None:
    ring = SceneObject("ring", "pink", "small", None, cell)
    heart = SceneObject("heart", "pink", "small", None, (1, 1))
    scene = Scene((ring, heart), "sand")
    true = [r for r in RELATIONS if Claim("spatial", "ring", r, "heart").holds(scene)]
    assert true == [relation]


def test_unknown_claim_type() -> None:
    with pytest.raises(AssertionError, match="unknown claim type 'mood'"):
        Claim("mood", "circle").holds(SCENE)


def test_claims_of_a_spec() -> None:
    assert [claim.element().label() for claim in claims(SPEC)] == [
        "circle (object)",
        "red circle (color)",
        "two circles (counting)",
        "large circle (attribute)",
        "striped circle (material)",
        "star (object)",
        "blue star (color)",
        "circle left of star (spatial)",
        "snow background (location)",
    ]


def test_attributes_left_open_make_no_claim() -> None:
    assert claims(SceneSpec((Group("ring", "pink"),), "sand")) == [
        Claim("object", "ring"),
        Claim("color", "ring", "pink"),
        Claim("location", value="sand"),
    ]


def test_every_shape_has_a_plural() -> None:
    assert PLURALS["circle"] == "circles"
    assert PLURALS["cross"] == "crosses"
    assert set(PLURALS) == set(SHAPES)


@pytest.mark.parametrize("seed", range(100))
def test_laid_out_scene_keeps_every_claim(seed: int) -> None:
    rng = np.random.default_rng(seed)
    spec = random_spec(rng)
    scene = lay_out(spec, rng)
    assert [c for c in claims(spec) if not c.holds(scene)] == []


@pytest.mark.parametrize("seed", range(30))
def test_laid_out_objects_have_cells_of_their_own(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cells = [o.cell for o in lay_out(random_spec(rng), rng).objects]
    assert len(set(cells)) == len(cells)
    assert all(0 <= x < GRID and 0 <= y < GRID for x, y in cells)


def test_laid_out_scene_has_what_was_asked_for_and_no_more() -> None:
    scene = lay_out(SPEC, np.random.default_rng(0))
    assert Counter((o.shape, o.color) for o in scene.objects) == {
        ("circle", "red"): 2,
        ("star", "blue"): 1,
    }


@pytest.mark.parametrize("seed", range(100))
def test_random_spec_stays_in_its_limits(seed: int) -> None:
    spec = random_spec(np.random.default_rng(seed))
    assert 1 <= len(spec.groups) <= 3
    assert len({g.shape for g in spec.groups}) == len(spec.groups)
    assert sum(g.count for g in spec.groups) <= 6
    assert spec.background in BACKGROUNDS
    assert all(g.color in COLORS and g.size in (None, *SIZES) for g in spec.groups)
    assert all(g.pattern in (None, *PATTERNS) for g in spec.groups)
    assert spec.relation is None or len(spec.groups) > 1


def test_equal_seeds_give_equal_scenes() -> None:
    first, second = (lay_out(SPEC, np.random.default_rng(7)) for _ in range(2))
    assert first == second


def test_equal_scenes_give_equal_pixels() -> None:
    assert render(SCENE).tobytes() == render(SCENE).tobytes()


@pytest.mark.parametrize("size", [56, 224, 300])
def test_rendered_size(size: int) -> None:
    image = render(SCENE, size)
    assert (image.mode, image.size) == ("RGB", (size, size))


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_drawn_in_its_cell_only(shape: str) -> None:
    thing = SceneObject(shape, "red", "large", None, (1, 2))
    pixels = np.asarray(render(Scene((thing,), "snow"), 224))
    drawn = (pixels != BACKGROUNDS["snow"]).any(axis=2)
    rows, columns = np.nonzero(drawn)
    assert columns.min() >= 56
    assert columns.max() < 112
    assert rows.min() >= 112
    assert rows.max() < 168
    assert (pixels == COLORS["red"]).all(axis=2).sum() > 200


def test_every_shape_looks_different() -> None:
    images = {
        render(Scene((SceneObject(shape, "red", "large", None, (1, 1)),), "snow")).tobytes()
        for shape in SHAPES
    }
    assert len(images) == len(SHAPES)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_pattern_is_white_on_the_colour(pattern: str) -> None:
    thing = SceneObject("square", "red", "large", pattern, (1, 1))
    pixels = np.asarray(render(Scene((thing,), "grass"), 224)).reshape(-1, 3)
    assert (pixels == (255, 255, 255)).all(axis=1).any()
    assert (pixels == COLORS["red"]).all(axis=1).any()


def test_large_is_larger_than_small() -> None:
    def area(size: str) -> int:
        thing = SceneObject("circle", "red", size, None, (1, 1))
        pixels = np.asarray(render(Scene((thing,), "snow"), 224))
        return int((pixels == COLORS["red"]).all(axis=2).sum())

    assert area("large") > 2 * area("small")
