"""Images of a store that does not answer: asked again, and never taken for missing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pyarrow as pa
import pytest

from tokenfocus_ray.distributed.outcomes import pair_images
from tokenfocus_ray.distributed.outcomes.pair_images import Spool, WriteImages, parts_of_a_task
from tokenfocus_ray.errors import ImageDecodeError, JobError, RowError
from tokenfocus_ray.scoring.originals import ROW, Originals

PAIRS = pa.table(
    {
        "chosen_row": [7, 2, 7], "rejected_row": [2, 5, 5],
        "chosen_need_path": ["7", "2", "7"], "rejected_need_path": ["2", "5", "5"],
    }
)  # fmt: skip


class Shaky:
    """Has image 2 at the third time, and never image 5."""

    needed = ("path",)

    def __init__(self, answers_at: int) -> None:
        self.asked: list[list[int]] = []
        self.answers_at = answers_at

    def read(self, rows: pa.Table) -> Iterator[tuple[int, bytes | RowError]]:
        numbers: list[Any] = rows[ROW].to_pylist()
        assert rows["path"].to_pylist() == [str(n) for n in numbers]
        self.asked.append(numbers)
        for n in numbers:
            if n == 2 and len(self.asked) < self.answers_at:
                yield n, ImageDecodeError("storage", "image '2' cannot be read (503); wait")
            elif n == 5:
                yield n, ImageDecodeError("image_missing", "gone")
            else:
                yield n, str(n).encode()


def images_of(originals: Shaky, monkeypatch: pytest.MonkeyPatch) -> dict[int, bytes | RowError]:
    monkeypatch.setattr(pair_images, "_PAUSE", 0.0)
    make = WriteImages("trl", cast(Any, originals), cast(Any, None), 0, (pa.string(), pa.int64()))
    with Spool() as images:
        make._read(PAIRS, images)
        return {row: images.get(row) for row in (2, 5, 7)}


def test_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    originals = Shaky(3)
    found = images_of(originals, monkeypatch)
    assert originals.asked == [[2, 5, 7], [2], [2]]  # each once, in the order of the table
    assert (found[2], found[7]) == (b"2", b"7")
    assert cast(RowError, found[5]).code == "image_missing"


def test_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(JobError) as caught:
        images_of(Shaky(99), monkeypatch)
    assert str(caught.value) == (
        "image '2' cannot be read (503); wait (asked 4 times); launch the same command again to go "
        "on"
    )


@pytest.mark.parametrize(
    ("originals", "n_parts", "size"),
    [
        (Originals("s", ("path",), "path", "/data"), 63, 1),
        (Originals("s", ("path",), "path", "/data"), 1_000, 8),
        (Originals("s", ("shard", "key"), source=cast(Any, object())), 80, 10),
        (Originals("s", ("shard", "key"), source=cast(Any, object())), 1_000, 32),
    ],
)
def test_parts_of_a_task(originals: Originals, n_parts: int, size: int) -> None:
    """Shards are read from their beginning, so not for a few images at a time."""
    assert parts_of_a_task(originals, n_parts) == size
