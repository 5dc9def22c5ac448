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

from tests.support.folders import build
from tests.support.reference import ExpectedRow, PlainModel
from tests.support.samples import Sample, make_samples
from tokenfocus_ray.backbones.base import PreparedImage
from tokenfocus_ray.backbones.packing import collate
from tokenfocus_ray.schema import Element, ScoreRow
from tokenfocus_ray.scoring.questions import QuestionPacker
from tokenfocus_ray.scoring.scorer import AlignmentScorer

#: Larger than any request of the tests: no request is split.
UNLIMITED = 1_000_000


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


def row_differences(
    rows: Sequence[ScoreRow], expected: Sequence[ExpectedRow]
) -> dict[str, float]:
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
    """Largest absolute difference; 0 for two empty arrays, NaN where either has one."""
    got, wanted = np.asarray(got, dtype=np.float64), np.asarray(wanted, dtype=np.float64)
    assert got.shape == wanted.shape, f"shapes {got.shape} and {wanted.shape}"
    return float(np.abs(got - wanted).max(initial=0.0))
