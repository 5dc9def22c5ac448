"""The challenge's ``submission.zip``: scores checked against its test list.

    output.json  [{"prompt", "img_path", "total_score", "element_score": {"pig (animal)": 0.93}}]
    readme.txt   who scored

The challenge takes an element for present from 0.5 on. Where an ensemble has a threshold of its
own, its scores are mapped in two straight pieces, so that this threshold lies at 0.5.

Source: NTIRE 2025 Text-to-Image Quality Assessment Challenge, Track 1; EvalMuse-40K
(https://arxiv.org/abs/2412.18150).
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokenfocus_ray.datasets.evalmuse import read_evalmuse
from tokenfocus_ray.datasets.scored import ScoredTable
from tokenfocus_ray.errors import ManifestError, OutputError
from tokenfocus_ray.exports.answers import Answer, Findings, read_answers
from tokenfocus_ray.say import Say
from tokenfocus_ray.schema import Element
from tokenfocus_ray.storage import Store
from tokenfocus_ray.tables.members import ScoreTableInfo
from tokenfocus_ray.version import __version__

#: From which score on the challenge takes an element for present.
PRESENT = 0.5
#: What the challenge's total scores run from and to.
SCALE = (1.0, 5.0)
#: Of a file in the archive: the same at each run.
_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class SubmissionSummary:
    """What was written.

    Attributes:
        out: The archive.
        images: How many the test list has.
        elements: Of these.
        filled: Images without a score, or with an element without one, that got means in its place.
    """

    out: str
    images: int
    elements: int
    filled: int

    def line(self) -> str:
        """The final line, which a script can read."""
        return f"images={self.images} elements={self.elements} filled={self.filled} out={self.out}"


def write_submission(
    scores: str,
    out: str,
    *,
    test_list: str,
    fill_unscored: bool = False,
    readme: str | None = None,
    encoding: str | None = None,
    say: Say = print,
) -> SubmissionSummary:
    """Writes the challenge's archive.

    Args:
        scores: Output folder of a scoring job over the test list, or a Parquet file of it.
        out: The archive, local or in a store; one that is there is replaced.
        test_list: The challenge's JSON file, whose images are expected: each once, in its order.
        fill_unscored: Whether images without a score get the mean of all others; else they are an
            error.
        readme: Text file for ``readme.txt``; None: who scored.
        encoding: Of the list and the text; None: UTF-8.
        say: Takes lines of what happens.

    Raises:
        ManifestError: an image of the list has no row, several, no score, or other elements; or a
            row is of no image of the list.
        OutputError: ``out`` cannot be written.
    """
    if Store.of(out).is_folder():
        raise OutputError(f"{out!r} is a folder; name the archive, such as {out}/submission.zip")
    listed: list[dict[str, Any]] = read_evalmuse(test_list, encoding=encoding).to_pylist()
    scored = ScoredTable.open(scores)
    threshold = _threshold(scored.info)
    findings = Findings()
    answers = read_answers(scored, listed, findings)
    records = _records(listed, answers, threshold, findings, fill_unscored)
    findings.check(f"{scored.where}, compared with {test_list}")
    filled = sum(answers[row["sample_id"]].is_open for row in listed)
    if filled:
        say(f"{filled:,} images without a score got the mean of the others (--fill-unscored)")
    if threshold is not None and threshold != PRESENT:
        say(
            f"elements are present from {threshold:g} on by the ensemble, and from {PRESENT:g} on "
            f"by the challenge: scores of elements are mapped so that these agree"
        )
    scale = None if scored.info is None else scored.info.scale
    if scale is not None and scale != SCALE:
        say(f"scores run from {scale[0]:g} to {scale[1]:g}, the challenge's from 1 to 5")
    text = _readme(scored.info, filled) if readme is None else _text_of(readme, encoding)
    Store.of(out).write_bytes("", archive(records, text))
    n_elements = sum(len(one["element_score"]) for one in records)
    return SubmissionSummary(out, len(records), n_elements, filled)


def at_half(score: float, threshold: float) -> float:
    """A score of an element on a scale where the threshold lies at 0.5; 0 and 1 stay.

    >>> at_half(0.8, 0.8), at_half(0.4, 0.8), at_half(0.9, 0.8), at_half(1.0, 0.8)
    (0.5, 0.25, 0.75, 1.0)
    """
    if threshold <= 0 or threshold >= 1:
        return score
    if score >= threshold:
        return PRESENT + (1 - PRESENT) * ((score - threshold) / (1 - threshold))
    return PRESENT * (score / threshold)


def archive(records: Sequence[dict[str, Any]], readme: str) -> bytes:
    """The archive's bytes, the same for the same content."""
    sink = io.BytesIO()
    output = json.dumps(list(records), ensure_ascii=False, indent=1, allow_nan=False)
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in (("output.json", output), ("readme.txt", readme)):
            entry = zipfile.ZipInfo(name, _DATE)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            file.writestr(entry, text.encode("utf-8", "backslashreplace"))
    return sink.getvalue()


def _records(
    listed: Sequence[dict[str, Any]],
    answers: dict[str, Answer],
    threshold: float | None,
    findings: Findings,
    fill: bool,
) -> list[dict[str, Any]]:
    total = _mean([one.total for one in answers.values()])
    element = _mean([s for one in answers.values() for s in one.elements.values()])
    records, seen = [], set[str]()
    for row in listed:
        name = row["img_path"]
        if row["sample_id"] in seen:
            findings.add("images stand twice in the list", name)
        seen.add(row["sample_id"])
        if (answer := answers.get(row["sample_id"])) is None:
            findings.add("images of the list have no row", name)
            continue
        asked = {key: Element.parse(key) for key in row["element_keys"]}
        if {*asked.values()} != {*answer.elements}:
            findings.add("images have other elements in the scores than in the list", name)
            continue
        if answer.is_open and not fill:
            findings.add("images have no score (--fill-unscored gives them the mean)", name)
            continue
        marks = {key: _or(answer.elements[one], element) for key, one in asked.items()}
        if threshold is not None:
            marks = {key: at_half(score, threshold) for key, score in marks.items()}
        records.append(
            {
                "prompt": row["prompt"],
                "img_path": name,
                "total_score": _or(answer.total, total),
                "element_score": marks,
            }
        )
    return records


def _or(value: float, other: float) -> float:
    return value if math.isfinite(value) else other


def _mean(values: Sequence[float]) -> float:
    given = [value for value in values if math.isfinite(value)]
    return math.fsum(given) / len(given) if given else 0.0


def _threshold(info: ScoreTableInfo | None) -> float | None:
    return None if info is None or info.ensemble is None else info.ensemble.element_threshold


def _text_of(path: str, encoding: str | None) -> str:
    try:
        return Store.of(path).read_bytes().decode(encoding or "utf-8")
    except (FileNotFoundError, UnicodeError) as error:
        raise ManifestError(f"{path}: cannot be read ({error}); give a text file") from None


def _readme(info: ScoreTableInfo | None, filled: int) -> str:
    lines = [f"Scored with tokenfocus-ray {__version__}."]
    for one in () if info is None else info.backbones:
        members = ", ".join(one.members)
        lines.append(f"Backbone {one.name}: {one.source}, {one.revision}; members {members}.")
    if info is not None and info.ensemble is not None:
        lines.append(f"Ensemble {info.ensemble.fingerprint}.")
    if filled:
        lines.append(f"{filled} images without a score got the mean of the others.")
    return "\n".join(lines) + "\n"
