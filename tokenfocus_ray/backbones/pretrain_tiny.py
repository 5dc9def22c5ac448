"""Pre-trains and writes the built-in tiny backbones.

    python -m tokenfocus_ray.backbones.pretrain_tiny --family qwen2_5_vl --out FOLDER

They learn what a base model knows and no more: to describe synthetic scenes object by object, to
answer yes/no questions about them and to count. No alignment score is ever shown. The scenes come
from seeds that the benchmark does not use. Without the captions such a model does not learn to see.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from tokenfocus_ray.backbones import registry, tiny
from tokenfocus_ray.backbones.base import Backbone, PreparedImage, Source
from tokenfocus_ray.backbones.packing import PackedSequence, collate, pack
from tokenfocus_ray.datasets.scenes import (
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
    render,
)
from tokenfocus_ray.datasets.synthetic import GENERATORS, prompt_text
from tokenfocus_ray.scoring.levels import ELEMENT_LEVELS
from tokenfocus_ray.scoring.prompt import PromptTemplate

CAPTION_QUESTION = "Describe the image."
YES_NO_QUESTIONS = (
    "Does the image show {label}? {hint}",
    "Is this true of the image: {text}? {hint}",
    "{text}? {hint}",
)
WITH_PROMPT = 0.25
N_YES_NO = 6
#: Of a drill: questions answered by a word, and claims.
N_OPEN, N_CLAIMS = 5, 8
#: Words of other level vocabularies, so that they are single tokens too.
LEVEL_WORDS = "bad poor fair good excellent 1 2 3 4 5 No Yes no yes a b c d e f g h i j k l m n o"

log = logging.getLogger(__name__)


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


def questions(
    spec: SceneSpec, scene: Scene, with_prompt: bool, rng: np.random.Generator
) -> list[tuple[str, str]]:
    """(question, answer) pairs: the caption, yes/no claims half of which hold, one count."""
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


def drills(spec: SceneSpec, scene: Scene, rng: np.random.Generator) -> list[tuple[str, str]]:
    """(question, answer) pairs without a caption: facts to read off, and claims in both versions.

    A claim and its denial share everything but the fact, so only the image can tell them apart;
    a fact asked for by itself is half of what checking a claim takes.
    """
    pairs: list[tuple[str, str]] = []
    while len(pairs) < N_OPEN:
        if (pair := open_question(scene, rng)) is not None:
            pairs.append(pair)
    while len(pairs) < N_OPEN + N_CLAIMS:
        seed = int(rng.integers(2**32))
        both = [random_claim(scene, want, np.random.default_rng(seed)) for want in (True, False)]
        if rng.random() < 0.3:
            asked = claims(spec)
            both = [asked[int(rng.integers(len(asked)))]]
        wording = YES_NO_QUESTIONS[int(rng.choice(len(YES_NO_QUESTIONS), p=[0.5, 0.25, 0.25]))]
        pairs += [_yes_no(claim, wording, scene) for claim in both if claim is not None]
    return pairs


def _yes_no(claim: Claim, wording: str, scene: Scene) -> tuple[str, str]:
    element = claim.element()
    hint = ELEMENT_LEVELS.answer_hint()
    text = wording.format(label=element.label(), text=element.text, hint=hint)
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


def random_example(
    rng: np.random.Generator, with_prompt: bool, drill: bool = False
) -> tuple[Scene, str, list[tuple[str, str]]]:
    """A scene, the text of the prefix (empty without prompt) and its (question, answer) pairs."""
    spec = random_spec(rng)
    generator = GENERATORS[int(rng.integers(len(GENERATORS)))]
    scene = lay_out(generator.imagine(spec, rng), rng)
    prefix = ""
    if with_prompt:
        style = "synthetic" if rng.random() < 0.6 else "real"
        elements = [c.element() for c in claims(spec)]
        prefix = PromptTemplate().prefix(prompt_text(spec, style), elements, style)
    if drill:
        return scene, prefix, drills(spec, scene, rng)
    return scene, prefix, questions(spec, scene, with_prompt, rng)


def corpus(n: int = 4000) -> Iterator[str]:
    """Texts for the tokenizer: markup, level words, templates and examples."""
    for family in registry.FAMILIES:
        markup = registry.family_class(family).markup
        yield from [markup.before_image, markup.before_answer] * 50
    yield from ["\n".join(LEVEL_WORDS.split())] * 50
    rng = np.random.default_rng([0, 9])
    template = PromptTemplate()
    for i in range(n):
        _, prefix, pairs = random_example(rng, with_prompt=i % 2 == 0)
        yield prefix
        yield from template.questions([])
        yield from ("\n".join(pair) for pair in pairs)


def encode_example(
    backbone: Backbone, prefix: str, pairs: list[tuple[str, str]], image: PreparedImage
) -> tuple[PackedSequence, list[int], list[bool]]:
    """Packs an example for training on whole answers.

    Returns:
        The sequence, its target token at each answer position, and whether that token belongs to
        the caption.
    """
    end = backbone.encode_markup("<|im_end|>")
    before_answer = backbone.encode_markup(backbone.markup.before_answer)
    branches, n_answers, targets, in_caption = [], [], [], []
    for question, answer in pairs:
        tokens = backbone.encode_text(answer) + end
        branches.append(backbone.encode_text(question) + before_answer + tokens[:-1])
        n_answers.append(len(tokens))
        targets += tokens
        in_caption += [question == CAPTION_QUESTION] * len(tokens)
    after = backbone.encode_markup(backbone.markup.after_image) + backbone.encode_text(prefix)
    sequence = pack(
        backbone.before_image_ids,
        image.n_visual_tokens,
        image.grid,
        after,
        branches,
        n_answers,
    )
    return sequence, targets, in_caption


def new_backbone(family: str, seed: int) -> Backbone:
    """A tiny backbone of random weights, with its tokenizer."""
    from transformers import PreTrainedTokenizerFast

    torch.manual_seed(seed)
    model = tiny.build_model(family)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tiny.build_tokenizer(corpus()),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
    )
    cls = registry.family_class(family)
    spec = cls.image_spec_from(model.config.to_dict(), tiny.preprocessor_config(family))
    return cls(model, tokenizer, spec, Source(f"tiny-{family}", "", family, ""))


def train(
    backbone: Backbone, steps: int, batch_size: int, seed: int, drill: bool, lr: float = 1e-3
) -> None:
    """One phase of pre-training, in place; logs loss and yes/no accuracy.

    Args:
        backbone: From :func:`new_backbone`, or an earlier phase.
        steps: Optimiser steps.
        batch_size: Images a step.
        seed: Of the data.
        drill: Captions and some questions, or questions only.
        lr: Peak learning rate of the one-cycle schedule.
    """
    model, spec = backbone.model, backbone.image_spec
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.1)
    model.train()
    started, seen = time.monotonic(), np.zeros(3)
    for step in range(steps):
        rng = np.random.default_rng([7919, seed, step, *([1] if drill else [])])
        images, sequences, targets, in_caption = [], [], [], []
        with_prompt = bool(rng.random() < WITH_PROMPT)  # alike lengths in a batch: less padding
        for _ in range(batch_size):
            scene, prefix, pairs = random_example(rng, with_prompt, drill)
            image = spec.prepare(np.asarray(render(scene, tiny.IMAGE_SIDE)))
            sequence, target, mine = encode_example(backbone, prefix, pairs, image)
            images.append(image)
            sequences.append(sequence)
            targets += target
            in_caption += mine
        features_VD = backbone.encode_images(images)
        logits_AV = backbone.logits(
            backbone.answer_hidden(features_VD, collate(sequences, backbone.device))
        )
        target_A, caption_A = torch.tensor(targets), torch.tensor(in_caption)
        loss_A = functional.cross_entropy(logits_AV, target_A, reduction="none")
        loss = loss_A[~caption_A].mean()
        if caption_A.any():
            loss = loss + loss_A[caption_A].mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        yes_no_A = torch.isin(target_A, torch.tensor(_yes_no_ids(backbone)))
        right = (logits_AV[yes_no_A].argmax(-1) == target_A[yes_no_A]).float().mean()
        seen += (1, float(loss.detach()), float(right))
        if (step + 1) % 50 == 0:
            pace = (time.monotonic() - started) / (step + 1)
            log.info(
                f"step {step + 1}/{steps} loss {seen[1] / seen[0]:.3f} "
                f"yes/no accuracy {seen[2] / seen[0]:.3f}, {pace:.2f} s a step"
            )
            seen[:] = 0
    model.eval()


def pretrain(family: str, steps: tuple[int, int], batch_size: int, seed: int) -> Backbone:
    """Both phases: to describe and see, then to answer."""
    backbone = new_backbone(family, seed)
    for drill, n in enumerate(steps):
        train(backbone, n, batch_size, seed, drill=bool(drill))
    return backbone


def _yes_no_ids(backbone: Backbone) -> list[int]:
    return [backbone.encode_text(word)[0] for word in ELEMENT_LEVELS.words]


def main() -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--family", choices=sorted(registry.FAMILIES), required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, nargs=2, default=(2000, 1000), metavar="N")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    torch.set_num_threads(1)  # so that sums do not depend on the number of cores
    backbone = pretrain(args.family, tuple(args.steps), args.batch_size, args.seed)
    tokenizer = backbone.tokenizer.backend_tokenizer
    tiny.save(backbone.model, tokenizer, args.family, args.out)
    log.info("written to %s", args.out)


if __name__ == "__main__":
    main()
