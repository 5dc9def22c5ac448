from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.support.samples import labels, picture
from tokenfocus_ray.backbones.base import Backbone
from tokenfocus_ray.errors import PromptError
from tokenfocus_ray.schema import Element
from tokenfocus_ray.scoring.levels import ELEMENT_LEVELS, TOTAL_LEVELS
from tokenfocus_ray.scoring.prompt import PromptTemplate
from tokenfocus_ray.scoring.questions import Part, QuestionPacker

UNLIMITED = 1 << 40


def pack(
    backbone: Backbone,
    n_elements: int,
    answers: Sequence[Sequence[int]] | None,
    token_budget: int = UNLIMITED,
    prompt: str = "two dogs",
) -> list[Part]:
    packer = QuestionPacker(backbone, PromptTemplate(), TOTAL_LEVELS, ELEMENT_LEVELS)
    image = backbone.image_spec.prepare(picture(40, 40, seed=0))
    elements = tuple(Element.parse(label) for label in labels(n_elements))
    return packer.pack(3, image, prompt, elements, "real", token_budget, answers)


def test_answers_of_one_token_are_only_predicted(backbone: Backbone) -> None:
    """The sequence is that of scoring, where the answer is not known."""
    assert pack(backbone, 2, [[10], [11], [12]]) == pack(backbone, 2, None)


def test_longer_answers_are_predicted_token_by_token(backbone: Backbone) -> None:
    """All but an answer's last token stand in its branch; each position predicts the next."""
    (bare,) = pack(backbone, 2, None)
    (part,) = pack(backbone, 2, [[10, 2], [11], [12, 13, 2]])
    before, after = bare.sequence, part.sequence
    branches = [
        [token for token, segment in zip(s.ids, s.segments, strict=True) if segment == q]
        for s in (before, after)
        for q in (1, 2, 3)
    ]
    assert branches[3:] == [[*branches[0], 10], branches[1], [*branches[2], 12, 13]]
    assert [after.segments[a] for a in after.answers] == [1, 1, 2, 3, 3, 3]
    ends = [branches[q][-1] for q in range(3)]
    assert [after.ids[a] for a in after.answers] == [ends[0], 10, ends[1], ends[2], 12, 13]
    for first, other in ((0, 1), (3, 4), (4, 5)):
        one, next_one = after.answers[first], after.answers[other]
        assert (next_one, after.depths[next_one]) == (one + 1, after.depths[one] + 1)
    assert part.n_questions == 3


def test_answers_go_with_their_questions_into_parts(backbone: Backbone) -> None:
    answers = [[10, 2], [11], [12, 13, 2]]
    parts = pack(backbone, 2, answers, token_budget=1)
    assert [(p.request, p.first_question, p.n_questions) for p in parts] == [
        (3, 0, 1),
        (3, 1, 1),
        (3, 2, 1),
    ]
    for part, answer in zip(parts, answers, strict=True):
        ids, read = part.sequence.ids, part.sequence.answers
        assert read == list(range(len(ids) - len(answer), len(ids)))
        assert [ids[a] for a in read[1:]] == answer[:-1]


def test_one_answer_for_each_question(backbone: Backbone) -> None:
    with pytest.raises(ValueError, match="zip"):
        pack(backbone, 2, [[10], [11]])


def test_answers_count_towards_the_context(backbone: Backbone) -> None:
    """What fits in scoring may be too long with a whole answer."""
    most = backbone.context_length
    (part,) = pack(backbone, 0, None)
    room = most - len(part.sequence)
    (part,) = pack(backbone, 0, [[7] * (room + 1)])
    assert len(part.sequence) == most
    with pytest.raises(PromptError) as caught:
        pack(backbone, 0, [[7] * (room + 2)])
    assert (caught.value.code, str(caught.value)) == (
        "prompt_too_long",
        f"image, prompt and longest question need {most + 1} tokens (16 of them for the image), "
        f"but tiny-qwen2_5_vl takes {most}; shorten the prompt or lower max_visual_tokens",
    )
