"""Text manifests and tables (``.csv``, ``.tsv``, ``.jsonl``) -> Arrow, whole and untouched.

A column of a csv or tsv file is text, whatever it looks like: an id keeps its zeros, and a prompt
may be ``null`` or a date. Whoever needs numbers makes them (``ensemble.table.numbers``).
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from tokenfocus_ray.datasets.manifest import roles_of
from tokenfocus_ray.errors import ManifestError, RowError
from tokenfocus_ray.storage import Store, public
from tokenfocus_ray.tables.text import (
    ERROR_CODE,
    ERROR_MESSAGE,
    PLAIN,
    TextOptions,
    as_text,
    decode_file,
    make_valid,
)

#: Roles whose value is one text.
TEXT_ROLES = ("prompt", "image", "image_uri", "sample_id", "prompt_type")
_CHUNK_ROWS = 65_536
#: Most levels of a value in jsonl, and of a column that stays no JSON: Arrow streams take 64.
_MAX_DEPTH, _MAX_LEVELS = 100, 32
_QUOTES = (
    'write a quote inside of a value twice ("") and the value in quotes, or take quotes for text '
    "with `tokenfocus score --no-quotes`"
)


def read_small(
    source: Path | Store,
    mapping: Mapping[str, str] | None = None,
    text: TextOptions = PLAIN,
) -> pa.Table:
    """Reads a text manifest or table whole.

    Args:
        source: The file.
        mapping: Role -> column name, as for :func:`~tokenfocus_ray.datasets.manifest.find_columns`;
            None: a table of scores, in which no column has a role.
        text: Encoding and quotes.

    Returns:
        Its columns. Where a row of a manifest cannot be asked, the columns ``ERROR_CODE`` and
        ``ERROR_MESSAGE`` beside them.

    Raises:
        ManifestError: the file cannot be read or parsed; naming the line.
    """
    store = source if isinstance(source, Store) else Store.of(source)
    where, suffix = public(store.uri), PurePosixPath(store.root).suffix.lower()
    try:
        content = decode_file(store.read_bytes(), text.encoding, where)
        if suffix == ".jsonl":
            return _read_jsonl(content, mapping)
        table = _read_delimited(content, "\t" if suffix == ".tsv" else ",", text.quotes)
        return _without_empty(table) if mapping is None else table
    except ManifestError:
        raise
    except (OSError, ValueError) as error:
        raise ManifestError(f"{where}: cannot be read as {suffix[1:]}: {error}") from error


def _read_delimited(content: str, delimiter: str, quotes: bool) -> pa.Table:
    quotes = quotes and '"' in content
    records = _records(content, delimiter, quotes)
    _, names = next(records, (0, []))
    if not names:
        raise ValueError("it is empty")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"column {twice!r} stands there twice; rename or drop one")
    if not quotes:  # several times as fast; where it fails, what follows says in which line
        with suppress(pa.ArrowInvalid):
            return arrow_csv.read_csv(
                io.BytesIO(content.encode()),
                parse_options=arrow_csv.ParseOptions(delimiter=delimiter, quote_char=False),
                convert_options=arrow_csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
                ),
            )
    chunks: list[pa.Table] = []
    rows: list[list[str]] = []
    for line, record in records:
        if len(record) != len(names):
            shown = delimiter.join(record)
            raise ValueError(
                f"line {line}: {len(record)} values for {len(names)} columns: {shown:.80}"
            )
        rows.append(record)
        if len(rows) == _CHUNK_ROWS:
            chunks.append(_of_texts(names, rows))
            rows = []
    return pa.concat_tables([*chunks, _of_texts(names, rows)])


def _without_empty(table: pa.Table) -> pa.Table:
    """Null where a table of scores has nothing; of a manifest, a prompt that is empty stays so."""
    for i, name in enumerate(table.column_names):
        column = table.column(i)
        blank: Any = pc.equal(column, pa.scalar(""))
        table = table.set_column(i, name, pc.if_else(blank, None, column))
    return table


def _of_texts(names: Sequence[str], rows: Sequence[Sequence[str]]) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else ([] for _ in names)
    return pa.table([pa.array(c, pa.string()) for c in columns], names=list(names))


def _records(content: str, delimiter: str, quotes: bool) -> Iterator[tuple[int, list[str]]]:
    """Line and values of each record; blank lines are passed over."""
    lines = list(io.StringIO(content, newline=""))
    quoting: Any = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
    # strict: else a quote that never closes takes all that follows for one value, without a word
    reader = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True)
    limit = csv.field_size_limit(sys.maxsize)
    try:
        while True:
            before = reader.line_num
            try:
                record = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                problem = _quote_problem(error, reader.line_num)
                raise ValueError(f"line {before + 1}: {problem}") from None
            own = lines[before : reader.line_num] if reader.line_num > before + 1 else ()
            if own and _are_rows(own, delimiter, len(record)):
                raise ValueError(
                    f"line {before + 1}: a quote that opens here closes on line {reader.line_num}, "
                    f"so that {len(own)} lines that look like rows would be one; {_QUOTES}"
                )
            if record:
                yield before + 1, record
    finally:
        csv.field_size_limit(limit)


def _quote_problem(error: csv.Error, line: int) -> str:
    if "unexpected end of data" in str(error):
        return f"a quote opens in this row and never closes; {_QUOTES}"
    if "expected after" in str(error):
        return f"text follows a closing quote (on line {line}); {_QUOTES}"
    return str(error)


def _are_rows(lines: Sequence[str], delimiter: str, n_columns: int) -> bool:
    """Whether the lines that one record spans would be rows of their own.

    A prompt of several lines may have as many commas in each, but not also a file name in the same
    place; tabs are in hardly any.
    """
    parts = [line.rstrip("\r\n").split(delimiter) for line in lines]
    if n_columns < 2 or any(len(values) != n_columns for values in parts):
        return False
    suffixes = ({PurePosixPath(v.strip('" ')).suffix for v in c} for c in zip(*parts, strict=True))
    return delimiter == "\t" or any(len(s) == 1 and 2 <= len(*s) <= 5 for s in suffixes)


def _read_jsonl(content: str, mapping: Mapping[str, str] | None) -> pa.Table:
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(io.StringIO(content), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if line.count("[") + line.count("{") > _MAX_DEPTH and _depth(row) > _MAX_DEPTH:
                raise ValueError(f"nested more than {_MAX_DEPTH} deep")
        except json.JSONDecodeError as error:
            where = f"line {number}, character {error.pos + 1}"
            raise ValueError(f"{where}: {error.msg}") from None
        except (ValueError, RecursionError) as error:  # a number of very many digits; nested deeply
            raise ValueError(f"line {number}: {error}") from None
        if not isinstance(row, dict):
            raise ValueError(f"line {number}: wanted an object, got {type(row).__name__}")
        rows.append(row)
    if not rows:
        raise ValueError("it has no rows")
    roles = {} if mapping is None else roles_of(list(_names(rows)), mapping)
    texts = [name for role in TEXT_ROLES if (name := roles.get(role))]
    rows = [_checked(row, texts, {*texts, roles.get("elements")}) for row in rows]
    codes = {row.get(ERROR_CODE) for row in rows}
    if codes == {"type_invalid"}:
        raise ValueError(f"no row can be scored; in the first, {rows[0][ERROR_MESSAGE]}")
    names = _names(rows)
    if mapping is None:
        names = {name: None for name in names if name not in (ERROR_CODE, ERROR_MESSAGE)}
    known = dict.fromkeys((*texts, ERROR_CODE, ERROR_MESSAGE), pa.string())
    return pa.table({n: _column([row.get(n) for row in rows], known.get(n)) for n in names})


def _names(rows: Sequence[Mapping[str, Any]]) -> dict[str, None]:
    return dict.fromkeys(name for row in rows for name in row)


def _checked(
    row: dict[str, Any], texts: Collection[str], asked: Collection[str | None]
) -> dict[str, Any]:
    """A row whose texts are texts, or that says why not."""
    row = make_valid(row, asked)
    for name in [n for n in texts if n in row]:
        try:
            row[name] = as_text(row[name], where=name)
        except RowError as error:
            row[name] = None
            row.setdefault(ERROR_CODE, error.code)
            row.setdefault(ERROR_MESSAGE, error.message)
    # objects of different keys would become one struct with the keys of all rows
    return {k: _json(v) if isinstance(v, dict) else v for k, v in row.items()}


def _depth(value: Any) -> int:
    """Levels of lists and objects, without recursion."""
    depth, level = 0, [value]
    while level := [v for v in level if isinstance(v, (list, dict))]:
        depth += 1
        level = [v for one in level for v in (one.values() if isinstance(one, dict) else one)]
    return depth


def _levels(kind: Any) -> int:
    return 1 + max((_levels(kind.field(i).type) for i in range(kind.num_fields)), default=0)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _column(values: list[Any], kind: pa.DataType | None) -> pa.Array[Any]:
    """Values of one type as they are; of several, or too large for Arrow, each as JSON."""
    with suppress(pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        column = pa.array(values, kind)
        if _levels(column.type) <= _MAX_LEVELS:
            return column
    texts = [v if v is None or isinstance(v, str) else _json(v) for v in values]
    return pa.array(texts, pa.string())
