"""Bytes -> text: what a byte order mark says, else UTF-8 or the encoding that the user names.

Nothing is decoded by guessing or with replacement characters: such a prompt would get a score.
"""

from __future__ import annotations

import codecs
from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from tokenfocus_ray.errors import ConfigError, ManifestError, RowError

#: The longer first: UTF-32's little-endian mark begins as UTF-16's does.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
#: Columns in which a source says what is wrong with a row: a key of ``ERROR_CODES`` and a message.
#: They are not written.
ERROR_CODE, ERROR_MESSAGE = "tokenfocus_error_code", "tokenfocus_error_message"

_REMEDY = (
    "name its encoding (`--encoding` of `tokenfocus score`, `evaluate` and `stack`; in a training "
    "configuration `encoding`), such as latin-1, utf-16 or gb18030, or write it again as UTF-8"
)


@dataclass(frozen=True, slots=True)
class TextOptions:
    """How text of the input is read.

    Attributes:
        encoding: Of text without a byte order mark, as Python names it; None: UTF-8.
        quotes: Whether quotes in ``.csv`` and ``.tsv`` stand around values; else they are text.
    """

    encoding: str | None = None
    quotes: bool = True

    def __post_init__(self) -> None:
        """Checks the encoding.

        Raises:
            ConfigError: Python knows no such encoding of text.
        """
        check_encoding(self.encoding)


def check_encoding(name: str | None) -> str | None:
    """The name of an encoding, if it is one.

    Raises:
        ConfigError: Python knows no such encoding of text.
    """
    try:
        if name is not None:
            b"a".decode(name, "ignore")
    except (LookupError, ValueError):  # ValueError: a null character
        raise ConfigError(
            f"encoding {name!r}: there is no such encoding; wanted one that Python knows, such as "
            f"utf-8, latin-1, cp1252, utf-16, gb18030 or shift_jis"
        ) from None
    return name


#: UTF-8, and quotes around values.
PLAIN = TextOptions()


def decode_text(data: bytes, encoding: str | None = None, where: str = "the text") -> str:
    r"""Text of a caption or a cell.

    >>> decode_text(b"\xef\xbb\xbfa pig"), decode_text(b"caf\xe9", "latin-1")
    ('a pig', 'café')

    Args:
        data: Its bytes; a byte order mark is taken off, and wins over ``encoding``.
        encoding: As Python names it; None: UTF-8.
        where: How messages name it.

    Raises:
        RowError: text_invalid, where the bytes are of another encoding.
    """
    try:
        return _decoded(data, encoding)
    except UnicodeError as error:
        raise RowError("text_invalid", f"{where} {_problem(error, data)}; {_REMEDY}") from None


def decode_file(data: bytes, encoding: str | None, where: str) -> str:
    """Text of a whole file, likewise.

    Raises:
        ManifestError: naming the line and the byte.
    """
    try:
        return _decoded(data, encoding)
    except UnicodeError as error:
        line = data.count(b"\n", 0, getattr(error, "start", 0)) + 1
        raise ManifestError(f"{where}: line {line} {_problem(error, data)}; {_REMEDY}") from None


def as_text(value: Any, encoding: str | None = None, where: str = "the text") -> str | None:
    """The one text that a cell holds.

    >>> as_text("a pig"), as_text(b"a pig"), as_text(["a pig"]), as_text(7), as_text([])
    ('a pig', 'a pig', 'a pig', '7', None)

    Args:
        value: A text, its bytes, a whole number, a list of one of these, or None.
        encoding: Of bytes.
        where: How messages name it.

    Raises:
        RowError: text_invalid; or type_invalid where it is anything else, such as several texts:
            Python's way of printing it would be scored.
    """
    if isinstance(value, (list, tuple)) and len(value) < 2:
        value = value[0] if value else None
    if value is None or value != value:  # NaN is how pandas writes that nothing is there
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return decode_text(value, encoding, where)
    if isinstance(value, (int, UUID)) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, Decimal) and value == value.to_integral_value():
        return f"{value:f}"
    what = f"a list of {len(value)}" if isinstance(value, (list, tuple)) else type(value).__name__
    raise RowError("type_invalid", f"{where} is {value!r:.80} ({what}); give one text")


def make_valid(row: dict[str, Any], asked: Collection[str | None]) -> dict[str, Any]:
    """The row with half surrogate pairs written out, which Arrow cannot hold.

    Args:
        row: Values as JSON has them.
        asked: Names of the values that are asked: one that is not valid marks the row.
    """
    out: dict[str, Any] = {readable(name): _readable(value) for name, value in row.items()}
    for name in asked:
        if name in row and out[name] is not row[name]:
            out.setdefault(ERROR_CODE, "text_invalid")
            out.setdefault(ERROR_MESSAGE, f"{name} is not valid Unicode: {out[name]!r:.80}")
    return out


def _readable(value: Any) -> Any:
    """The same object where all its texts are valid."""
    new = value
    if isinstance(value, str):
        new = readable(value)
    elif isinstance(value, list):
        new = [_readable(item) for item in value]
    elif isinstance(value, dict):
        new = {readable(name): _readable(item) for name, item in value.items()}
    return value if new == value else new


def is_valid(text: str) -> bool:
    """Whether a text is Unicode: JSON and file names may bring half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def readable(text: str) -> str:
    r"""A text in which what is not Unicode is written out.

    >>> readable("a pig \ud83d")
    'a pig \\ud83d'
    """
    return text.encode("utf-8", "backslashreplace").decode()


def _decoded(data: bytes, encoding: str | None) -> str:
    for mark, name in _MARKS:
        if data.startswith(mark):
            data, encoding = data[len(mark) :], name
            break
    text = data.decode(encoding or "utf-8")
    if "\0" in text:  # which UTF-16 without its mark is full of, and no text holds
        raise UnicodeDecodeError(encoding or "utf-8", data, data.index(b"\0"), 1, "null character")
    return text


def _problem(error: UnicodeError, data: bytes) -> str:
    if not isinstance(error, UnicodeDecodeError):
        return f"cannot be decoded: {error}"
    at = error.start
    seen = f"0x{error.object[at]:02x}" if at < len(error.object) else "its end"
    return f"is not {error.encoding}: byte {at} is {seen} ({error.reason})"
