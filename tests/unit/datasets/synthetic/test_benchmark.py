from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from tokenfocus_ray.datasets.synthetic.benchmark import (
    GENERATORS,
    IMPORTANCE,
    MAX_ELEMENTS,
    Generator,
    LabelledSample,
    alignment,
    generate,
    prompt_text,
)
from tokenfocus_ray.datasets.synthetic.scenes import (
    Group,
    Scene,
    SceneObject,
    SceneSpec,
    claims,
    random_spec,
)

N = 240
SPEC = SceneSpec(
    (Group("circle", "red", "large", "striped", 2), Group("star", "blue"), Group("ring", "pink")),
    "snow",
    "left of",
)
CIRCLE = SceneSpec((Group("circle", "red"),), "snow")


@pytest.fixture(scope="module")
def samples() -> list[LabelledSample]:
    return list(generate(N, seed=0))


def test_equal_seeds_give_equal_samples(samples: list[LabelledSample]) -> None:
    assert list(generate(N, seed=0)) == samples


def test_other_seeds_give_other_samples(samples: list[LabelledSample]) -> None:
    assert not {s.prompt for s in generate(24, seed=1)} & {s.prompt for s in samples[:24]}


@pytest.mark.parametrize("n", [1, 7, 100])
def test_a_larger_number_only_adds(n: int, samples: list[LabelledSample]) -> None:
    assert list(generate(n, seed=0)) == samples[:n]


def test_number_of_samples(samples: list[LabelledSample]) -> None:
    assert len(samples) == N


def test_nothing_for_no_samples() -> None:
    assert list(generate(0, seed=0)) == []


def test_every_generator_draws_every_prompt(samples: list[LabelledSample]) -> None:
    drawn: dict[str, list[str]] = defaultdict(list)
    for sample in samples:
        drawn[sample.prompt_id].append(sample.generator)
    assert set(map(tuple, drawn.values())) == {tuple(g.name for g in GENERATORS)}


def test_no_prompt_is_in_both_splits(samples: list[LabelledSample]) -> None:
    """By id and by wording: the same words under two ids would leak as well."""
    for name in ("prompt_id", "prompt"):
        train, test = (
            {getattr(s, name) for s in samples if s.split == split} for split in ("train", "test")
        )
        assert train
        assert test
        assert not train & test


def test_no_wording_is_in_both_splits_of_any_benchmark() -> None:
    """Seed 207 asks for four orange diamonds on sand as prompt 2 and as prompt 59."""
    wording: dict[str, set[str]] = {"train": set(), "test": set()}
    for sample in generate(360, seed=207):
        wording[sample.split].add(sample.prompt)
    assert not wording["train"] & wording["test"]


def test_share_of_the_test_split(samples: list[LabelledSample]) -> None:
    assert sum(s.split == "test" for s in samples) == N // 4


def test_image_paths_are_all_different(samples: list[LabelledSample]) -> None:
    assert len({s.img_path for s in samples}) == N
    assert all(s.img_path.startswith(f"{s.generator}/") for s in samples)


def test_six_element_types_at_least(samples: list[LabelledSample]) -> None:
    assert {e.type for s in samples for e in s.elements} == set(IMPORTANCE)
    assert len(IMPORTANCE) >= 6


def test_elements_are_limited_and_different(samples: list[LabelledSample]) -> None:
    assert all(2 < len(s.elements) <= MAX_ELEMENTS for s in samples)
    assert all(len(set(s.elements)) == len(s.elements) for s in samples)


def test_both_prompt_types(samples: list[LabelledSample]) -> None:
    assert {s.prompt_type for s in samples} == {"real", "synthetic"}


def test_truth_is_read_off_the_scene() -> None:
    """Told from the scene alone: the elements' words looked up among the drawn objects."""

    def present(sample: LabelledSample, index: int) -> bool:
        element, objects = sample.elements[index], sample.scene.objects
        if element.type == "object":
            return any(o.shape == element.text for o in objects)
        color, shape = element.text.split()
        return any((o.color, o.shape) == (color, shape) for o in objects)

    checked = [
        (truth, present(sample, i))
        for sample in generate(N, seed=3)
        for i, truth in enumerate(sample.truth)
        if sample.elements[i].type in ("object", "color")
    ]
    assert all(truth == seen for truth, seen in checked)
    assert {truth for truth, _ in checked} == {True, False}


def test_three_raters_and_their_range(samples: list[LabelledSample]) -> None:
    for sample in samples:
        assert len(sample.total_scores) == 3
        assert set(sample.total_scores) <= {1, 2, 3, 4, 5}
        assert len(sample.element_labels) == len(sample.elements) == len(sample.truth)
        assert all(len(labels) == 3 for labels in sample.element_labels)
        assert {label for labels in sample.element_labels for label in labels} <= {0, 1}


def test_every_rating_is_given(samples: list[LabelledSample]) -> None:
    assert {v for s in samples for v in s.total_scores} == {1, 2, 3, 4, 5}


def test_raters_differ_but_mostly_agree_with_the_truth(samples: list[LabelledSample]) -> None:
    agree = [
        label == truth
        for s in samples
        for truth, labels in zip(s.truth, s.element_labels, strict=True)
        for label in labels
    ]
    assert 0.85 < np.mean(agree) < 1.0


def test_ratings_follow_quality(samples: list[LabelledSample]) -> None:
    quality = [s.quality for s in samples]
    ratings = [np.mean(s.total_scores) for s in samples]
    assert np.corrcoef(quality, ratings)[0, 1] > 0.9


def test_generators_stand_in_the_order_of_their_fidelity(samples: list[LabelledSample]) -> None:
    quality: dict[str, list[float]] = defaultdict(list)
    for sample in samples:
        quality[sample.generator].append(sample.quality)
    means = [float(np.mean(quality[g.name])) for g in GENERATORS]
    assert means == sorted(means, reverse=True)
    assert [g.level for g in GENERATORS] == sorted(g.level for g in GENERATORS)


def test_quality_is_in_its_range(samples: list[LabelledSample]) -> None:
    assert all(0 <= s.quality <= 1 for s in samples)


def test_image_is_the_scene(samples: list[LabelledSample]) -> None:
    image = samples[0].image()
    assert (image.mode, image.size) == ("RGB", (224, 224))


@pytest.mark.parametrize("seed", range(20))
def test_a_generator_without_mistakes_draws_what_was_asked(seed: int) -> None:
    rng = np.random.default_rng(seed)
    spec = random_spec(rng)
    assert Generator("perfect", 0.0).imagine(spec, rng) == spec


@pytest.mark.parametrize("seed", range(20))
def test_a_poor_generator_still_draws_something(seed: int) -> None:
    rng = np.random.default_rng(seed)
    spec = Generator("poor", 1.0, 2.0, 2.0, 2.0).imagine(random_spec(rng), rng)
    assert spec.groups
    assert claims(spec)


def scene(*objects: SceneObject, background: str = "snow") -> Scene:
    return Scene(objects, background)


RED_CIRCLE = SceneObject("circle", "red", "large", None, (0, 0))
BLUE_CIRCLE = SceneObject("circle", "blue", "large", None, (0, 0))
STAR = SceneObject("star", "blue", "small", None, (2, 2))


@pytest.mark.parametrize(
    ("drawn", "expected"),
    [
        (scene(RED_CIRCLE), 1.0),
        (scene(BLUE_CIRCLE), (2.0 + 1.0) / 4.5),
        (scene(RED_CIRCLE, background="sand"), (2.0 + 1.5) / 4.5),
        (scene(RED_CIRCLE, STAR), 1.0 - 0.06),
        (scene(background="sand"), 0.0),
        (scene(STAR, background="sand"), 0.0),
    ],
    ids=["perfect", "color", "background", "extra", "nothing", "floor"],
)
def test_alignment_by_hand(drawn: Scene, expected: float) -> None:
    """Weights: object 2, color 1.5, location 1; 0.06 less for a kind of thing not asked for."""
    assert alignment(CIRCLE, drawn) == pytest.approx(expected, abs=1e-12)


def test_sentence_prompt() -> None:
    assert prompt_text(SPEC, "synthetic") == (
        "two large striped red circles left of one blue star, with one pink ring, snow background"
    )


def test_keyword_prompt() -> None:
    assert prompt_text(SPEC, "real") == (
        "pink ring, blue star, two large striped red circles, circles left of star, snow background"
    )


def test_sentence_without_relation() -> None:
    spec = SceneSpec(SPEC.groups[1:], "sand")
    assert prompt_text(spec, "synthetic") == "one blue star and one pink ring, sand background"


@pytest.mark.parametrize(
    ("style", "text"),
    [
        ("synthetic", "one red circle, snow background"),
        ("real", "red circle, snow background"),
    ],
)
def test_prompt_of_one_object(style: str, text: str) -> None:
    assert prompt_text(CIRCLE, style) == text
