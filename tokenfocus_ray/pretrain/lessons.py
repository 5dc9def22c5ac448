"""What the tiny backbones are taught: captions, facts and claims about random scenes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tokenfocus_ray.datasets.synthetic.benchmark import GENERATORS, prompt_text
from tokenfocus_ray.datasets.synthetic.scenes import (
    BACKGROUNDS,
    COLORS,
    NUMBERS,
    PATTERNS,
    PLURALS,
    RELATIONS,
    SHAPES,
    SIZES,
    Claim,
    Scene,
    SceneSpec,
    claims,
    lay_out,
    random_spec,
)
from tokenfocus_ray.scoring.levels import ELEMENT_LEVELS
from tokenfocus_ray.scoring.prompt import PromptTemplate

CAPTION_QUESTION = "Describe the image."
YES_NO_QUESTIONS = (
    "Does the image show {label}? {hint}",
    "Is this true of the image: {text}? {hint}",
    "{text}? {hint}",
)
#: Asked of the whole prompt: to answer them, the claims have to be put together.
WHOLE_QUESTIONS = (
    "Does the image show all that the text prompt asks for? {hint}",
    "How many of the elements does the image show? Answer a digit.",
)
N_YES_NO = 6
#: Of a lesson, beside the caption: questions answered by a word, and claims.
N_OPEN, N_CLAIMS = 3, 6
#: Of a lesson about a whole prompt: claims beside the prompt's own, which are mostly true.
N_OTHER = 6
#: Easiest first.
CLAIM_KINDS = ("object", "color", "location", "attribute", "material", "spatial", "counting")


def caption(scene: Scene) -> str:
    """Row by row: where each object is and what it is, then the background."""
    parts = []
    for o in scene.objects:
        words = [f"{o.cell[1] + 1}{o.cell[0] + 1}", o.size, o.pattern, o.color, o.shape]
        parts.append(" ".join(w for w in words if w))
    return "; ".join([*parts, scene.background])


def random_claim(scene: Scene, true: bool, rng: np.random.Generator) -> Claim | None:
    """A claim about what is (or is not) in the scene; None where the scene allows none."""

    def other(names: Any, current: Any) -> str:
        return str(rng.choice([n for n in names if n != current]))

    kinds = (
        "object",
        "color",
        "counting",
        "attribute",
        "material",
        "spatial",
        "location",
    )
    kind = str(rng.choice(kinds))
    if kind == "location":
        right = scene.background
        return Claim(kind, value=right if true else other(BACKGROUNDS, right))
    present = sorted({o.shape for o in scene.objects})
    if kind == "object" and not true:
        absent = [s for s in SHAPES if s not in present]
        return Claim(kind, str(rng.choice(absent)))
    thing = scene.objects[int(rng.integers(len(scene.objects)))]
    count = sum(o.shape == thing.shape for o in scene.objects)
    near = [n for n in (count - 1, count + 1) if 1 <= n < len(NUMBERS)]
    claim = {
        "object": Claim(kind, thing.shape),
        "color": Claim(kind, thing.shape, thing.color if true else other(COLORS, thing.color)),
        "attribute": Claim(kind, thing.shape, thing.size if true else other(SIZES, thing.size)),
        "material": Claim(
            kind,
            thing.shape,
            (thing.pattern or "") if true else other(PATTERNS, thing.pattern),
        ),
        "counting": Claim(
            kind, thing.shape, NUMBERS[min(count, 6) if true else int(rng.choice(near))]
        ),
        "spatial": Claim(
            kind,
            thing.shape,
            str(rng.choice(list(RELATIONS))),
            other(present, thing.shape) if len(present) > 1 else "",
        ),
    }[kind]
    usable = claim.value != "" or kind == "object"
    usable = usable and (kind != "spatial" or claim.other != "")
    return claim if usable and claim.holds(scene) == true else None


def wordings(
    spec: SceneSpec, scene: Scene, with_prompt: bool, rng: np.random.Generator
) -> list[tuple[str, str]]:
    """(question, answer) pairs in many wordings, for the tokenizer to learn from."""
    pairs = [(CAPTION_QUESTION, caption(scene))]
    pool = [c for c in claims(spec) if with_prompt]
    want = bool(rng.integers(2))
    while len(pairs) <= N_YES_NO:
        claim = random_claim(scene, want, rng)
        if pool and rng.random() < 0.5:
            mine = [c for c in pool if c.holds(scene) == want]
            claim = mine[int(rng.integers(len(mine)))] if mine else claim
        if claim is None:
            continue
        wording = YES_NO_QUESTIONS[int(rng.choice(len(YES_NO_QUESTIONS), p=[0.5, 0.25, 0.25]))]
        element = claim.element()
        text = wording.format(
            label=element.label(), text=element.text, hint=ELEMENT_LEVELS.answer_hint()
        )
        pairs.append((text, "Yes" if want else "No"))
        want = not want
    shape = str(rng.choice(SHAPES))
    if rng.random() < 0.7:
        shape = scene.objects[int(rng.integers(len(scene.objects)))].shape
    count = sum(o.shape == shape for o in scene.objects)
    pairs.append((f"How many {PLURALS[shape]}? Answer a digit.", str(count)))
    return pairs


def lesson(
    spec: SceneSpec, scene: Scene, kinds: Sequence[str], with_prompt: bool, rng: np.random.Generator
) -> list[tuple[str, str]]:
    """(question, answer) pairs: the caption, facts to name, claims with their denials.

    A claim and its denial share everything but the fact, so only the image can tell them apart; a
    fact asked for by itself is half of what checking a claim takes.

    Args:
        spec: What the prompt asks for.
        scene: What was drawn.
        kinds: Types of claims.
        with_prompt: Whether claims of the prompt are among them.
        rng: Source of randomness.
    """
    pairs = [(CAPTION_QUESTION, caption(scene))]
    while len(pairs) < 1 + N_OPEN:
        if (pair := open_question(scene, rng)) is not None:
            pairs.append(pair)
    while len(pairs) < 1 + N_OPEN + N_CLAIMS:
        if with_prompt and rng.random() < 0.5:
            asked = claims(spec)
            pairs.append(_yes_no(asked[int(rng.integers(len(asked)))], scene))
            continue
        for want in (True, False):
            tries = (random_claim(scene, want, rng) for _ in range(50))
            claim = next((c for c in tries if c is not None and c.type in kinds), None)
            if claim is not None:
                pairs.append(_yes_no(claim, scene))
    return pairs


def whole_lesson(spec: SceneSpec, scene: Scene, rng: np.random.Generator) -> list[tuple[str, str]]:
    """(question, answer) pairs: the caption, every claim of the prompt, and the prompt as a whole.

    The prefix must list the elements of the same claims, see :func:`random_prefix`.

    Args:
        spec: What the prompt asks for.
        scene: What was drawn.
        rng: Source of randomness.
    """
    asked = claims(spec)
    held = [claim.holds(scene) for claim in asked]
    hint = ELEMENT_LEVELS.answer_hint()
    pairs = [(CAPTION_QUESTION, caption(scene))]
    pairs += [_yes_no(claim, scene) for claim in asked]
    while len(pairs) < 1 + len(asked) + N_OTHER:
        for want in (True, False):
            claim = random_claim(scene, want, rng)
            if claim is not None:
                pairs.append(_yes_no(claim, scene))
    pairs.append((WHOLE_QUESTIONS[0].format(hint=hint), "Yes" if all(held) else "No"))
    pairs.append((WHOLE_QUESTIONS[1], str(min(9, sum(held)))))
    return pairs


def _yes_no(claim: Claim, scene: Scene) -> tuple[str, str]:
    label, hint = claim.element().label(), ELEMENT_LEVELS.answer_hint()
    text = PromptTemplate().element_question.format(label=label, hint=hint)
    return text, "Yes" if claim.holds(scene) else "No"


def open_question(scene: Scene, rng: np.random.Generator) -> tuple[str, str] | None:
    """A question whose answer is a word; None where the scene leaves the answer open."""
    thing = scene.objects[int(rng.integers(len(scene.objects)))]
    alike = [o for o in scene.objects if o.shape == thing.shape]
    others = sorted({o.shape for o in scene.objects} - {thing.shape})
    kind = str(rng.choice(["color", "size", "pattern", "background", "count", "relation"]))
    if kind == "background":
        return "What is the background?", scene.background
    if kind == "count":
        return f"How many {PLURALS[thing.shape]}? Answer a digit.", str(len(alike))
    if kind == "relation":
        other = str(rng.choice(others)) if others else ""
        held = [r for r in RELATIONS if Claim("spatial", thing.shape, r, other).holds(scene)]
        if len(held) != 1:
            return None
        return f"Where is the {thing.shape} from the {other}?", held[0].split()[0]
    answers = {str(getattr(o, kind) or "plain") for o in alike}
    return (f"What {kind} is the {thing.shape}?", answers.pop()) if len(answers) == 1 else None


def random_scene(rng: np.random.Generator) -> tuple[SceneSpec, Scene]:
    """What a prompt asks for, and what a simulated generator drew instead."""
    spec = random_spec(rng)
    generator = GENERATORS[int(rng.integers(len(GENERATORS)))]
    return spec, lay_out(generator.imagine(spec, rng), rng)


def random_prefix(spec: SceneSpec, rng: np.random.Generator) -> str:
    """The scoring template's prefix for a spec."""
    style = "synthetic" if rng.random() < 0.6 else "real"
    elements = [c.element() for c in claims(spec)]
    return PromptTemplate().prefix(prompt_text(spec, style), elements, style)
