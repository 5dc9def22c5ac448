"""What a backbone has to do for the rows of a sample: real sizes, real tokenizer, real packing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tokenfocus_ray.backbones.adapter_files import stored_shapes
from tokenfocus_ray.backbones.base import Backbone
from tokenfocus_ray.backbones.flops import DecoderFlops, decoder_flops
from tokenfocus_ray.backbones.images import ImagePlan, PreparedImage
from tokenfocus_ray.backbones.lora import VISION_PARTS
from tokenfocus_ray.backbones.packing import micro_batches
from tokenfocus_ray.config import ScoringConfig
from tokenfocus_ray.datasets.manifest import Columns
from tokenfocus_ray.errors import RowError
from tokenfocus_ray.plan.cost import (
    ADAPTER_BYTES,
    GIB,
    VALUE_BYTES,
    Memory,
    Widths,
    Work,
    activation_bytes,
)
from tokenfocus_ray.plan.sample import SampledRow
from tokenfocus_ray.scoring.levels import LevelVocabulary
from tokenfocus_ray.scoring.prompt import PromptTemplate
from tokenfocus_ray.scoring.questions import Part, QuestionPacker
from tokenfocus_ray.scoring.request import read_elements
from tokenfocus_ray.scoring.scorer import TOKEN_BUDGET
from tokenfocus_ray.scoring.wire import text_of

#: Two-sided 95 % of a normal distribution.
_Z = 1.96


@dataclass(frozen=True, slots=True)
class Members:
    """The members of a backbone.

    Attributes:
        count: Passes of the language model over each sequence.
        language_values: Values of all adapters on the language model.
        vision_values: Values of all adapters before it; any make a vision pass for each member.
    """

    count: int = 1
    language_values: int = 0
    vision_values: int = 0

    @classmethod
    def of(cls, adapters: Mapping[str, str]) -> Members:
        """Of adapters in local folders; none: the backbone itself.

        Raises:
            AdapterError: a file cannot be read.
        """
        sizes: Counter[bool] = Counter()
        for name, folder in adapters.items():
            for key, shape in stored_shapes(name, Path(folder)).items():
                sizes[any(part in key for part in VISION_PARTS)] += math.prod(shape)
        return cls(max(1, len(adapters)), sizes[False], sizes[True])

    @property
    def vision_passes(self) -> int:
        """Passes of the vision tower over each image."""
        return self.count if self.vision_values else 1


@dataclass(frozen=True, slots=True)
class Workload:
    """What the sample says of the manifest, for one backbone.

    Attributes:
        scored: Share of the rows that can be scored, as far as can be seen without scoring.
        unscored: Rows of the sample that cannot, by error code.
        work: Of an image that can; None where none can.
        margin: Half the width of a 95 % interval of the operations of an image, as a share of them.
        parts: Sequences of an image: above 1 where some have very many elements.
        longest: Tokens of the longest sequence.
    """

    scored: float
    unscored: dict[str, int]
    work: Work | None
    margin: float
    parts: float
    longest: int


def workload(
    backbone: Backbone,
    config: ScoringConfig,
    rows: Sequence[SampledRow],
    columns: Columns,
    members: Members,
    commit_rows: int,
) -> Workload:
    """Packs the rows of a sample as a scorer would.

    Args:
        backbone: Its shapes are enough.
        config: How it is asked.
        rows: Of the sample.
        columns: Which column is what.
        members: Of the backbone.
        commit_rows: Rows that are scored together, among which micro-batches are formed.

    Raises:
        LevelError: a level word is not one token.
        BackboneError: the tokenizer cannot be used.
    """
    levels = (LevelVocabulary.of(c) for c in (config.total_levels, config.element_levels))
    packer = QuestionPacker(backbone, PromptTemplate(structure=config.structure), *levels)
    decoder = decoder_flops(backbone.model)
    asked: list[tuple[SampledRow, ImagePlan, list[Part]]] = []
    unscored: Counter[str] = Counter()
    for row in rows:
        try:
            plan, parts = _packed(packer, backbone, row, columns, len(asked))
        except RowError as error:
            unscored[error.code] += 1
        else:
            asked.append((row, plan, parts))
    weight = sum(row.weight for row, *_ in asked)
    share = weight / max(1e-9, sum(row.weight for row in rows))
    if not asked:
        return Workload(0.0, dict(unscored), None, 0.0, 0.0, 0)
    works = []
    for start in range(0, len(asked), commit_rows):
        some = asked[start : start + commit_rows]
        padded = _padded([part for *_, parts in some for part in parts])
        works += [_work(backbone, decoder, members, p, parts, padded) for _, p, parts in some]
    weights = np.array([row.weight for row, *_ in asked])
    flops = np.array([work.flops for work in works])
    mean = float(np.average(flops, weights=weights))
    # of a mean of weighted draws, without replacement
    drawn = len(rows) / max(len(rows), sum(row.weight for row in rows))
    spread = math.sqrt(float((weights**2 * (flops - mean) ** 2).sum()) * (1 - drawn))
    spread /= weights.sum()
    names = Work.__dataclass_fields__
    values = {n: float(np.average([getattr(w, n) for w in works], weights=weights)) for n in names}
    sequences = [part.sequence for *_, parts in asked for part in parts]
    n_parts = float(np.average([len(parts) for *_, parts in asked], weights=weights))
    longest = max(map(len, sequences))
    margin = float(_Z * spread / mean) if mean else 0.0
    return Workload(share, dict(unscored), Work(**values), margin, n_parts, longest)


def _packed(
    packer: QuestionPacker, backbone: Backbone, row: SampledRow, c: Columns, index: int
) -> tuple[ImagePlan, list[Part]]:
    if row.error is not None:
        raise row.error
    assert row.size is not None
    plan = backbone.image_spec.plan(*row.size)
    values = row.values
    elements = read_elements(values[c.elements]) if c.elements else ()
    if isinstance(elements, RowError):
        raise elements
    none = np.empty((0, 0, 0, 3), np.uint8)  # only its number of tokens is asked for
    image = PreparedImage(none, plan.n_visual_tokens, plan.grid, *row.size)
    kind = text_of(values[c.prompt_type]) if c.prompt_type else None
    prompt = text_of(values[c.prompt])
    return plan, packer.pack(index, image, prompt, tuple(elements), kind, TOKEN_BUDGET)


def _padded(parts: Sequence[Part]) -> dict[tuple[int, int], int]:
    """Request and first question of a part -> its length in its micro-batch."""
    lengths = [len(part.sequence) for part in parts]
    found = {}
    for batch in micro_batches(lengths, TOKEN_BUDGET):
        for i in batch:
            found[parts[i].request, parts[i].first_question] = lengths[batch[0]]
    return found


def _work(
    backbone: Backbone,
    decoder: DecoderFlops,
    members: Members,
    plan: ImagePlan,
    parts: Sequence[Part],
    padded: Mapping[tuple[int, int], int],
) -> Work:
    lengths = [padded[part.request, part.first_question] for part in parts]
    answers = sum(len(part.sequence.answers) for part in parts)
    language = sum(decoder.sequence(length, 0) for length in lengths) * members.count
    # two operations a value and token, as of any linear layer
    language += 2 * members.language_values * sum(lengths)
    patches = plan.n_visual_tokens * backbone.patches_per_token
    vision = backbone.vision_flops(plan) * members.vision_passes
    vision += 2 * members.vision_values * patches
    head = decoder.answer * answers * members.count
    return Work(plan.n_visual_tokens, sum(lengths), answers, vision, language, head)


def widths_of(backbone: Backbone) -> Widths:
    """The sizes that decide its memory."""
    config = backbone.model.config
    text, vision = config.get_text_config(), config.vision_config
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    patch = next(iter(_patch_shapes(backbone.model)))
    return Widths(
        hidden=text.hidden_size,
        keys=2 * text.num_key_value_heads * head,
        middle=text.intermediate_size,
        vocabulary=text.vocab_size,
        patch=math.prod(patch[1:]),
        vision_hidden=vision.hidden_size,
        vision_middle=vision.intermediate_size,
        patches_per_token=backbone.patches_per_token,
    )


def _patch_shapes(model: Any) -> Iterator[tuple[int, ...]]:
    """Shapes of what makes patches: how many, then channels and sides of one."""
    import torch

    for part in model.modules():
        if isinstance(part, (torch.nn.Conv2d, torch.nn.Conv3d)):
            yield tuple(part.weight.shape)


def memory_of(backbone: Backbone, dtype: str, members: Members, load: Workload) -> Memory:
    """What a scoring actor holds.

    Args:
        backbone: Its shapes are enough.
        dtype: Of its weights.
        members: Of the backbone.
        load: With some row that can be scored.
    """
    assert load.work is not None
    work, widths = load.work, widths_of(backbone)
    length = work.tokens / load.parts
    per_token = work.answers / work.tokens
    share = min(1.0, work.visual_tokens * load.parts / work.tokens)
    batch, longest = (
        activation_bytes(widths, dtype, tokens, size, share, tokens * per_token)
        for tokens, size in ((TOKEN_BUDGET, length), (load.longest, load.longest))
    )
    weights = sum(p.numel() for p in backbone.model.parameters()) * VALUE_BYTES[dtype]
    adapters = (members.language_values + members.vision_values) * ADAPTER_BYTES
    return Memory(weights / GIB, adapters / GIB, batch / GIB, longest / GIB, TOKEN_BUDGET)
