"""Human labels from an Arrow table: checked, pooled over annotators, keyed by sample id."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from tokenfocus_ray.errors import ManifestError, RowError
from tokenfocus_ray.schema import Element, is_other_scale, parse_elements, sample_id
from tokenfocus_ray.tables.columns import require_columns, to_rows
from tokenfocus_ray.tables.members import ScoreTableInfo
from tokenfocus_ray.tables.parquet import read_parquet
from tokenfocus_ray.tables.text import as_text, check_encoding

if TYPE_CHECKING:
    import pyarrow as pa


#: What is read of a label table, as far as it is there.
LABEL_COLUMNS = (
    "sample_id",
    "image_uri",
    "prompt",
    "elements",
    "total_scores",
    "element_labels",
    "generator",
)
_LISTS = (
    pa.types.is_list,
    pa.types.is_large_list,
    pa.types.is_fixed_size_list,
    pa.types.is_list_view,
    pa.types.is_large_list_view,
)
_NUMBERS = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_null)
TOTAL_RANGE = (1.0, 5.0)
ELEMENT_RANGE = (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Label:
    """What the annotators said of one sample.

    Attributes:
        total: Mean total score, 1..5 as a rule; NaN where there is none, or one of them is out of
            range.
        elements: [E] the elements in their order.
        element_labels: [E] mean element scores, 0..1; NaN likewise.
        generator: The model that made the image, where known.
        prompt: What the image was made from, where known.
    """

    total: float
    elements: tuple[Element, ...]
    element_labels: tuple[float, ...]
    generator: str | None
    prompt: str | None = None


@dataclass(slots=True)
class _Annotations:
    elements: tuple[Element, ...]
    generator: str | None
    prompt: str | None
    totals: list[Any]
    per_element: list[list[Any]]


def read_labels(
    table: pa.Table, source: str = "labels", scale: tuple[float, float] = TOTAL_RANGE
) -> dict[str, Label]:
    """Labels by sample id.

    Rows with the same id are the same image and prompt annotated again: their annotators are
    pooled.

    Args:
        table: Columns ``total_scores`` (list of ratings, one for each annotator) and
            ``sample_id``, or ``image_uri`` and ``prompt`` to derive it from; optionally
            ``prompt``, ``elements``, ``element_labels`` (for each element a list of 0 or 1, or of
            truth values) and ``generator``.
        source: Where the table comes from, for messages.
        scale: Lowest and highest possible rating, from :func:`scale_of` the scores.

    Returns:
        One label for each sample id, in the table's order. Unusable values become NaN, so that
        they can be counted.

    Raises:
        ManifestError: when columns are missing or of the wrong type, elements do not line up, or
            ratings are on another scale.
    """
    require_columns(table, ["total_scores"], source)
    if "sample_id" not in table.column_names:
        require_columns(
            table, ["image_uri", "prompt"], source, "sample_id, or image_uri and prompt"
        )
    for name, depth in (("total_scores", 1), ("element_labels", 2)):
        if name in table.column_names:
            _require_lists(table.schema.field(name), depth, source)
    found: dict[str, _Annotations] = {}
    for index, row in enumerate(to_rows(table, LABEL_COLUMNS)):
        where = f"{source}: row {index}"
        elements = elements_of(row, where)
        per_element = row.get("element_labels") or [[] for _ in elements]
        if len(per_element) != len(elements):
            raise ManifestError(
                f"{where}: element_labels has {len(per_element)} entries for {len(elements)} "
                "elements; give a list of 0 or 1 for each element, in the order of elements"
            )
        known = found.setdefault(
            _sample_id(row, where),
            _Annotations(
                elements, row.get("generator"), row.get("prompt"), [], [[] for _ in elements]
            ),
        )
        if known.elements != elements:
            raise ManifestError(
                f"{where}: an earlier row has the same image and prompt but other elements: "
                f"{_texts(known.elements)} and {_texts(elements)}; keep one of them"
            )
        known.totals += row["total_scores"] or []
        for pooled, more in zip(known.per_element, per_element, strict=True):
            pooled += more or []
    _check_scale([row.totals for row in found.values()], scale, source)
    return {
        key: Label(
            total=_mean(row.totals, *scale),
            elements=row.elements,
            element_labels=tuple(_mean(values, *ELEMENT_RANGE) for values in row.per_element),
            generator=row.generator,
            prompt=row.prompt,
        )
        for key, row in found.items()
    }


def scale_of(schema: pa.Schema, where: str) -> tuple[float, float]:
    """Lowest and highest score of the levels that a score table's metadata names; else 1 and 5.

    Args:
        schema: Of the scores.
        where: The table, for messages.

    Raises:
        ManifestError: the metadata cannot be read.
    """
    info = ScoreTableInfo.find(schema, where)
    return (info and info.scale) or TOTAL_RANGE


def _check_scale(ratings: Sequence[Sequence[Any]], scale: tuple[float, float], source: str) -> None:
    """A few ratings out of range are errors of their own; many are another scale."""
    low, high = scale
    each = ([float(v) for v in row if v is not None and math.isfinite(v)] for row in ratings)
    rated = [own for own in each if own]
    outside = [own for own in rated if any(v < low or v > high for v in own)]
    if not is_other_scale(len(outside), len(rated)):
        return
    seen = [v for own in rated for v in own]
    raise ManifestError(
        f"{source}: {len(outside)} of {len(rated)} samples have total_scores outside {low:g}.."
        f"{high:g}, the scale of the scores; all ratings lie in {min(seen):g}..{max(seen):g}. Map "
        f"them to {low:g}..{high:g}, or score with total_levels of that scale"
    )


def _require_lists(column: pa.Field[Any], depth: int, source: str) -> None:
    """Lists of any kind; of elements the entries may be true and false."""
    kind: Any = column.type
    for _ in range(depth):
        if pa.types.is_null(kind):
            return
        if not any(is_it(kind) for is_it in _LISTS):
            raise ManifestError(
                f"{source}: column {column.name} has type {column.type}; give a list of numbers, "
                f"one for each annotator{', for each element' * (depth > 1)}"
            )
        kind = kind.value_type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    truth = depth > 1 and pa.types.is_boolean(kind)
    if not truth and not any(is_it(kind) for is_it in _NUMBERS):
        raise ManifestError(
            f"{source}: column {column.name} has type {column.type}; its entries must be numbers"
        )


def _sample_id(row: dict[str, Any], where: str) -> str:
    try:
        given = as_text(row.get("sample_id"), where="sample_id")
    except RowError as error:
        raise ManifestError(f"{where}: {error}, as the scores have it") from None
    if given is not None:
        return given
    image, prompt = row.get("image_uri"), row.get("prompt")
    if not image or not prompt:
        raise ManifestError(
            f"{where}: no sample_id, and image_uri {image!r} with prompt {prompt!r:.80} do not "
            "make one; give sample_id, or both of them"
        )
    return sample_id(image, prompt)


def elements_of(row: dict[str, Any], where: str) -> tuple[Element, ...]:
    """The elements of a row; empty where there are none."""
    try:
        return tuple(parse_elements(row.get("elements")) or ())
    except ValueError as error:
        raise ManifestError(f"{where}: {error}; put the elements right") from None


def _texts(elements: Iterable[Element]) -> list[str]:
    return [element.text for element in elements]


def _mean(values: Sequence[Any], low: float, high: float) -> float:
    numbers = [math.nan if value is None else float(value) for value in values]
    if not numbers or not all(low <= number <= high for number in numbers):
        return math.nan
    return math.fsum(numbers) / len(numbers)


def read_labels_table(labels: str, encoding: str | None = None) -> pa.Table:
    """Human labels from Parquet or EvalMuse's JSON, unchecked.

    Args:
        labels: Local path or URI.
        encoding: Of the JSON, without a byte order mark; None: UTF-8.
    """
    from tokenfocus_ray.datasets.evalmuse import read_evalmuse

    if labels.lower().endswith(".json"):
        return read_evalmuse(labels, encoding=check_encoding(encoding))
    return read_parquet(labels, LABEL_COLUMNS, ("total_scores",))
