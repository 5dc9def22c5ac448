"""What a score table says of the images of a list, and what does not fit between the two."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tokenfocus_ray.datasets.scored import ScoredTable
from tokenfocus_ray.errors import ManifestError, shown
from tokenfocus_ray.schema import Element, parse_elements, sample_id
from tokenfocus_ray.tables.columns import numbers


@dataclass(frozen=True, slots=True)
class Answer:
    """What a score table says of an image.

    Attributes:
        total: Score; NaN where unscored.
        elements: Element -> score; NaN where unscored.
    """

    total: float
    elements: dict[Element, float]

    @property
    def is_open(self) -> bool:
        """Whether something has no score."""
        return not all(map(math.isfinite, (self.total, *self.elements.values())))


@dataclass(slots=True)
class Findings:
    """What is wrong between scores and test list: kind -> names of the images, in order."""

    images: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, name: str) -> None:
        """Takes note of an image."""
        self.images.setdefault(kind, []).append(name)

    def check(self, where: str) -> None:
        """Refuses what was found.

        Raises:
            ManifestError: with numbers and examples.
        """
        if self.images:
            told = "; ".join(
                f"{len(names):,} {kind} (such as {shown(names[0], 120)})"
                for kind, names in self.images.items()
            )
            raise ManifestError(
                f"{where}: {told}. A submission holds each image of the list once, with its "
                f"elements: score the list as it was imported by `tokenfocus data import evalmuse`"
            )


def read_answers(
    scored: ScoredTable, listed: Sequence[dict[str, Any]], findings: Findings
) -> dict[str, Answer]:
    """Answers by the list's ids, which depend on ``img_path`` and prompt only."""
    wanted = {row["sample_id"] for row in listed}
    found: dict[str, Answer] = {}
    for row in _rows(scored):
        name = row["id"]
        if name not in wanted:
            findings.add("rows of the scores are of no image of the list", row["name"])
        elif name in found:
            findings.add("images of the list have several rows", row["name"])
        elif row["fault"]:
            findings.add("rows have elements that cannot be read", f"{row['name']}: {row['fault']}")
        else:
            found[name] = Answer(row["total"], row["elements"])
    return found


def _rows(scored: ScoredTable) -> Iterator[dict[str, Any]]:
    columns, names = scored.columns, scored.rows.schema.names
    by_path = "img_path" in names and columns.prompt is not None
    wanted = ["sample_id", "status", "score", "element_scores", columns.elements]
    wanted += ["img_path", columns.prompt] if by_path else [columns.image_uri]
    for table in scored.read(wanted):
        totals = numbers(table["score"]).tolist()
        for row, total in zip(table.to_pylist(), totals, strict=True):
            path = row.get("img_path") if by_path else row.get(columns.image_uri or "")
            name = str(row["sample_id"])
            if by_path:
                name = sample_id(str(path or ""), str(row[columns.prompt or ""] or ""))
            is_ok, fault = row["status"] == "ok", ""
            elements: list[Element] = []
            try:
                elements = parse_elements(row.get(columns.elements or "")) or []
            except ValueError as error:
                fault = str(error)
            given = list(row["element_scores"] or ()) if is_ok else []
            given += [math.nan] * (len(elements) - len(given))
            yield {
                "id": name,
                "name": str(path or row["sample_id"]),
                "total": total if is_ok else math.nan,
                "elements": dict(zip(elements, map(_number, given), strict=False)),
                "fault": fault,
            }


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
