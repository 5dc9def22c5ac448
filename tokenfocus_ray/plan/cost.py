"""The arithmetic of a plan: operations to hours, bytes to cards, rates to CPU cores.

Pure functions of numbers; where these come from is the other files' business.
"""

from __future__ import annotations

from dataclasses import dataclass

GIB = 2**30
GIGA = 1e9

#: Share of a card's peak that is assumed where nothing was measured: lowest and highest. An
#: assumption, not a figure of this package: it spans what is published of training large language
#: models (PaLM, arXiv 2204.02311, table 3; Llama 3, arXiv 2407.21783, table 4).
EFFICIENCY = (0.2, 0.5)
#: Share of a card's memory that is left to its driver, its libraries and fragments. An assumption.
RESERVED = 0.08
#: Bytes of a value of an adapter: peft keeps LoRA in float32 whatever the weights are.
ADAPTER_BYTES = 4
#: Cores that Ray's own processes and the driver take while a job runs; measured on 2 cores, with
#: one scorer.
RAY_CORES = 0.13
VALUE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, slots=True)
class Work:
    """What an image takes on average.

    Attributes:
        visual_tokens: Image tokens.
        tokens: Of its sequences, image tokens and padding included; of one language pass.
        answers: Answer positions.
        vision_flops: Operations of the vision tower, over all its passes.
        language_flops: Of the language model, over all members.
        head_flops: Of the head at the answer positions, likewise.
    """

    visual_tokens: float
    tokens: float
    answers: float
    vision_flops: float
    language_flops: float
    head_flops: float

    @property
    def flops(self) -> float:
        """All operations of an image."""
        return self.vision_flops + self.language_flops + self.head_flops


@dataclass(frozen=True, slots=True)
class Widths:
    """The sizes that decide a forward pass's memory, in values.

    Attributes:
        hidden: Of a token of the language model.
        keys: Keys and values of a token together.
        middle: Of a token inside of an MLP.
        vocabulary: Of the head.
        patch: What a patch is made of.
        vision_hidden: Of a patch in the vision tower.
        vision_middle: Of a patch inside of an MLP.
        patches_per_token: Patches for each image token.
    """

    hidden: int
    keys: int
    middle: int
    vocabulary: int
    patch: int
    vision_hidden: int
    vision_middle: int
    patches_per_token: int


def activation_bytes(
    widths: Widths, dtype: str, tokens: float, length: float, visual_share: float, answers: float
) -> float:
    """An estimate of what a micro-batch holds at its peak, in bytes.

    The peak is within one layer, since nothing is kept for a backward pass and no keys are kept for
    generating: residual, normed input and their products, and the mask with the bias that a kernel
    makes of it. The vision tower runs before the language model, so the larger of both counts.

    Args:
        widths: Of the backbone.
        dtype: Of its weights.
        tokens: Of the micro-batch, padding included.
        length: Of its sequences, in tokens.
        visual_share: Image tokens among them.
        answers: Answer positions among its tokens.
    """
    w, b = widths, VALUE_BYTES[dtype]
    layer = max(4 * w.hidden + w.keys, 2 * w.hidden + 3 * w.middle)
    language = tokens * (w.hidden + layer) * b + tokens * length * (1 + b)
    vision_layer = max(5 * w.vision_hidden, 2 * w.vision_hidden + 3 * w.vision_middle)
    patches = tokens * visual_share * w.patches_per_token
    vision = patches * (w.patch * (4 + b) + (w.vision_hidden + vision_layer) * b)
    features = tokens * visual_share * w.hidden * b
    return max(language, vision) + features + answers * w.vocabulary * (b + 8)


@dataclass(frozen=True, slots=True)
class Memory:
    """An estimate of what a scoring actor holds on its card, in GiB.

    Attributes:
        weights: Of the backbone.
        adapters: Of all members.
        batch: Of a micro-batch at its peak, of ``batch_tokens``.
        longest: Of the longest sequence alone, without which nothing can be scored.
        batch_tokens: Tokens of that micro-batch.
    """

    weights: float
    adapters: float
    batch: float
    longest: float
    batch_tokens: int

    @property
    def needed(self) -> float:
        """The least that is enough: smaller micro-batches are made where memory is short."""
        return self.weights + self.adapters + self.longest

    @property
    def usual(self) -> float:
        """With micro-batches of the usual size."""
        return self.weights + self.adapters + self.batch

    def fits(self, card_gib: float) -> bool:
        """Whether a card of so much memory is enough."""
        return self.needed <= usable(card_gib)


def usable(card_gib: float) -> float:
    """What of a card's memory is there for weights and activations.

    >>> usable(24.0)
    22.08
    """
    return round(card_gib * (1 - RESERVED), 2)


def device_seconds(
    flops: float, peak: float, efficiency: float, moved_bytes: float, bandwidth: float | None
) -> float:
    """Seconds of an image on a card: arithmetic, or moving weights where that takes longer.

    The two bounds of the roofline model (Williams, Waterman, Patterson, 2009).

    >>> device_seconds(1e12, 1e14, 0.5, 1e9, None), device_seconds(1e12, 1e14, 0.5, 1e9, 1e10)
    (0.02, 0.1)

    Args:
        flops: Operations.
        peak: Operations a second at the most.
        efficiency: Share of it that is reached.
        moved_bytes: Of the weights that are read, shared among the images of a micro-batch.
        bandwidth: Bytes a second; None: not known, and taken for no bound.
    """
    moving = 0.0 if bandwidth is None else moved_bytes / bandwidth
    return max(flops / (peak * efficiency), moving)


def cores_to_feed(images_per_s: float, prepare_seconds: float) -> float:
    """CPU cores that prepare as many images as a card scores.

    >>> cores_to_feed(100.0, 0.02)
    2.0
    """
    return images_per_s * prepare_seconds


def busy_share(cpus: float, cores: float) -> float:
    """Share of the time in which a card has work, with so many cores of those it would need.

    >>> busy_share(4, 8.0), busy_share(4, 2.0)
    (0.5, 1.0)
    """
    return 1.0 if cores <= 0 else min(1.0, cpus / cores)


def job_seconds(
    score_seconds: float,
    prepare_seconds: float,
    busy_cores: float,
    cores: int,
    workers: int,
    threads: int,
) -> float:
    """Seconds an image of a job whose stages share a machine's cores.

    Scorers and the tasks that feed them run at the same time. A scorer on a GPU leaves the cores
    nearly idle, and the slower stage decides. A scorer on the CPU holds them, and both stages' work
    adds up; its threads wait for each other, so where something else takes one of their cores for a
    moment, all of them stand still. Ray's own processes take :data:`RAY_CORES` all the time.

    >>> job_seconds(0.010, 0.020, busy_cores=1.0, cores=16, workers=1, threads=1)  # a GPU
    0.01
    >>> round(job_seconds(0.010, 0.320, 1.0, 16, workers=1, threads=1), 4)  # that waits for cores
    0.0208
    >>> round(job_seconds(0.100, 0.020, 2.0, 2, workers=1, threads=2), 4)  # no GPU
    0.1379

    Args:
        score_seconds: Of an image in one scorer that has its cores for itself.
        prepare_seconds: CPU seconds of an image's preparation.
        busy_cores: Cores that are at work while one scorer scores.
        cores: Of the machine.
        workers: Scorers.
        threads: Of a scorer, that wait for each other; 1 on a GPU.
    """
    work = prepare_seconds * threads + busy_cores * score_seconds
    free = max(0.1 * cores, cores - RAY_CORES * threads)
    return max(score_seconds / workers, work / free)
