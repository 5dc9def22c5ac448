"""A labelled manifest to training samples: one canonical table, and the rows left out with reasons.

Pure functions on Arrow tables. Images are not looked at here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from tokenfocus_ray.config import TrainConfig
from tokenfocus_ray.datasets.manifest import Columns
from tokenfocus_ray.errors import ConfigError, ManifestError, RowError
from tokenfocus_ray.schema import ELEMENT_TYPE, parse_elements, sample_id
from tokenfocus_ray.scoring.levels import LevelVocabulary
from tokenfocus_ray.scoring.prompt import PromptTemplate
from tokenfocus_ray.scoring.request import image_reference
from tokenfocus_ray.tables.prompts import prompt_key
from tokenfocus_ray.tables.text import ERROR_CODE, ERROR_MESSAGE
from tokenfocus_ray.training.bags import prompt_groups
from tokenfocus_ray.training.scales import check_scales
from tokenfocus_ray.training.soft_labels import SampleLabels, sample_labels, soft_label

_RATINGS, _FLAGS = pa.list_(pa.float64()), pa.list_(pa.int64())
_COLUMNS: dict[str, pa.DataType] = {
    "sample_id": pa.string(),
    "group": pa.int32(),
    "row": pa.int64(),
    "image_uri": pa.string(),
    "prompt": pa.string(),
    "prompt_type": pa.string(),
    "elements": pa.list_(ELEMENT_TYPE),
    "total_scores": _RATINGS,
    "element_labels": pa.list_(_RATINGS),
    "split_confidence": _FLAGS,
    "attribute_confidence": _FLAGS,
}
#: ``group`` is the prompt's number, ``row`` the row of the manifest.
SAMPLES = pa.schema(_COLUMNS)
#: How the canonical table names its columns.
SAMPLE_COLUMNS = Columns("prompt", None, "image_uri", "sample_id", "elements", "prompt_type")
_REASONS: dict[str, pa.DataType] = {
    "row": pa.int64(),
    "sample_id": pa.string(),
    "code": pa.string(),
    "message": pa.string(),
}
SKIPPED = pa.schema(_REASONS)
_CONFIDENCES = ("split_confidence", "attribute_confidence")
#: Columns of ratings, and of what annotators said of them.
RATINGS = ("total_scores", "element_labels", *_CONFIDENCES)
#: Why a row is left out before its image is looked at, beside the codes of ``ERROR_CODES``.
SKIP_CODES: dict[str, str] = {
    "label_missing": "nobody rated the row",
    "label_out_of_range": "a rating lies outside the levels' values",
    "label_mismatch": "element labels and elements differ in number",
    "duplicate_id": "an earlier row has the same sample id",
}


def index_samples(
    table: pa.Table, columns: Columns, config: TrainConfig, where: str
) -> tuple[pa.Table, pa.Table]:
    """The samples that can be trained on, as far as can be told without their images.

    Args:
        table: The manifest without image bytes: the columns of ``columns``, ``total_scores`` (list
            of ratings), ``element_labels`` (a list of ratings for each element), and where they
            are there ``prompt_id``, ``split_confidence`` and ``attribute_confidence``. Where these
            are text, as every column of a csv file is, they hold JSON.
        columns: Which column is what.
        config: Levels.
        where: The manifest, for messages.

    Returns:
        The samples (:data:`SAMPLES`) and the rows left out (:data:`SKIPPED`).

    Raises:
        ManifestError: no label column, ratings on another scale, or no row to train on.
    """
    names = table.column_names
    if not {"total_scores", "element_labels"} & set(names):
        raise ManifestError(
            f"{where}: found columns {names}; wanted labels: total_scores (a list of ratings for "
            f"each row), or element_labels (a list of ratings for each element)"
        )
    levels = vocabularies(config)
    kept: list[dict[str, Any]] = []
    skipped: list[dict[str, Any]] = []
    ids: set[str] = set()
    wanted = [c for c in (columns.image_uri, columns.prompt, columns.sample_id) if c]
    wanted += [c for c in (columns.elements, columns.prompt_type, "prompt_id") if c in names]
    wanted += [c for c in (*_COLUMNS, ERROR_CODE, ERROR_MESSAGE) if c in names]
    prompt_ids: list[str | None] = []
    rows = [_with_ratings(row) for row in table.select(list(dict.fromkeys(wanted))).to_pylist()]
    check_scales(rows, levels, where)
    for number, row in enumerate(rows):
        uri = row[columns.image_uri] if columns.image_uri else None
        given = row[columns.sample_id] if columns.sample_id else None
        prompt = row[columns.prompt]
        key = str(given) if given not in (None, "") else None
        if key is None and uri is not None:
            key = sample_id(image_reference(uri) or b"", str(prompt or ""))
        try:
            if row.get(ERROR_CODE):
                raise RowError(row[ERROR_CODE], row[ERROR_MESSAGE])
            sample = _sample(row, columns, levels, config.structure)
            key = key or f"row-{number:08d}"
            if key in ids:
                raise RowError("duplicate_id", f"an earlier row has the sample id {key!r} too")
        except RowError as error:
            skipped.append(
                {"row": number, "sample_id": key, "code": error.code, "message": error.message}
            )
            continue
        ids.add(key)
        kept.append(sample | {"sample_id": key, "row": number, "image_uri": uri})
        prompt_id = row.get("prompt_id")
        missing = prompt_id in (None, "") or prompt_id != prompt_id  # NaN, as pandas writes it
        prompt_ids.append(None if missing else str(prompt_id))
    if not kept:
        first = f"; row {skipped[0]['row']}: {skipped[0]['message']}" if skipped else ""
        raise ManifestError(f"{where}: none of its {table.num_rows} rows can be trained on{first}")
    for sample, group in zip(
        kept, prompt_groups(prompt_ids, [s["prompt"] for s in kept]), strict=True
    ):
        sample["group"] = group
    return pa.Table.from_pylist(kept, schema=SAMPLES), pa.Table.from_pylist(skipped, schema=SKIPPED)


def _with_ratings(row: dict[str, Any]) -> dict[str, Any]:
    """The row with ratings that are JSON text read; other text stays, and is told row by row."""
    for name in RATINGS:
        if isinstance(text := row.get(name), str):
            row[name] = None if not text.strip() else _read_json(text)
    return row


def _read_json(text: str) -> Any:
    try:
        return json.loads(text, parse_int=float)  # of any number of digits
    except (ValueError, RecursionError):  # nested deeply
        return text


def _sample(
    row: Mapping[str, Any],
    columns: Columns,
    levels: tuple[LevelVocabulary, LevelVocabulary],
    structure: bool,
) -> dict[str, Any]:
    prompt = row[columns.prompt]
    prompt_type = row[columns.prompt_type] if columns.prompt_type else None
    prompt_type = None if prompt_type in (None, "") else str(prompt_type)
    PromptTemplate(structure=structure).prefix(prompt, (), prompt_type)
    try:
        elements = parse_elements(row[columns.elements] if columns.elements else None) or []
    except ValueError as error:
        raise RowError("elements_invalid", str(error)) from None
    total = _numbers(row.get("total_scores"), "total_scores")
    rated = row.get("element_labels") or []
    if not isinstance(rated, list):
        raise RowError(
            "label_out_of_range",
            f"element_labels is {rated!r:.80}; give a list of ratings for each element",
        )
    if rated and len(rated) != len(elements):
        raise RowError(
            "label_mismatch",
            f"element_labels has {len(rated)} entries for {len(elements)} elements; give one list "
            f"for each element",
        )
    each = [_numbers(r, "element_labels") for r in rated] or [[] for _ in elements]
    sample = {
        "prompt": prompt,
        "prompt_type": prompt_type,
        "elements": [{"text": e.text, "type": e.type} for e in elements],
        "total_scores": total,
        "element_labels": each,
        **{name: _flags(row.get(name), name) for name in _CONFIDENCES},
    }
    try:
        labels = labels_of(sample, levels, 1.0)
    except ValueError as error:
        raise RowError("label_out_of_range", f"{error}; correct or drop the row") from None
    if not any(label.weight for label in (labels.total, *labels.elements)):
        raise RowError("label_missing", "neither the total nor an element has a rating")
    return sample


def _numbers(value: Any, name: str) -> list[float | None]:
    """Ratings of one question, or flags; a single number is one annotator's."""
    if value is None:
        return []
    items = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    if not all(i is None or isinstance(i, (int, float)) for i in items):
        raise RowError("label_out_of_range", f"{name} is {value!r:.80}; give a list of numbers")
    return [None if i is None or math.isnan(i) else float(i) for i in items]


def _flags(value: Any, name: str) -> list[float | None]:
    flags = _numbers(value, name)
    if not all(flag is None or flag.is_integer() for flag in flags):
        raise RowError("label_out_of_range", f"{name} is {value!r:.80}; give a list of 0 and 1")
    return flags


def vocabularies(config: TrainConfig) -> tuple[LevelVocabulary, LevelVocabulary]:
    """Levels of the total and of the element questions."""
    return LevelVocabulary.of(config.total_levels), LevelVocabulary.of(config.element_levels)


def labels_of(
    row: Mapping[str, Any], levels: tuple[LevelVocabulary, LevelVocabulary], unsure: float
) -> SampleLabels:
    """Labels of a row of :data:`SAMPLES`.

    Raises:
        ValueError: a rating lies outside its levels' values.
    """
    return sample_labels(
        row["total_scores"],
        row["element_labels"],
        *levels,
        row["split_confidence"],
        row["attribute_confidence"],
        unsure,
    )


def check_weights(samples: pa.Table, config: TrainConfig) -> None:
    """Refuses weights of the loss under which there would be nothing to learn, or to compare.

    Args:
        samples: See :data:`SAMPLES`.
        config: The fan-out.

    Raises:
        ConfigError: elements count for nothing and there is no total rating; or the rank term
            counts, and no two images of one prompt are rated differently.
    """
    total_levels, _ = vocabularies(config)
    first: dict[int, float] = {}
    differ = False
    for row in samples.select(["group", "total_scores"]).to_pylist():
        label = soft_label(row["total_scores"] or (), total_levels)
        if label.weight:
            differ |= first.setdefault(row["group"], label.mean) != label.mean
    if not first and not config.loss.elements:
        raise ConfigError(
            "loss.elements = 0 leaves out element labels, and the training data has no total "
            "rating; raise it, or add total_scores"
        )
    if config.loss.rank and not differ:
        raise ConfigError(
            f"loss.rank = {config.loss.rank:g} compares images of one prompt, but in the training "
            f"data no two of a prompt have different total ratings; set it to 0, or add such images"
        )


def check_disjoint(
    samples: pa.Table, test_prompts: Sequence[object], where: str, test: str
) -> None:
    """Refuses training data that has a prompt of the test data.

    Raises:
        ManifestError: with the number of such prompts and the first.
    """
    known = {prompt_key(str(p)) for p in test_prompts if p is not None}
    prompts = [str(p) for p in samples["prompt"].to_pylist()]
    shared = [p for p in prompts if prompt_key(p) in known]
    if shared:
        raise ManifestError(
            f"{len(set(shared))} prompts are in both {where} and {test}, such as "
            f"{shared[0][:80]!r}: scores on the test data would flatter the members; remove them "
            f"from one of the two"
        )
