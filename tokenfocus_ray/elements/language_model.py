"""A backbone as a text model: it lists the elements of prompts, in JSON and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tokenfocus_ray.backbones import loading, registry
from tokenfocus_ray.backbones.base import Backbone, Source
from tokenfocus_ray.elements.cache import AnswerCache
from tokenfocus_ray.elements.decomposed import Decomposed, decomposed, failed, nothing
from tokenfocus_ray.elements.grammar import Vocabulary, Walk, most_tokens
from tokenfocus_ray.elements.wording import MAX_LISTED, question, read_answer
from tokenfocus_ray.schema import Element

if TYPE_CHECKING:
    from torch import Tensor

#: Prompts that are answered together.
BATCH = 16
_TEMPERATURE = 0.7


class LanguageModel:
    """Decomposes prompts with a backbone.

    Args:
        source: The backbone, as the driver resolved it.
        cache: File of answers that are known.
        device: As torch names it; None: a GPU where there is one.
        threads: CPU threads of torch; None: as it is.
        most: Elements of a prompt.
    """

    def __init__(
        self,
        source: Source,
        cache: Path,
        device: str | None = None,
        threads: int | None = None,
        most: int = MAX_LISTED,
    ) -> None:
        import torch

        self._threads, self._most = threads, most
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        dtype = torch.float32 if device == "cpu" else torch.bfloat16
        self._backbone = loading.load(registry.on_this_node(source), device=device, dtype=dtype)
        self._cache = AnswerCache(cache, f"{source.revision} {most}")
        self._vocabulary = vocabulary_of(self._backbone)
        size = self._backbone.model.get_output_embeddings().weight.shape[0]
        self._free = torch.zeros(size, dtype=torch.bool, device=device)
        self._free[torch.tensor(sorted(self._vocabulary.free), device=device)] = True

    def __call__(self, prompts: Sequence[str]) -> Iterator[Decomposed]:
        """What becomes of each prompt, in their order.

        Where an answer lists nothing, or nothing of use, another is drawn by chance, from a seed of
        the prompt's own.
        """
        known = self._cache.get(prompts)
        unknown = [prompt for prompt in dict.fromkeys(prompts) if prompt not in known]
        for start in range(0, len(unknown), BATCH):
            some = unknown[start : start + BATCH]
            made = dict(zip(some, self._answered(some, None), strict=True))
            for prompt in [p for p, one in made.items() if not one.elements]:
                (made[prompt],) = self._answered([prompt], _seed(prompt))
            self._cache.put(made)
            known |= made
        yield from (known[prompt] for prompt in prompts)

    def _answered(self, prompts: Sequence[str], seed: int | None) -> list[Decomposed]:
        ids = [self._ids(prompt) for prompt in prompts]
        room = self._backbone.context_length - most_tokens(self._most)
        fits = [i for i, own in enumerate(ids) if len(own) <= room]
        results = [
            failed(
                f"the question has {len(own):,} tokens, and the backbone has room for {room:,}: "
                f"shorten the prompt, or take a backbone of a longer context"
            )
            for own in ids
        ]
        if fits:
            answers = self._generate([ids[i] for i in fits], seed)
            for i, (answer, listed) in zip(fits, answers, strict=True):
                results[i] = _read(answer, listed, self._most)
        return results

    def _ids(self, prompt: str) -> list[int]:
        """A turn of the user's, without an image."""
        backbone = self._backbone
        start, user, _ = backbone.markup.before_image.rpartition("user\n")
        before = backbone.encode_markup(start + user)
        text = backbone.encode_text(question(prompt))
        bos = backbone.before_image_ids[
            : -len(backbone.encode_markup(backbone.markup.before_image))
        ]
        return [*bos, *before, *text, *backbone.encode_markup(backbone.markup.before_answer)]

    def _generate(self, ids: Sequence[Sequence[int]], seed: int | None) -> list[tuple[str, int]]:
        """Text of each answer, and how many elements were begun in it."""
        import torch
        from transformers import GenerationConfig, LogitsProcessorList

        if self._threads:
            torch.set_num_threads(self._threads)
        model, device = self._backbone.model, self._backbone.device
        pad, longest = self._vocabulary.end[0], max(map(len, ids))
        ids_BT = torch.tensor([[pad] * (longest - len(o)) + list(o) for o in ids], device=device)
        mask_BT = torch.tensor(
            [[0] * (longest - len(o)) + [1] * len(o) for o in ids], device=device
        )
        walks = _Walks(self._vocabulary, self._free, self._most, len(ids))
        config = GenerationConfig(
            max_new_tokens=most_tokens(self._most),
            do_sample=seed is not None,
            **({} if seed is None else {"temperature": _TEMPERATURE, "top_k": 0, "top_p": 1.0}),
            repetition_penalty=1.0,
            num_beams=1,
            use_cache=True,
            eos_token_id=list(self._vocabulary.end),
            pad_token_id=pad,
        )
        with torch.random.fork_rng(enabled=seed is not None), torch.inference_mode():
            if seed is not None:
                torch.manual_seed(seed)
            out_BT = model.generate(
                input_ids=ids_BT,
                attention_mask=mask_BT,
                generation_config=config,
                logits_processor=LogitsProcessorList([walks]),
            )
        texts = self._vocabulary.texts
        rows: list[list[int]] = out_BT[:, longest:].tolist()
        answers = ["".join(texts[token] or "" for token in row) for row in rows]
        return list(zip(answers, (walk.listed for walk in walks.each), strict=True))


class _Walks:
    """Keeps each row of a batch on its way through an answer.

    Args:
        vocabulary: Of the model.
        free_V: Whether a token may stand in an element's text.
        most: Elements of a prompt.
        rows: Of the batch.
    """

    def __init__(self, vocabulary: Vocabulary, free_V: Tensor, most: int, rows: int) -> None:
        self.each = [Walk(vocabulary, most) for _ in range(rows)]
        self._free_V, self._free, self._begun = free_V, vocabulary.free, False

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The scores, with minus infinity where a token does not fit."""
        import torch

        allowed_BV = torch.zeros_like(scores, dtype=torch.bool)
        for row, (walk, token) in enumerate(zip(self.each, input_ids[:, -1].tolist(), strict=True)):
            if self._begun:
                walk.step(token)
            tokens = walk.allowed()
            if self._free <= tokens:
                allowed_BV[row] = self._free_V[: scores.shape[1]]
                tokens = tokens - self._free
            if tokens:
                allowed_BV[row, torch.tensor(sorted(tokens), device=scores.device)] = True
        self._begun = True
        return scores.masked_fill(~allowed_BV, -torch.inf)


def vocabulary_of(backbone: Backbone) -> Vocabulary:
    """What each token writes behind a quote, where no tokenizer adds or drops a space."""
    tokenizer = backbone.tokenizer
    size = backbone.model.get_output_embeddings().weight.shape[0]
    known = min(size, len(tokenizer))
    quote = backbone.encode_markup('"')
    written: list[str] = tokenizer.batch_decode(
        [[*quote, token] for token in range(known)], clean_up_tokenization_spaces=False
    )
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    texts: list[str | None] = [
        None if token in special or not text.startswith('"') else text[1:]
        for token, text in enumerate(written)
    ]
    end = backbone.encode_markup(backbone.markup.after_answer)[:1]
    return Vocabulary(texts + [None] * (size - known), tuple(end))


def _read(answer: str, listed: int, most: int) -> Decomposed:
    try:
        elements: list[Element] = read_answer(answer)
    except ValueError as error:
        return failed(str(error))
    if not elements:
        return nothing("the backbone lists no elements")
    full = f"the backbone may list {most} elements, and did; there may be more"
    return decomposed(elements, full if listed >= most else None)


def _seed(prompt: str) -> int:
    return int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:4], "big")
