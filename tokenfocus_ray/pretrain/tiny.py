"""Pre-trains and writes the built-in tiny backbones.

    python -m tokenfocus_ray.pretrain.tiny --family qwen2_5_vl --out FOLDER

They learn what a base model knows and no more: to describe synthetic scenes object by object, to
answer questions about them, and to say whether a claim holds. No alignment score is ever shown. The
scenes come from seeds that the benchmark does not use.

What mattered: with the usual small initial weights (``tiny.INITIALIZER_RANGE``) they described well
and still answered claims at chance after 2,000 steps. A claim and its denial about the same thing,
side by side, leave no shortcut past the image.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from tokenfocus_ray.backbones import registry, tiny
from tokenfocus_ray.backbones.base import Backbone, Source
from tokenfocus_ray.backbones.images import PreparedImage
from tokenfocus_ray.backbones.packing import PackedSequence, collate, pack
from tokenfocus_ray.datasets.synthetic.drawing import render
from tokenfocus_ray.pretrain.lessons import (
    CAPTION_QUESTION,
    CLAIM_KINDS,
    lesson,
    random_prefix,
    random_scene,
    whole_lesson,
    wordings,
)
from tokenfocus_ray.scoring.levels import ELEMENT_LEVELS
from tokenfocus_ray.scoring.prompt import PromptTemplate

#: Words of other level vocabularies, so that they are single tokens too.
LEVEL_WORDS = "bad poor fair good excellent 1 2 3 4 5 No Yes no yes a b c d e f g h i j k l m n o"

#: Of each phase: peak learning rate, images a step (the last has twice the questions an image).
LEARNING_RATES, BATCH_SIZES = (1e-3, 5e-4, 1e-3), (32, 32, 16)

log = logging.getLogger(__name__)


def corpus(n: int = 4000) -> Iterator[str]:
    """Texts for the tokenizer: markup, level words, templates and examples."""
    for family in registry.FAMILIES:
        markup = registry.family_class(family).markup
        yield from [markup.before_image, markup.before_answer] * 50
    yield from ["\n".join(LEVEL_WORDS.split())] * 50
    rng = np.random.default_rng([0, 9])
    template = PromptTemplate()
    for i in range(n):
        spec, scene = random_scene(rng)
        with_prompt = i % 2 == 0
        yield random_prefix(spec, rng) if with_prompt else ""
        pairs = wordings(spec, scene, with_prompt, rng)
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
    end = backbone.encode_markup(backbone.markup.after_answer)
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
    backbone: Backbone, steps: int, batch_size: int, seed: int, phase: int, lr: float
) -> None:
    """One phase of pre-training, in place; logs losses and the accuracy on claims.

    Args:
        backbone: From :func:`new_backbone`, or an earlier phase.
        steps: Optimiser steps.
        batch_size: Images a step.
        seed: Of the data.
        phase: 0 without prompts, the first third of the steps with the three easiest types of
            claims only; 1 with most prefixes as in scoring; 2 with all of them, asked about every
            claim of the prompt and about the prompt as a whole.
        lr: Peak learning rate of the one-cycle schedule.
    """
    model, spec_of_images = backbone.model, backbone.image_spec
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.1)
    yes_no = torch.tensor([backbone.encode_text(word)[0] for word in ELEMENT_LEVELS.words])
    model.train()
    started, seen = time.monotonic(), np.zeros(4)
    for step in range(steps):
        rng = np.random.default_rng([991 + seed, step, *([phase] if phase else [])])
        easy = phase == 0 and step < steps * 0.35
        kinds = CLAIM_KINDS[:3] if easy else CLAIM_KINDS
        # of a whole batch, so that its sequences are of like length
        with_prompt = phase == 2 or (phase == 1 and bool(rng.random() < 0.7))
        images, sequences, targets, in_caption = [], [], [], []
        for _ in range(batch_size):
            spec, scene = random_scene(rng)
            if phase == 2:
                pairs = whole_lesson(spec, scene, rng)
            else:
                pairs = lesson(spec, scene, kinds, with_prompt, rng)
            image = spec_of_images.prepare(np.asarray(render(scene, tiny.IMAGE_SIDE)))
            prefix = random_prefix(spec, rng) if with_prompt else ""
            sequence, target, mine = encode_example(backbone, prefix, pairs, image)
            images.append(image)
            sequences.append(sequence)
            targets += target
            in_caption += mine
        batch = collate(sequences, backbone.device)
        logits_AV = backbone.logits(backbone.answer_hidden(backbone.encode_images(images), batch))
        target_A, caption_A = torch.tensor(targets), torch.tensor(in_caption)
        claim_A = torch.isin(target_A, yes_no)
        loss_A = functional.cross_entropy(logits_AV, target_A, reduction="none")
        parts = [loss_A[claim_A], loss_A[caption_A], loss_A[~claim_A & ~caption_A]]
        loss = parts[0].mean() + parts[1].mean() + 0.5 * parts[2].mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        right_A = logits_AV[claim_A].argmax(-1) == target_A[claim_A]
        seen += (
            1,
            *(float(part.detach().mean()) for part in parts[:2]),
            float(right_A.float().mean()),
        )
        if (step + 1) % 50 == 0:
            pace = (time.monotonic() - started) / (step + 1)
            log.info(
                "step %d/%d: claims loss %.3f, captions %.3f, claims right %.3f; %.2f s a step",
                step + 1,
                steps,
                *(seen[1:] / seen[0]),
                pace,
            )
            seen[:] = 0
    model.eval()


def pretrain(
    family: str, steps: Sequence[int], seed: int, batch_sizes: Sequence[int] = BATCH_SIZES
) -> Backbone:
    """All phases: to see and to answer, to do so behind a prompt, to judge a prompt's claims.

    Args:
        family: A key of the registry.
        steps: Optimiser steps of each phase.
        seed: Of weights and data.
        batch_sizes: Images a step of each phase.
    """
    backbone = new_backbone(family, seed)
    for phase, n in enumerate(steps):
        if n:
            train(backbone, n, batch_sizes[phase], seed, phase, LEARNING_RATES[phase])
    return backbone


def main() -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--family", choices=sorted(registry.FAMILIES), required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, nargs=3, default=(1400, 250, 450), metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    torch.set_num_threads(1)  # so that sums do not depend on the number of cores
    backbone = pretrain(args.family, args.steps, args.seed)
    tokenizer = backbone.tokenizer.backend_tokenizer
    tiny.save(backbone.model, tokenizer, args.family, args.out)
    log.info("written to %s", args.out)


if __name__ == "__main__":
    main()
