"""What the CPU and GPU tests compare: packed answers of ours with plain forwards of the reference.

Legend: Q questions of all samples together, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tests.support.folders import LANGUAGE, build, save_adapter
from tests.support.reference import ExpectedRow, PlainModel
from tests.support.samples import Sample, make_samples, score
from tokenfocus_ray.backbones.images import PreparedImage
from tokenfocus_ray.backbones.packing import collate
from tokenfocus_ray.schema import Element, ScoreRow
from tokenfocus_ray.scoring.questions import QuestionPacker
from tokenfocus_ray.scoring.request import Request
from tokenfocus_ray.scoring.scorer import AlignmentScorer

#: Larger than any request of the tests: no request is split.
UNLIMITED = 1_000_000
#: Numbers of elements and sizes of the invariance tests. Aspect ratios are apart, so that grids
#: and numbers of image tokens differ within a batch.
MANY_COUNTS = (0, 3, 1, 9, 0, 2, 5, 20, 1, 0, 4, 7, 2, 0, 12, 1)
MANY_SIZES = ((200, 150), (96, 333), (40, 40), (420, 90), (61, 64))


@dataclass(frozen=True)
class Compared:
    """A scorer and its reference, with the samples and the reference's answers.

    Attributes:
        name: Of the backbone, see :mod:`tests.support.folders`.
        folder: Of the backbone.
        scorer: Ours.
        plain: The reference.
        samples: One for each number of elements.
        expected_QV: The reference's logits of every sample.
    """

    name: str
    folder: str
    scorer: AlignmentScorer
    plain: PlainModel
    samples: list[Sample]
    expected_QV: list[NDArray[np.float64]]

    @classmethod
    def make(cls, name: str, parent: Path, device: str = "cpu") -> Compared:
        """Builds a backbone in float32 and asks the reference about every sample."""
        folder = build(name, parent)
        plain, samples = PlainModel(folder, device=device), make_samples()
        return cls(
            name,
            folder,
            AlignmentScorer.from_pretrained(folder, device=device, dtype="float32"),
            plain,
            samples,
            [plain.logits(sample) for sample in samples],
        )

    def expected_rows(self) -> list[ExpectedRow]:
        """The reference's rows in float64."""
        return [self.plain.row(logits_QV) for logits_QV in self.expected_QV]


@dataclass(frozen=True)
class Alone:
    """Requests of a backbone, and the row of each when it is scored alone and in one part."""

    scorer: AlignmentScorer
    requests: list[Request]
    rows: list[ScoreRow]

    @classmethod
    def make(cls, name: str, device: str = "cpu", dtype: str = "float32") -> Alone:
        """Scores sixteen requests one at a time."""
        scorer = AlignmentScorer.from_pretrained(
            name, device=device, dtype=dtype, token_budget=UNLIMITED
        )
        requests = [
            scorer.request(s.image_HWC, s.prompt, list(s.elements), s.prompt_type)
            for s in make_samples(MANY_COUNTS, MANY_SIZES)
        ]
        return cls(scorer, requests, [scorer.score_requests([r])[0] for r in requests])

    def with_budget(self, token_budget: int) -> AlignmentScorer:
        """The same backbone and settings with another budget."""
        return AlignmentScorer(self.scorer.backbone, self.scorer.config, token_budget)

    def in_batches(self, size: int, token_budget: int) -> list[ScoreRow]:
        """All requests again, ``size`` at a time."""
        scorer = self.with_budget(token_budget)
        return [
            row
            for start in range(0, len(self.requests), size)
            for row in scorer.score_requests(self.requests[start : start + size])
        ]

    def gap(self, rows: Sequence[ScoreRow], order: Sequence[int] | None = None) -> float:
        """Largest difference of rows from those of the same requests scored alone."""
        order = range(len(self.requests)) if order is None else order
        return rows_gap(rows, [self.rows[i] for i in order])


@dataclass(frozen=True)
class Ensemble:
    """A backbone with two adapters on its language model, and the rows that it gave with both."""

    backbone: str
    adapters: dict[str, str]
    scorer: AlignmentScorer
    samples: list[Sample]
    rows: list[ScoreRow]

    @classmethod
    def make(cls, name: str, parent: Path, device: str = "cpu") -> Ensemble:
        """Writes the adapters and scores in float32."""
        backbone, samples = build(name, parent), make_samples((0, 2, 5))
        adapters = {
            member: save_adapter(backbone, parent / member, seed, LANGUAGE)
            for seed, member in enumerate(("bag-0", "bag-1"))
        }
        scorer = AlignmentScorer.from_pretrained(
            backbone, adapters=adapters, device=device, dtype="float32"
        )
        return cls(backbone, adapters, scorer, samples, score(scorer, samples))

    def peft_gap(self, device: str = "cpu") -> float:
        """Largest difference of members from plain ``PeftModel`` forwards, one for a question."""
        gaps = []
        for m, folder in enumerate(self.adapters.values()):
            plain = PlainModel(self.backbone, adapter=folder, device=device)
            for row, sample in zip(self.rows, self.samples, strict=True):
                wanted = plain.row(plain.logits(sample))
                gaps += [
                    gap(row.member_scores[m], wanted.score),
                    gap(row.level_probs[m], wanted.level_probs_K),
                    gap(row.level_mass[m], wanted.level_mass),
                    gap(row.entropy[m], wanted.entropy),
                    gap(row.member_element_scores[m], wanted.element_scores),
                ]
        return max(gaps)


def packer(scorer: AlignmentScorer) -> QuestionPacker:
    """The packer that a scorer with this backbone and these settings uses."""
    levels = scorer.total_levels, scorer.element_levels
    return QuestionPacker(scorer.backbone, scorer.template, *levels)


def packed_logits(scorer: AlignmentScorer, samples: Sequence[Sample]) -> NDArray[np.float64]:
    """Full-vocabulary logits at every answer position, all samples in ONE padded batch.

    Returns:
        [Q, V], sample by sample, the total question first.
    """
    backbone, questions = scorer.backbone, packer(scorer)
    images: list[PreparedImage] = []
    sequences = []
    for i, sample in enumerate(samples):
        images.append(backbone.image_spec.prepare(sample.image_HWC))
        elements = tuple(Element.parse(label) for label in sample.elements)
        (part,) = questions.pack(
            i, images[-1], sample.prompt, elements, sample.prompt_type, UNLIMITED
        )
        sequences.append(part.sequence)
    assert len({len(s) for s in sequences}) == len(samples), "the batch must need padding"
    with torch.inference_mode():
        features_VD = backbone.encode_images(images)
        hidden_AD = backbone.answer_hidden(features_VD, collate(sequences, backbone.device))
        return np.asarray(backbone.logits(hidden_AD).double().cpu().numpy())


def vision_calls(scorer: AlignmentScorer, samples: Sequence[Sample]) -> int:
    """How often the vision tower ran while samples that fit one micro-batch were scored."""
    model: Any = scorer.backbone.model.model
    calls: list[None] = []
    tower = model.visual if hasattr(model, "visual") else model.vision_tower
    handle = tower.register_forward_hook(lambda *_: calls.append(None))
    try:
        score(scorer, samples)
    finally:
        handle.remove()
    return len(calls)


def row_differences(rows: Sequence[ScoreRow], expected: Sequence[ExpectedRow]) -> dict[str, float]:
    """Largest difference of each field of one-member rows from the reference's."""
    fields: dict[str, list[float]] = {}
    for row, want in zip(rows, expected, strict=True):
        assert (row.status, row.error_message) == ("ok", None)
        assert row.member_scores == [row.score]
        assert row.member_element_scores == [row.element_scores]
        pairs: dict[str, tuple[Any, Any]] = {
            "score": (row.score, want.score),
            "level_probs": (row.level_probs[0], want.level_probs_K),
            "level_mass": (row.level_mass[0], want.level_mass),
            "entropy": (row.entropy[0], want.entropy),
            "element_scores": (row.element_scores, want.element_scores),
        }
        for name, (got, wanted) in pairs.items():
            fields.setdefault(name, []).append(gap(got, wanted))
    return {name: max(gaps) for name, gaps in fields.items()}


def rows_gap(left: Iterable[ScoreRow], right: Iterable[ScoreRow]) -> float:
    """Largest difference of any number between rows that must be the same but for rounding."""
    largest = 0.0
    for a, b in zip(left, right, strict=True):
        same = ("sample_id", "status", "error_code", "width", "height", "n_visual_tokens")
        assert [getattr(a, n) for n in same] == [getattr(b, n) for n in same]
        for name in (
            "score",
            "member_scores",
            "level_probs",
            "level_mass",
            "entropy",
            "element_scores",
            "member_element_scores",
        ):
            largest = max(largest, gap(getattr(a, name), getattr(b, name)))
    return largest


def gap(got: Any, wanted: Any) -> float:
    """Largest absolute difference of finite numbers; 0 for two empty arrays."""
    got, wanted = np.asarray(got, dtype=np.float64), np.asarray(wanted, dtype=np.float64)
    assert got.shape == wanted.shape, f"shapes {got.shape} and {wanted.shape}"
    assert np.isfinite(got).all(), "NaN would pass through max()"
    assert np.isfinite(wanted).all()
    return float(np.abs(got - wanted).max(initial=0.0))
