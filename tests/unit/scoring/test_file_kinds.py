"""What is said of bytes that are no image: a kind, and no piece of them."""

from __future__ import annotations

import pytest

from tokenfocus_ray.scoring.file_kinds import kind_of


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\n<!DOCTYPE html>\n<html><svg></svg>", "a web page (HTML)"),
        (b'<?xml version="1.0"?>\n<!-- a --><svg xmlns="x">', "an SVG drawing"),
        (b"<svg>", "an SVG drawing"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "XML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "a pointer of Git LFS, in "
         "place of the file"),
        (b'{"error": 1}', "JSON"),
        (b"[1, 2]", "JSON"),
        (b"[section]\nkey = 1", "text"),
        (b"%PDF-1.7", "a PDF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "PostScript"),
        (b"\x1f\x8b\x08\x00", "a gzip archive"),
        (b"PK\x03\x04\x14", "a ZIP archive"),
        (b"PAR1\x15\x04", "a Parquet file"),
        (b"\x00\x00\x00\x18ftypheic\x00", "a HEIC image"),
        (b"\x00\x00\x00\x18ftypmp42\x00", "a video"),
        (b"\xff\x0a\xfa\x9f", "a JPEG XL image"),
        (b"\x00\x00\x01\x00\x01\x00", "an icon"),
        (bytes(4096), "zeros only"),
        (b"API_KEY=abc\n", "text"),
        ("ключ".encode() * 400, "text"),
        (b"x" + "ключ".encode() * 400, "text"),
        (b"\xff\xfe\x00", "nothing that is known"),
        (b"<!--" * 100_000, "text"),
    ],
)  # fmt: skip
def test_the_kind_is_recognised(data: bytes, kind: str) -> None:
    assert kind_of(data) == kind
