"""Files too large for memory."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from tokenfocus_ray.errors import OutputError
from tokenfocus_ray.storage import Store
from tokenfocus_ray.storage.uploads import upload


def test_a_file_is_written_whole_whatever_was_read_of_it(tmp_path: Path) -> None:
    file = io.BytesIO(b"0123456789")
    file.read(4)
    target = Store.of(tmp_path / "a" / "b.tar")
    upload(file, target)
    assert target.read_bytes() == b"0123456789"
    upload(io.BytesIO(b"new"), target)
    assert target.read_bytes() == b"new"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.tar"]


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError) as caught:
        upload(io.BytesIO(b"x"), Store.of(tmp_path / "file" / "b.tar"))
    assert str(caught.value).startswith(f"cannot write '{tmp_path}/file/b.tar': ")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
