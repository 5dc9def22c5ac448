"""Captions and files of other encodings are decoded as they say or as the user says, or refused."""

from __future__ import annotations

import pytest

from tokenfocus_ray.errors import ConfigError, ManifestError, RowError
from tokenfocus_ray.tables.text import (
    check_encoding,
    decode_file,
    decode_text,
    is_valid,
    readable,
)

REMEDY = (
    "name its encoding (`--encoding` of `tokenfocus score`, `evaluate` and `stack`; in a training "
    "configuration `encoding`), such as latin-1, utf-16 or gb18030, or write it again as UTF-8"
)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("named", [None, "latin-1"])
def test_a_byte_order_mark_says_the_encoding(encoding: str, named: str | None) -> None:
    assert decode_text("a café, 猪".encode(encoding), named) == "a café, 猪"


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16-le", "shift_jis", "gb18030"])
def test_an_encoding_that_is_named_is_used(encoding: str) -> None:
    text = "猪" if encoding in ("gb18030", "shift_jis") else "café"
    assert decode_text(text.encode(encoding), encoding) == text


@pytest.mark.parametrize(
    ("data", "encoding", "problem"),
    [
        ("café".encode("latin-1"), None, "utf-8: byte 3 is 0xe9 (unexpected end of data)"),
        ("猪".encode("gbk"), None, "utf-8: byte 0 is 0xd6 (invalid continuation byte)"),
        ("café".encode(), "ascii", "ascii: byte 3 is 0xc3 (ordinal not in range(128))"),
        ("cat".encode("utf-16-le"), None, "utf-8: byte 1 is 0x00 (null character)"),
        (b"\xff\xfea", None, "utf-16-le: byte 0 is 0x61 (truncated data)"),
    ],
    ids=["latin-1", "gbk", "ascii", "utf-16 without a mark", "cut utf-16"],
)
def test_text_of_another_encoding_is_refused(
    data: bytes, encoding: str | None, problem: str
) -> None:
    """Before, it was decoded with replacement characters, and scored."""
    with pytest.raises(RowError) as caught:
        decode_text(data, encoding, "caption 'a.txt'")
    assert caught.value.code == "text_invalid"
    assert caught.value.message == f"caption 'a.txt' is not {problem}; {REMEDY}"


def test_a_file_of_another_encoding_is_refused_by_line() -> None:
    with pytest.raises(ManifestError) as caught:
        decode_file("prompt\na pig\ncafé\n".encode("latin-1"), None, "m.csv")
    problem = "is not utf-8: byte 16 is 0xe9 (invalid continuation byte)"
    assert str(caught.value) == f"m.csv: line 3 {problem}; {REMEDY}"


@pytest.mark.parametrize("name", ["latin1x", "base64", "", "a\0b"])
def test_an_encoding_that_does_not_exist_is_refused(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_encoding(name)
    assert str(caught.value) == (
        f"encoding {name!r}: there is no such encoding; wanted one that Python knows, such as "
        f"utf-8, latin-1, cp1252, utf-16, gb18030 or shift_jis"
    )


def test_encodings_that_exist() -> None:
    assert [check_encoding(n) for n in (None, "latin-1", "UTF8")] == [None, "latin-1", "UTF8"]


def test_half_a_surrogate_pair_is_no_text() -> None:
    assert [is_valid(t) for t in ("pig", "\U0001f437", "\ud83d")] == [True, True, False]
    assert readable("\ud83d pig") == "\\ud83d pig"
