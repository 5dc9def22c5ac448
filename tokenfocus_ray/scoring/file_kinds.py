"""What bytes that are no image look like: a kind for messages, and never a piece of them."""

from __future__ import annotations

import re

#: Start of the file (bytes of a regular expression) -> what it is, the first that fits.
_KINDS = (
    (rb"\s*(<!doctype html|<html|<head|<body)", "a web page (HTML)"),
    (rb"\s*<(svg|[?!].*<svg)", "an SVG drawing"),
    (rb"\s*<\?xml", "XML"),
    (rb"version https://git-lfs", "a pointer of Git LFS, in place of the file"),
    (rb"\s*[\[{]\s*[\[{\"\]}\d-]", "JSON"),
    (rb"%PDF-", "a PDF"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "PostScript"),
    (rb"\x1f\x8b", "a gzip archive"),
    (rb"PK(\x03\x04|\x05\x06)", "a ZIP archive"),
    (rb"BZh|\xfd7zXZ|7z\xbc\xaf|\x28\xb5\x2f\xfd|Rar!", "a packed archive"),
    (rb"PAR1", "a Parquet file"),
    (rb".{4}ftyp(heic|heix|hevc|heim|heis|mif1|msf1)", "a HEIC image"),
    (rb".{4}ftyp|\x1a\x45\xdf\xa3|RIFF.{4}AVI ", "a video"),
    (rb"\x00\x00\x00\x0cjP|\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (rb"\xff\x0a|\x00\x00\x00\x0cJXL", "a JPEG XL image"),
    (rb"8BPS", "a Photoshop image"),
    (rb"\x00\x00[\x01\x02]\x00", "an icon"),
    (rb"\x93NUMPY", "a NumPy array"),
    (rb"\x00+\Z", "zeros only"),
)
_START = 1024


def kind_of(data: bytes) -> str:
    r"""What a file looks like that is no image.

    >>> kind_of(b"<!DOCTYPE html><html>404"), kind_of(b"root:x:0:0"), kind_of(b"\x00\x9f")
    ('a web page (HTML)', 'text', 'nothing that is known')
    """
    start = data[:_START]
    for pattern, kind in _KINDS:
        if re.match(pattern, start, re.DOTALL | re.IGNORECASE):
            return kind
    printable = all(byte >= 32 or byte in b"\t\n\r\f\x1b" for byte in start)
    return "text" if printable and _is_utf8(start) else "nothing that is known"


def _is_utf8(start: bytes) -> bool:
    try:
        start.decode()
    except UnicodeDecodeError as error:
        return error.start >= len(start) - 3  # a character that the cut parted
    return True
