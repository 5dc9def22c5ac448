"""Tar shards of strangers: one bad file spoils its row, never the job, and nothing is merged."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image

from tokenfocus_ray.datasets import tar_samples
from tokenfocus_ray.datasets.names import IMAGE_ENDINGS
from tokenfocus_ray.datasets.tars import PASSED_OVER, read_tar, tar_schema
from tokenfocus_ray.schema import ERROR_CODES
from tokenfocus_ray.scoring.image import FORMATS
from tokenfocus_ray.storage import Store
from tokenfocus_ray.tables.text import ERROR_CODE, ERROR_MESSAGE

END = bytes(1024)


def member(name: str, data: bytes = b"", **changes: Any) -> bytes:
    """One file as it stands in a tar, with whatever the header claims."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for attribute, value in changes.items():
        setattr(info, attribute, value)
    return info.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512)


def read(path: Path, data: bytes, schema: pa.Schema | None = None) -> list[dict[str, Any]]:
    path = path / "s.tar"
    path.write_bytes(data)
    tables = list(read_tar(Store.of(path), schema or tar_schema(["seed"]), 100))
    rows = [row for table in tables for row in table.to_pylist()]
    assert {row[ERROR_CODE] for row in rows} - {None} <= set(ERROR_CODES)
    return rows


def seen(rows: list[dict[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in rows]


def whole(key: str) -> bytes:
    return member(f"{key}.jpg", b"picture") + member(f"{key}.txt", b"a pig")


GOOD = ("z", b"picture", "a pig", None)


# --- one bad file is one bad row -------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "code", "message"),
    [
        (
            member("a.json", b"[" * 200_000),
            "member_invalid",
            "a.json cannot be read as JSON: maximum recursion depth exceeded while decoding a JSON "
            "array from a unicode string",
        ),
        (
            member("a.json", b'{"a": 1'),
            "member_invalid",
            "a.json cannot be read as JSON: Expecting ',' delimiter: line 1 column 8 (char 7)",
        ),
        (
            member("a.json", b'{"seed": "pig \\ud83d"}'),
            "text_invalid",
            "a.json: seed is not valid Unicode: pig \\ud83d",
        ),
    ],
    ids=["deep", "no JSON", "half a surrogate pair"],
)
def test_a_bad_json_is_an_error_of_its_row(
    tmp_path: Path, bad: bytes, code: str, message: str
) -> None:
    rows = read(tmp_path, whole("a") + bad + whole("z") + END)
    assert seen(rows, "key", "prompt", ERROR_CODE, ERROR_MESSAGE) == [
        ("a", "a pig", code, message),
        ("z", "a pig", None, None),
    ]


def test_half_a_surrogate_pair_as_the_prompt_is_an_error_of_its_row(tmp_path: Path) -> None:
    data = member("a.json", b'{"caption": "\\udc80 pig", "elements": ["cat"]}')
    rows = read(tmp_path, data + whole("z") + END)
    assert seen(rows, "key", "prompt", ERROR_CODE) == [
        ("a", "\\udc80 pig", "text_invalid"),
        ("z", "a pig", None),
    ]


def sparse(name: str, claimed: int, data: bytes) -> bytes:
    """A file of holes, as GNU tar writes it: its data, a map, and the size that it claims."""
    header = bytearray(member(name, data, type=tarfile.GNUTYPE_SPARSE)[:512])
    header[386:410] = b"%011o\0%011o\0" % (0, len(data))
    header[483:495] = b"\x80" + claimed.to_bytes(11, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + data + bytes(-len(data) % 512)


def test_a_sparse_file_that_claims_40_gb_is_an_error_of_its_row(tmp_path: Path) -> None:
    rows = read(tmp_path, sparse("a.jpg", 40 * 10**9, b"x" * 700) + whole("z") + END)
    assert seen(rows, "key", "image", ERROR_CODE, ERROR_MESSAGE) == [
        (
            "a",
            None,
            "member_invalid",
            "'a.jpg' is a sparse file in the shard; pack the files themselves (GNU tar: "
            "--dereference --hard-dereference, without --sparse)",
        ),
        ("z", b"picture", None, None),
    ]


@pytest.mark.parametrize("name", ["a.jpg", "a.txt"])
def test_a_file_beyond_the_limit_is_gone_past(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(tar_samples, "MAX_IMAGE_BYTES", 1000)
    monkeypatch.setattr(tar_samples, "MAX_TEXT_BYTES", 1000)
    big = member(name, b"x" * 1001) + member("a.npy", b"x" * 5000)
    rows = read(tmp_path, big + member("y.png", b"x" * 1000) + whole("z") + END)
    assert seen(rows, "key", ERROR_CODE, ERROR_MESSAGE) == [
        ("a", "member_too_large", f"{name!r} has 1001 bytes, the limit is 1000; make it smaller"),
        ("y", None, None),
        ("z", None, None),
    ]


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        (tarfile.SYMTYPE, "a link"),
        (tarfile.LNKTYPE, "a link"),
        (tarfile.CHRTYPE, "no regular file"),
        (tarfile.FIFOTYPE, "no regular file"),
    ],
)
def test_links_and_devices_are_errors_of_their_rows(
    tmp_path: Path, kind: bytes, shown: str
) -> None:
    """Before, the row had no image, or was not there at all."""
    link = member("a.jpg", type=kind, linkname="/etc/passwd")
    rows = read(tmp_path, member("d", type=tarfile.DIRTYPE) + link + whole("z") + END)
    assert seen(rows, "key", "image", "prompt", ERROR_CODE) == [
        ("a", None, None, "member_invalid"),
        GOOD,
    ]
    assert rows[0][ERROR_MESSAGE].startswith(f"'a.jpg' is {shown} in the shard; ")


def pax(**headers: str) -> bytes:
    """Attributes of the file that follows."""
    return tarfile.TarInfo._create_pax_generic_header(  # type: ignore[attr-defined,no-any-return]
        {name.replace("_", "."): value for name, value in headers.items()}, tarfile.XHDTYPE, "utf-8"
    )


@pytest.mark.parametrize(
    "bad",
    [
        pax(size="-5") + member("b.jpg", b"x" * 900),
        pax(size="-512") + member("b.jpg", b"x" * 900),
        pax(size=str(2**62)) + member("b.jpg", b"x" * 900),
        pax(GNU_sparse_map="0,x", GNU_sparse_size="9") + member("b.jpg", b"x" * 900),
        pax(GNU_sparse_major="1", GNU_sparse_minor="0", GNU_sparse_realsize="9")
        + member("b.jpg", b"9999999999"),
        member("b", type=tarfile.GNUTYPE_LONGNAME, size=2**40),
        member("b", type=tarfile.XHDTYPE, size=2**40),
        member("b.npy", size=2**62),
        pax(mtime="1") * 2000 + member("b.jpg"),
        b"no header of a tar at all".ljust(512, b"."),
    ],
    ids=["negative", "backwards", "huge", "sparse map", "endless sparse map", "long name",
         "long attributes", "huge and not read", "nested headers", "garbage"],
)  # fmt: skip
def test_headers_that_lie_end_the_shard_in_a_row_and_never_the_job(
    tmp_path: Path, bad: bytes
) -> None:
    """Without an exception, without memory for what is claimed, without end of the reading."""
    first, *rest, last = read(tmp_path, whole("z") + bad)
    assert seen([first], "key", "image", "prompt", ERROR_CODE) == [GOOD]
    assert [row["image"] for row in rest] in ([], [None])
    assert last[ERROR_CODE] == "source_corrupt"
    assert last[ERROR_MESSAGE].endswith("; fetch it again, what follows in it was not scored")


# --- which files are one sample --------------------------------------------------------------


def test_files_of_the_system_are_passed_over_and_counted(tmp_path: Path) -> None:
    """AppleDouble's files made samples of their own before."""
    hidden = ["._z.jpg", "__MACOSX/._z.jpg", ".DS_Store", "sub/.cache/q.jpg", "README"]
    data = b"".join(member(name, b"x") for name in hidden) + whole("z") + END
    (tmp_path / "s.tar").write_bytes(data)
    (table,) = read_tar(Store.of(tmp_path / "s.tar"), tar_schema([]), 100)
    assert seen(table.to_pylist(), "key", "image", "prompt", ERROR_CODE) == [GOOD]
    metadata: Any = table.schema.metadata
    assert json.loads(metadata[PASSED_OVER]) == {"hidden": 4, "without an ending": 1}


def test_a_shard_of_hidden_files_only_still_counts_them(tmp_path: Path) -> None:
    (tmp_path / "s.tar").write_bytes(member("._z.jpg") + END)
    (table,) = read_tar(Store.of(tmp_path / "s.tar"), tar_schema([]), 100)
    assert table.num_rows == 0
    metadata: Any = table.schema.metadata
    assert json.loads(metadata[PASSED_OVER]) == {"hidden": 1}


def test_images_that_a_dot_merges_are_refused_and_named(tmp_path: Path) -> None:
    """webdataset's key ends at the first dot: one sample of two images, of which none is meant."""
    merged = {"photo.1.png": b"1", "photo.2.png": b"2", "photo.txt": b"t"}
    both = {"q.jpg": b"j", "q.png": b"p"}
    data = b"".join(member(n, d) for n, d in (merged | both).items())
    rows = read(tmp_path, data + whole("z") + END)
    message = (
        "key {} has the images {}: a key ends at the first dot of a file's name; name the one to "
        "score with --map image={}, or pack files without more dots in their names"
    )
    assert seen(rows, "key", "image", ERROR_CODE, ERROR_MESSAGE) == [
        ("photo", None, "member_ambiguous", message.format("'photo'", "'1.png', '2.png'", "1.png")),
        ("q", None, "member_ambiguous", message.format("'q'", "'jpg', 'png'", "jpg")),
        ("z", b"picture", None, None),
    ]
    rows = read(tmp_path, data + END, tar_schema([], "2.PNG"))
    assert seen(rows, "key", "2.PNG", ERROR_CODE) == [("photo", b"2", None), ("q", None, None)]


def test_one_image_beside_others_of_more_dots_is_the_image(tmp_path: Path) -> None:
    data = member("a.seg.png", b"mask") + member("a.JPG", b"j") + member("a.txt", b"t")
    rows = read(tmp_path, data + END)
    assert seen(rows, "key", "image", "prompt", ERROR_CODE) == [("a", b"j", "t", None)]


def test_a_name_that_comes_twice_is_a_row_of_its_own(tmp_path: Path) -> None:
    """Before, the second overwrote the first."""
    rows = read(tmp_path, whole("a") + member("a.JPG", b"other") + whole("z") + END)
    assert seen(rows, "key", "image", "prompt", ERROR_CODE, ERROR_MESSAGE) == [
        ("a", b"picture", "a pig", None, None),
        (
            "a",
            b"other",
            None,
            "member_duplicate",
            "key 'a' came before in the shard: these files are another sample of its name, or "
            "stand apart from it; give each sample a key of its own and its files side by side",
        ),
        (*GOOD, None),
    ]


def test_a_sample_whose_files_stand_apart_is_told(tmp_path: Path) -> None:
    """As ``tar`` packs folders that sort by ending: images first, then texts."""
    data = member("a.jpg", b"1") + member("b.jpg", b"2") + member("a.txt", b"t")
    rows = read(tmp_path, data + END)
    assert seen(rows, "key", "image", "prompt", ERROR_CODE) == [
        ("a", b"1", None, None),
        ("b", b"2", None, None),
        ("a", None, "t", "member_duplicate"),
    ]


def test_shards_put_one_behind_another_are_read_to_the_last(tmp_path: Path) -> None:
    """With the record of zeros that each is filled up with."""
    padded = (whole("a") + END).ljust(10_240, b"\0")
    rows = read(tmp_path, padded + whole("z") + END)
    assert seen(rows, "key", "image", "prompt", ERROR_CODE) == [("a", *GOOD[1:]), GOOD]


@pytest.mark.parametrize(
    ("tail", "reason"),
    [
        (b"\xff" * 512, "bad checksum"),
        (whole("b")[:700], "unexpected end of data"),
        (member("b.jpg", b"x"), "unexpected end of data"),
    ],
    ids=["garbage", "cut", "no end"],
)
def test_a_damaged_tail_behind_the_first_end_is_told(
    tmp_path: Path, tail: bytes, reason: str
) -> None:
    first, *_, last = read(tmp_path, whole("z") + END + tail)
    assert seen([first], "key", "image", "prompt", ERROR_CODE) == [GOOD]
    assert last[ERROR_CODE] == "source_corrupt"
    assert f" on: {reason}; fetch it again" in last[ERROR_MESSAGE]


def test_keys_follow_webdatasets_rule(tmp_path: Path) -> None:
    names = ["./a.b/x.jpg", "a.b/x.jpg", "a b.jpg", "é.jpg", "UP.JPEG", "n.0.jpg"]
    rows = read(tmp_path, b"".join(member(n, b"x") for n in names) + END)
    assert [row["key"] for row in rows] == ["./a.b/x", "a.b/x", "a b", "é", "UP", "n"]


def test_a_name_that_is_no_unicode_keeps_its_row(tmp_path: Path) -> None:
    rows = read(tmp_path, member("caf\udce9.jpg", b"j") + member("caf\udce9.txt", b"t") + END)
    assert seen(rows, "key", "image", "prompt", ERROR_CODE) == [("caf\\udce9", b"j", "t", None)]


@pytest.mark.parametrize("ending", IMAGE_ENDINGS)
def test_every_image_ending_is_known_in_shards(tmp_path: Path, ending: str) -> None:
    data = member(f"a.{ending.upper()}", b"j") + member("a.txt", b"t") + END
    assert seen(read(tmp_path, data), "key", "image", "prompt") == [("a", b"j", "t")]


def test_the_image_endings_are_those_of_the_formats() -> None:
    known: Mapping[str, str] = Image.registered_extensions()
    found = {name[1:] for name, form in known.items() if form in FORMATS}
    unusual = {"avifs", "pfm"}  # a sequence; floats without a scale
    also = {"dib"}  # BMP under another name
    assert set(IMAGE_ENDINGS) == (found - unusual) | also


def _samples(count: int) -> Iterator[bytes]:
    yield from (whole(str(i)) for i in range(count))


def test_tables_are_full_but_the_last(tmp_path: Path) -> None:
    for count, sizes in ((0, []), (4, [4]), (5, [4, 1]), (8, [4, 4])):
        (tmp_path / "s.tar").write_bytes(b"".join(_samples(count)) + END)
        tables = read_tar(Store.of(tmp_path / "s.tar"), tar_schema([]), 4)
        assert [table.num_rows for table in tables] == sizes
