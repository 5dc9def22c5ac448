"""EvalMuse-40K's JSON files (``train_list.json``, ``test.json``) to and from an Arrow table.

A file is a list of records: ``prompt_id``, ``prompt``, ``type`` ("real" or "synthetic"),
``img_path`` ("SDXL-Turbo/00110.png"), ``total_score`` (a list of 1..5, one for each annotator),
``element_score`` (label such as "pig giants (animal)" to a list of 0 or 1), ``promt_meaningless``
(spelt so), ``split_confidence`` (1: the element split may be wrong), ``attribute_confidence``
(0: the annotator was unsure) and ``fidelity_label``. In ``test.json`` the scores are null.

Source: https://arxiv.org/abs/2412.18150 and the data set's card.
"""

from __future__ import annotations

import ast
import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from tokenfocus_ray.errors import ManifestError, OutputError
from tokenfocus_ray.schema import ELEMENT_TYPE, Element, sample_id
from tokenfocus_ray.storage import Store
from tokenfocus_ray.tables.text import ERROR_CODE, ERROR_MESSAGE, decode_file, make_valid

_INTS = pa.list_(pa.int64())

#: ``sample_id`` depends on ``img_path`` and ``prompt`` only, never on where the images lie.
#: ``element_keys`` are the labels as written in the file, aligned with ``elements``;
#: ``element_labels`` holds one list for each element, empty where unlabelled.
EVALMUSE_SCHEMA = pa.schema(
    [
        ("sample_id", pa.string()),
        ("prompt", pa.string()),
        ("image_uri", pa.string()),
        ("elements", pa.list_(ELEMENT_TYPE)),
        ("prompt_type", pa.string()),
        ("prompt_id", pa.string()),
        ("img_path", pa.string()),
        ("generator", pa.string()),
        ("total_scores", _INTS),
        ("element_keys", pa.list_(pa.string())),
        ("element_labels", pa.list_(_INTS)),
        ("promt_meaningless", _INTS),
        ("split_confidence", _INTS),
        ("attribute_confidence", _INTS),
        ("fidelity_label", pa.list_(pa.string())),
    ]
)

_INT_FIELDS = ("promt_meaningless", "split_confidence", "attribute_confidence")


def read_evalmuse(
    path: str, images_root: str | None = None, encoding: str | None = None
) -> pa.Table:
    """Reads an EvalMuse JSON file.

    Args:
        path: Local path or URI (``s3://``, ``gs://``, ...) of the file.
        images_root: Folder or URI that ``img_path`` is relative to; without it ``image_uri`` is
            ``img_path`` itself.
        encoding: Of the file; None: UTF-8, or what its byte order mark says.

    Returns:
        A table with :data:`EVALMUSE_SCHEMA`, one row for each record, in the file's order. Where
        a text is not valid Unicode, it is written out, and the columns ``ERROR_CODE`` and
        ``ERROR_MESSAGE`` say so.

    Raises:
        ManifestError: when the file cannot be read or a record is malformed; names file, record,
            field, value and remedy.
    """
    records = _load(path, encoding)
    rows = [_row(record, f"{path}: record {i}", images_root) for i, record in enumerate(records)]
    rows = [make_valid(row, ("prompt", "image_uri", "elements", "prompt_type")) for row in rows]
    schema = EVALMUSE_SCHEMA
    if any(ERROR_CODE in row for row in rows):
        for name in (ERROR_CODE, ERROR_MESSAGE):
            schema = schema.append(pa.field(name, pa.string()))
    return pa.Table.from_pylist(rows, schema=schema)


def write_evalmuse(table: pa.Table, path: str) -> None:
    """Writes a table as an EvalMuse JSON file, the inverse of :func:`read_evalmuse`.

    Args:
        table: Columns ``prompt`` and ``img_path`` or ``image_uri``; the others of
            :data:`EVALMUSE_SCHEMA` as far as they are there.
        path: Local path.

    Raises:
        ManifestError: when columns are missing or a row has two elements of one label.
        OutputError: when the file cannot be written.
    """
    names = table.column_names
    if "prompt" not in names or not {"img_path", "image_uri"} & set(names):
        raise ManifestError(
            "cannot write EvalMuse JSON: wanted columns prompt, and img_path or image_uri; found "
            f"{', '.join(names) or 'none'}"
        )
    records = [_record(row, f"row {index}") for index, row in enumerate(table.to_pylist())]
    try:
        Path(path).write_text(json.dumps(records, ensure_ascii=False, indent=1), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error}; choose a writable path") from None


def _load(path: str, encoding: str | None) -> list[Any]:
    try:
        data = Store.of(path).read_bytes() if "://" in path else Path(path).read_bytes()
        records = json.loads(decode_file(data, encoding, path))
    except ManifestError:
        raise
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error}); check the path") from None
    except (ValueError, RecursionError) as error:  # no JSON; nested deeply
        raise ManifestError(
            f"{path}: not JSON ({error}); give EvalMuse's train_list.json or test.json"
        ) from None
    if not isinstance(records, list):
        raise ManifestError(
            f"{path}: holds a {type(records).__name__}; an EvalMuse file is a list of records"
        )
    return records


def _row(record: Any, where: str, images_root: str | None) -> dict[str, Any]:
    if not isinstance(record, Mapping):
        raise _malformed(where, "", record, "a record must be an object with named fields")
    prompt, img_path = (_text(record, name, where) for name in ("prompt", "img_path"))
    path = img_path if img_path and img_path.strip() else ""
    keys_and_labels = _element_scores(record.get("element_score"), where)
    prompt_id = record.get("prompt_id")
    folder, slash, _ = path.partition("/")
    relative = bool(path) and "://" not in path and not path.startswith("/")
    return {
        "sample_id": sample_id(path, prompt or ""),
        "prompt": prompt,
        "image_uri": f"{images_root.rstrip('/')}/{path}" if images_root and relative else img_path,
        "elements": [_element(key) for key in keys_and_labels],
        "prompt_type": _text(record, "type", where),
        "prompt_id": None if prompt_id is None else str(prompt_id),
        "img_path": img_path,
        "generator": folder if slash and relative else None,
        "total_scores": _ints(record.get("total_score"), where, "total_score"),
        "element_keys": list(keys_and_labels),
        "element_labels": [
            _ints(value, where, f"element_score[{key!r}]") for key, value in keys_and_labels.items()
        ],
        **{name: _ints(record.get(name), where, name) for name in _INT_FIELDS},
        "fidelity_label": _strings(record.get("fidelity_label"), where, "fidelity_label"),
    }


def _record(row: dict[str, Any], where: str) -> dict[str, Any]:
    elements = row.get("elements") or []
    keys = row.get("element_keys") or [
        Element(item["text"], item["type"] or "").label() for item in elements
    ]
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ManifestError(
            f"{where}: element {twice!r} stands twice, but EvalMuse has one score for each label; "
            "drop one of them"
        )
    labels = row.get("element_labels") or [None] * len(keys)
    if len(labels) != len(keys):
        raise ManifestError(
            f"{where}: element_labels has {len(labels)} entries for {len(keys)} elements; give one "
            "list for each element"
        )
    return {
        "prompt_id": row.get("prompt_id"),
        "prompt": row["prompt"],
        "type": row.get("prompt_type"),
        "img_path": row.get("img_path") or row["image_uri"],
        "total_score": row.get("total_scores") or None,
        "element_score": {key: value or None for key, value in zip(keys, labels, strict=True)},
        **{name: row.get(name) or [] for name in (*_INT_FIELDS, "fidelity_label")},
    }


def _element_scores(value: Any, where: str) -> Mapping[str, Any]:
    if isinstance(value, str):  # the published train_list.json holds a printed object here
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            with contextlib.suppress(ValueError, SyntaxError, MemoryError, RecursionError):
                value = ast.literal_eval(value)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise _malformed(
            where,
            "element_score",
            value,
            'give an object such as {"pig giants (animal)": [1, 0, 1]}, or null',
        )
    return value


def _element(key: Any) -> dict[str, str]:
    element = Element.parse(str(key))
    return {"text": element.text, "type": element.type}


def _text(record: Mapping[str, Any], name: str, where: str) -> str | None:
    """A text, which may be empty: its row is then unscored, with the reason."""
    value = record.get(name)
    if value is not None and not isinstance(value, str):
        raise _malformed(where, name, value, "give a text")
    return value


def _ints(value: Any, where: str, name: str) -> list[int]:
    items = [] if value is None else value
    if not isinstance(items, list) or not all(type(item) is int for item in items):
        raise _malformed(
            where,
            name,
            value,
            "give a list with one integer for each annotator, as in train_list.json, or null",
        )
    return items


def _strings(value: Any, where: str, name: str) -> list[str]:
    items = [] if value is None else value
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise _malformed(where, name, value, "give a list of texts, or null")
    return items


def _malformed(where: str, name: str, value: Any, remedy: str) -> ManifestError:
    field = f"{where}: {name}" if name else where
    return ManifestError(f"{field} is {value!r:.80}; {remedy}")
