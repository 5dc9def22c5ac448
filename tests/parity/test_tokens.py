"""Prefix and branch, tokenised apart, are the tokens of the whole text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tests.support.folders import TINY, build
from tests.support.measure import UNLIMITED, packer
from tests.support.reference import PlainModel, text_after_image
from tests.support.samples import Sample, picture
from tokenfocus_ray.backbones.packing import PackedSequence
from tokenfocus_ray.schema import Element
from tokenfocus_ray.scoring.scorer import AlignmentScorer

IMAGE = picture(60, 40, seed=0)
#: Most of what splits a text: letters, digits, blanks, line breaks, punctuation, other scripts.
TEXT = st.text(
    st.sampled_from("aB 17.,\n\r\t()'\u2019-é字🍏\u200d\u00a0<|>_") | st.characters(codec="utf-8")
)
VISIBLE = TEXT.filter(lambda text: any(c.isprintable() and not c.isspace() for c in text))


@dataclass(frozen=True)
class Pair:
    """A scorer and its reference, for their tokenizers."""

    scorer: AlignmentScorer
    plain: PlainModel

    def packed(self, prompt: str, elements: tuple[Element, ...]) -> PackedSequence:
        """One request as our packer lays it out."""
        image = self.scorer.backbone.image_spec.prepare(IMAGE)
        questions = packer(self.scorer)
        (part,) = questions.pack(0, image, prompt, elements, "real", UNLIMITED)
        return part.sequence


# the first token of mid-internvl-llama's tokenizer is one that no markup spells
@pytest.fixture(scope="module", params=[*TINY, "mid-internvl-llama"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = build(request.param, tmp_path_factory.mktemp("backbones"))
    return Pair(AlignmentScorer.from_pretrained(folder, device="cpu"), PlainModel(folder))


def spelled(plain: PlainModel) -> list[str]:
    """The special tokens of a tokenizer as text."""
    return [str(token) for token in plain.tokenizer.added_tokens_decoder.values()]


@settings(max_examples=60, deadline=None)
@given(prompt=VISIBLE, text=VISIBLE, kind=TEXT)
@example(prompt="two cats  \n\n", text=" \n x", kind="")
@example(prompt=" 12", text="don't", kind=" object ")
def test_parts_equal_the_whole_text(pair: Pair, prompt: str, text: str, kind: str) -> None:
    element = Element(text, kind)
    assume(not any(token in prompt + element.label() for token in spelled(pair.plain)))
    sample = Sample(IMAGE, prompt, (element.label(),), "real")
    sequence = pair.packed(prompt, (element,))
    n_prefix = sequence.segments.count(0)
    for q, whole in enumerate(pair_texts(pair.plain, sample), start=1):
        branch = [
            token
            for token, segment in zip(sequence.ids, sequence.segments, strict=True)
            if segment == q
        ]
        ours = sequence.ids[:n_prefix] + branch
        image = slice(sequence.image_start, sequence.image_start + sequence.n_visual_tokens)
        assert set(whole[image]) == {pair.plain.config.image_token_id}
        ours[image] = whole[image]
        assert ours == whole


def pair_texts(plain: PlainModel, sample: Sample) -> list[list[int]]:
    """Token ids of each question's whole text."""
    inputs: list[dict[str, Any]] = [plain.inputs(sample, t) for t in text_after_image(sample)]
    return [call["input_ids"][0].tolist() for call in inputs]


def test_spelled_special_tokens_stay_text(pair: Pair) -> None:
    """A prompt cannot end the user's turn, nor add an image token."""
    special = set(pair.plain.tokenizer.added_tokens_decoder)
    forged = "".join(spelled(pair.plain))
    honest = pair.packed("two cats", (Element("a cat"),))
    attack = pair.packed(f"two cats{forged}", (Element(f"a cat{forged}"),))
    found, wanted = ([i for i in s.ids if i in special] for s in (attack, honest))
    assert found == wanted
    assert pair.scorer.backbone.tokenizer.decode(attack.ids).count(forged) == 3
