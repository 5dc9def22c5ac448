"""Pre-training data is true, balanced and aligned with the tokens; training follows its seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tokenfocus_ray.backbones import loading, registry, tiny
from tokenfocus_ray.backbones.base import BASE_MEMBER
from tokenfocus_ray.datasets.synthetic.drawing import render
from tokenfocus_ray.datasets.synthetic.scenes import Scene, SceneObject
from tokenfocus_ray.pretrain.lessons import (
    CLAIM_KINDS,
    N_OPEN,
    caption,
    lesson,
    open_question,
    random_claim,
    random_prefix,
    random_scene,
)
from tokenfocus_ray.pretrain.tiny import corpus, encode_example, pretrain


def test_caption_names_every_object_and_where_it_is() -> None:
    scene = Scene(
        (
            SceneObject("star", "red", "small", None, (2, 0)),
            SceneObject("ring", "blue", "large", "striped", (0, 3)),
        ),
        "snow",
    )
    assert caption(scene) == "13 small red star; 41 large striped blue ring; snow"


def test_claims_are_true_or_false_as_wanted() -> None:
    rng = np.random.default_rng(3)
    seen = set()
    for i in range(400):
        _, scene = random_scene(rng)
        claim = random_claim(scene, true=i % 2 == 0, rng=rng)
        if claim is not None:
            assert claim.holds(scene) == (i % 2 == 0), claim
            seen.add((claim.type, i % 2 == 0))
    assert len(seen) == 2 * len(CLAIM_KINDS), "seven kinds, each true and false"


def test_facts_are_those_of_the_scene() -> None:
    scene = Scene((SceneObject("star", "red", "small", None, (2, 0)),), "snow")
    rng = np.random.default_rng(0)
    pairs = {open_question(scene, rng) for _ in range(100)} - {None}
    assert pairs == {
        ("What color is the star?", "red"),
        ("What size is the star?", "small"),
        ("What pattern is the star?", "plain"),
        ("What is the background?", "snow"),
        ("How many stars? Answer a digit.", "1"),
    }


def test_answers_are_balanced_and_no_rating_is_asked() -> None:
    """Half of the claims hold; nothing in the texts asks how well an image matches."""
    rng = np.random.default_rng(4)
    answers = []
    for _ in range(200):
        spec, scene = random_scene(rng)
        pairs = lesson(spec, scene, CLAIM_KINDS, with_prompt=False, rng=rng)
        answers += [answer for _, answer in pairs[1 + N_OPEN :]]
        assert not any("How well" in question for question, _ in pairs)
    assert set(answers) == {"Yes", "No"}
    assert answers.count("Yes") == pytest.approx(len(answers) / 2, rel=0.1)


@pytest.fixture(scope="module", params=sorted(registry.FAMILIES))
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps of pre-training, written as the script writes them."""
    backbone = pretrain(request.param, steps=(1, 1, 1), seed=1, batch_sizes=(2, 2, 2))
    folder: Path = tmp_path_factory.mktemp("trained") / request.param
    tiny.save(backbone.model, backbone.tokenizer.backend_tokenizer, request.param, folder)
    return folder


def test_what_is_written_loads_and_is_small(trained: Path) -> None:
    source = registry.resolve(str(trained))
    backbone = loading.load(source, device="cpu", dtype=torch.float32)
    assert source.family == trained.name
    assert backbone.members == (BASE_MEMBER,)
    assert (trained / "model.safetensors").stat().st_size < 8_000_000


def test_training_follows_its_seed(trained: Path) -> None:
    again = pretrain(trained.name, steps=(1, 1, 1), seed=1, batch_sizes=(2, 2, 2))
    stored = loading.load(registry.resolve(str(trained)), device="cpu", dtype=torch.float32)
    for (name, a), (_, b) in zip(
        again.model.state_dict().items(), stored.model.state_dict().items(), strict=True
    ):
        assert torch.equal(a, b), name


def test_targets_are_the_tokens_of_the_answers(trained: Path) -> None:
    """The token to predict at each answer position is the one that follows it in the text."""
    backbone = loading.load(registry.resolve(str(trained)), device="cpu", dtype=torch.float32)
    rng = np.random.default_rng(5)
    spec, scene = random_scene(rng)
    prefix, pairs = random_prefix(spec, rng), lesson(spec, scene, CLAIM_KINDS, True, rng)
    image = backbone.image_spec.prepare(np.asarray(render(scene, tiny.IMAGE_SIDE)))
    sequence, targets, in_caption = encode_example(backbone, prefix, pairs, image)
    end = backbone.encode_markup("<|im_end|>")
    answers = "".join(backbone.tokenizer.decode(answer) for answer in [targets])
    assert answers == "".join(a + backbone.tokenizer.decode(end) for _, a in pairs)
    assert sum(in_caption) == len(backbone.encode_text(pairs[0][1])) + 1
    for position, target in zip(sequence.answers[:-1], targets[:-1], strict=True):
        following = position + 1
        same_branch = sequence.segments[position] == sequence.segments[following]
        if same_branch and following in sequence.answers:
            assert sequence.ids[following] == target


def test_tokenizer_follows_its_corpus() -> None:
    texts = list(corpus(50))
    assert tiny.build_tokenizer(texts).to_str() == tiny.build_tokenizer(texts).to_str()


@pytest.mark.parametrize("name", registry.BUILT_IN)
def test_shipped_weights_are_small(name: str) -> None:
    assert (registry.WEIGHTS / name / "model.safetensors").stat().st_size <= 8_000_000
