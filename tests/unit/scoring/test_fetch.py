"""What a manifest's reference can name on a disk; tests/integration/test_storage_s3.py has S3."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from tests.support.stores import gs_bucket  # noqa: F401
from tokenfocus_ray.errors import ConfigError, ImageDecodeError
from tokenfocus_ray.scoring.fetch import fetch
from tokenfocus_ray.storage import Store


def test_fetch_relative_to_a_base(tmp_path: Path) -> None:
    (tmp_path / "a b.bin").write_bytes(b"abc")
    assert fetch("a b.bin", tmp_path) == b"abc"
    assert fetch("a b.bin", tmp_path.as_uri()) == b"abc"
    assert fetch(str(tmp_path / "a b.bin"), "/elsewhere") == b"abc"
    assert fetch((tmp_path / "a b.bin").as_uri(), "/elsewhere") == b"abc"  # "a%20b.bin"
    assert fetch(f"file://localhost{tmp_path}/a%20b.bin") == b"abc"
    with pytest.raises(ImageDecodeError) as caught:
        fetch("c.bin", tmp_path)
    assert str(caught.value) == (
        f"image 'c.bin' does not exist (looked for {str(tmp_path / 'c.bin')!r}); check the path "
        "and the folder that relative paths start from"
    )


@pytest.mark.parametrize(
    ("uri", "scheme"),
    [
        ("https://example.org/a.png", "https"),
        ("file://host/a.png", "file"),
        ("data:image/png;base64,AAAA", "data"),
    ],
)
def test_schemes_that_cannot_be_read(uri: str, scheme: str) -> None:
    with pytest.raises(ImageDecodeError) as caught:
        fetch(uri, "/base")
    assert caught.value.code == "image_unreadable"
    assert str(caught.value) == (
        f"image {uri!r} cannot be read: its scheme is {scheme!r}; what works is a local path, a "
        "path relative to the base folder, file:///absolute/path, s3://bucket/key or likewise in "
        "another store"
    )


def test_a_store_without_its_client_says_nothing_about_the_image() -> None:
    """It is no error of the row: once the package is there, ``--retry-unscored`` scores it."""
    with pytest.raises(ImageDecodeError) as caught:
        fetch("oci://bucket@space/a.png")
    assert caught.value.code == "storage"
    assert str(caught.value) == (
        "image 'oci://bucket@space/a.png' cannot be read: 'oci://bucket@space/a.png' needs the "
        f"package ocifs, which is not installed on {platform.node()!r}: pip install ocifs"
    )


def test_images_in_another_store(gs_bucket: str, tmp_path: Path) -> None:  # noqa: F811
    Store.of(gs_bucket).write_bytes("images/x/a.png", b"abc")
    base = f"{gs_bucket}/images"
    for name in ("x/a.png", "../images/x/a.png", "./x//a.png", f"{base}/x/a.png"):
        assert fetch(name, base) == b"abc"
        assert fetch(name, base, confined=True) == b"abc"
    assert fetch(f"{base}/x/a.png", tmp_path) == b"abc"
    with pytest.raises(ImageDecodeError) as caught:
        fetch("b.png", base)
    assert caught.value.code == "image_missing"
    for name in ("../b.png", f"{base}2/a.png", f"s3://{base[5:]}/x/a.png", "/etc/passwd"):
        with pytest.raises(ImageDecodeError) as caught:
            fetch(name, base, confined=True)
        assert caught.value.code == "image_outside"


def test_base_of_another_scheme() -> None:
    with pytest.raises(ImageDecodeError, match=r"base folder 'http://b' cannot be read"):
        fetch("a.png", "http://b")


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("s3://key:secret@bucket/a.png", "s3://***"),
        ("s3://bucket/a.png?secret_key=secret", "s3://bucket/a.png?***"),
        ("s3:///a.png", "s3:///a.png"),
    ],
)
def test_s3_uris_that_are_refused_show_no_secret(uri: str, shown: str) -> None:
    with pytest.raises(ImageDecodeError) as caught:
        fetch(uri)
    assert caught.value.code == "image_unreadable"
    assert str(caught.value) == (
        f"image {shown!r} cannot be read: {shown!r} is not s3://bucket/prefix; settings go into "
        "the environment: AWS_ENDPOINT_URL_S3, AWS_REGION, AWS_ACCESS_KEY_ID, "
        "AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, TOKENFOCUS_S3_ANONYMOUS"
    )


def test_wrong_settings_are_no_rows_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "localhost:9000")
    with pytest.raises(ConfigError, match="AWS_ENDPOINT_URL_S3 is 'localhost:9000'"):
        fetch("s3://bucket/a.png")


@pytest.mark.parametrize(
    ("name", "root"),
    [
        ("a.png", "bucket/base/a.png"),
        ("./x//a.png", "bucket/base/x/a.png"),
        ("../a.png", "bucket/a.png"),
        ("../../../a.png", "bucket/a.png"),
        ("is it a=b?.png", "bucket/base/is it a=b?.png"),
        ("s3://other/a.png", "other/a.png"),
    ],
)
def test_relative_to_an_s3_base(name: str, root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where it looks is tested here: nothing is read."""

    def read(store: Store, label: str) -> bytes:
        assert store.uri == f"s3://{store.root}"
        return store.root.encode()

    monkeypatch.setattr("tokenfocus_ray.scoring.fetch._read_store", read)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    assert fetch(name, "s3://bucket/base/") == root.encode()


def test_absolute_path_beside_an_s3_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.bin").write_bytes(b"abc")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    assert fetch(str(tmp_path / "a.bin"), "s3://bucket") == b"abc"


OUTSIDE = (
    "image {!r} leads out of the folder {!r}, and only what lies in it may be read; move the image "
    "there, or leave --images-only out"
)


def test_paths_that_lead_out_are_refused_when_confined(tmp_path: Path) -> None:
    """Up, absolute, by a link to a file or a folder; whether the file is there is not told."""
    base, beside = tmp_path / "images", tmp_path / "images2"
    base.mkdir()
    beside.mkdir()
    (beside / "s.bin").write_bytes(b"secret")
    (base / "link.bin").symlink_to(beside / "s.bin")
    (base / "folder").symlink_to(beside)
    for name in ("../images2/s.bin", str(beside / "s.bin"), (beside / "s.bin").as_uri(), "link.bin",
                 "folder/s.bin", "../gone.bin", "/etc/passwd", "s3://bucket/a.png"):  # fmt: skip
        with pytest.raises(ImageDecodeError) as caught:
            fetch(name, base, confined=True)
        assert caught.value.code == "image_outside"
        assert str(caught.value) == OUTSIDE.format(name, str(base))
    assert fetch("folder/s.bin", base) == b"secret"


def test_what_lies_below_is_read_when_confined(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.bin").write_bytes(b"abc")
    (tmp_path / "link.bin").symlink_to("sub/a.bin")
    for base in (tmp_path, tmp_path.as_uri(), f"{tmp_path}/sub/.."):
        for name in ("sub/a.bin", "sub/../sub/a.bin", "link.bin", str(tmp_path / "sub/a.bin")):
            assert fetch(name, base, confined=True) == b"abc"
    with pytest.raises(ImageDecodeError) as caught:
        fetch("a\0b", tmp_path, confined=True)
    assert caught.value.code == "image_unreadable"


@pytest.mark.parametrize(
    ("name", "inside"),
    [
        ("a.png", True),
        ("x/../a.png", True),
        ("s3://bucket/base/x/a.png", True),
        ("../a.png", False),
        ("../base2/a.png", False),
        ("s3://bucket/base/../a.png", False),
        ("s3://other/base/a.png", False),
        ("/etc/passwd", False),
    ],
)
def test_keys_outside_the_prefix_are_refused_when_confined(
    name: str, inside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokenfocus_ray.scoring.fetch._read_store", lambda store, label: b"abc")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    if inside:
        assert fetch(name, "s3://bucket/base", confined=True) == b"abc"
        return
    with pytest.raises(ImageDecodeError) as caught:
        fetch(name, "s3://bucket/base", confined=True)
    assert str(caught.value) == OUTSIDE.format(name, "s3://bucket/base")


def test_a_file_that_claims_40_gb_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "a.png", "wb") as file:
        file.truncate(40 * 10**9)
    with pytest.raises(ImageDecodeError) as caught:
        fetch("a.png", tmp_path)
    assert caught.value.code == "image_too_large"
    assert str(caught.value) == (
        "image 'a.png' has 40000000000 bytes, the limit is 536870912; shrink it first"
    )
