"""Rows of a manifest: which prompts are to be decomposed, and the rows with what came of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tokenfocus_ray.datasets.manifest import Columns
from tokenfocus_ray.datasets.role_types import is_text, item_type, plain_type
from tokenfocus_ray.datasets.role_values import valid_values
from tokenfocus_ray.elements.decomposed import Decomposed, nothing
from tokenfocus_ray.schema import ELEMENT_TYPE, Element, parse_elements
from tokenfocus_ray.tables.text import ERROR_CODE, ERROR_MESSAGE

#: Of a manifest that has no such column.
ELEMENTS = "elements"
STATUS, REASON = "elements_status", "elements_reason"
_GIVEN = Decomposed((), "given")


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be done with a row.

    Attributes:
        prompt: To be decomposed; None: nothing is.
        result: Where nothing is, what the row's result is: its elements are given, or its prompt
            cannot be read.
    """

    prompt: str | None
    result: Decomposed | None = None


def ask(table: pa.Table, columns: Columns, encoding: str | None, replace: bool) -> list[Asked]:
    """What is to be done with each row.

    Args:
        table: Rows of a source; only the columns of prompts and elements count.
        columns: Which column is what.
        encoding: Of text in bytes; None: UTF-8.
        replace: Whether rows with elements get new ones too.
    """
    names = [n for n in (columns.prompt, columns.elements) if n in table.column_names]
    errors = [n for n in (ERROR_CODE, ERROR_MESSAGE) if n in table.column_names]
    asked = valid_values(table.select(list(dict.fromkeys([*names, *errors]))), columns, encoding)
    prompts: list[Any] = asked[columns.prompt].to_pylist()
    given: list[Any] = [None] * table.num_rows
    if columns.elements in names and not replace:
        given = asked[columns.elements].to_pylist()
    found = []
    for prompt, value, message in zip(
        prompts, given, asked[ERROR_MESSAGE].to_pylist(), strict=True
    ):
        if has_elements(value):
            found.append(Asked(None, _GIVEN))
        elif message is not None:
            found.append(Asked(None, nothing(message)))
        elif prompt is None or not str(prompt).strip():
            found.append(Asked(None, nothing("the prompt is empty")))
        else:
            found.append(Asked(str(prompt)))
    return found


def has_elements(value: Any) -> bool:
    """Whether a row brings elements; such as cannot be read are the row's own too.

    >>> has_elements(["a pig"]), has_elements("[]"), has_elements(None), has_elements("no json")
    (True, False, False, True)
    """
    try:
        return parse_elements(value) is not None
    except ValueError:
        return True


def out_schema(schema: pa.Schema, columns: Columns) -> pa.Schema:
    """The columns that are written: all that were read, elements, status and reason."""
    for name in (columns.elements or ELEMENTS, STATUS, REASON):
        kind: Any = pa.string()
        if name == (columns.elements or ELEMENTS):
            kind = pa.list_(ELEMENT_TYPE)
            if name in schema.names and _form(schema.field(name).type) != "structs":
                kind = schema.field(name).type
                kind = pa.list_(ELEMENT_TYPE) if pa.types.is_null(kind) else kind
            elif name in schema.names:
                kind = schema.field(name).type
        at = schema.get_field_index(name)
        new = pa.field(name, kind)
        schema = schema.append(new) if at < 0 else schema.set(at, new)
    return schema


def check_form(schema: pa.Schema, columns: Columns) -> str | None:
    """Why new elements cannot stand in the column of those that are there; None where they can."""
    name = columns.elements
    if name is None or name not in schema.names or _form(schema.field(name).type):
        return None
    return (
        f"column {name!r} (elements) is of type {schema.field(name).type}, into which no new "
        f"elements can be written; wanted a list of texts, a list of structs of text and type, or "
        f"JSON text: convert it"
    )


def _form(kind: Any) -> str | None:
    """In which form a column holds elements; None: in none that new ones can take."""
    kind = plain_type(kind)
    if pa.types.is_null(kind) or is_text(kind):
        return "json"
    item = item_type(kind)
    if item is None:
        return None
    if is_text(plain_type(item)):
        return "labels"
    if pa.types.is_struct(item) and {f.name for f in item} == {"text", "type"}:
        return "structs"
    return None


def with_results(
    table: pa.Table, columns: Columns, results: Sequence[Decomposed], schema: pa.Schema
) -> pa.Table:
    """Rows with their elements, status and reason; given elements stay as they are.

    What says something of elements that are replaced (:func:`of_elements`) becomes null.

    Args:
        table: Rows of the source.
        columns: Which column is what.
        results: One a row.
        schema: From :func:`out_schema`.
    """
    name = columns.elements or ELEMENTS
    kind = schema.field(name).type
    n_rows = table.num_rows
    given = [result.status == "given" for result in results]
    elements: Any = pa.array([_value(result.elements, kind) for result in results], kind)
    if any(given):  # by place, since what is given may be no valid text
        both = pa.chunked_array([*table[name].chunks, elements], kind)
        at = [i if is_given else n_rows + i for i, is_given in enumerate(given)]
        elements = both.take(pa.array(at, pa.int64()))
    statuses, reasons = (_known(table, n) for n in (STATUS, REASON))
    for i, result in enumerate(results):
        if not given[i]:
            statuses[i], reasons[i] = result.status, result.reason
        elif statuses[i] is None:  # else what an earlier run said of these elements holds still
            statuses[i] = "given"
    new = {
        name: elements,
        STATUS: pa.array(statuses, pa.string()),
        REASON: pa.array(reasons, pa.string()),
    }
    if name in table.column_names:
        kept: Any = pc.or_(pa.array(given, pa.bool_()), table[name].is_null())
        for other in of_elements(schema, columns):  # it would be taken for the new ones'
            column: Any = table[other]
            new[other] = pc.if_else(kept, column, pa.scalar(None, column.type))
    return pa.table([new[n] if n in new else table[n] for n in schema.names], schema=schema)


def of_elements(schema: pa.Schema, columns: Columns) -> list[str]:
    """Columns that say something of each element, such as ``element_labels``, by their names."""
    return [n for n in schema.names if n.startswith("element_") and n != columns.elements]


def _known(table: pa.Table, name: str) -> list[Any]:
    """What an earlier run said of each row."""
    if name in table.column_names and is_text(table.schema.field(name).type):
        return table[name].to_pylist()
    return [None] * table.num_rows


def _value(elements: Sequence[Element], kind: Any) -> Any:
    if not elements:
        return None
    labels = [element.label() for element in elements]
    form = _form(kind)
    if form == "json":
        return json.dumps(labels, ensure_ascii=False)
    if form == "labels":
        return labels
    return [{"text": element.text, "type": element.type} for element in elements]
