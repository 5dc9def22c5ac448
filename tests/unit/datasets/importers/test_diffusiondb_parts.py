"""DiffusionDB's parts, without its table."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import layouts
from tests.support.imports import imported, planned
from tokenfocus_ray.errors import ConfigError, ManifestError
from tokenfocus_ray.schema import sample_id
from tokenfocus_ray.tables.text import ERROR_CODE


def test_rows(tmp_path: Path) -> None:
    src = layouts.diffusiondb_parts(tmp_path / "src")
    rows = imported("diffusiondb", src, tmp_path).to_pylist()
    assert [Path(row["image_uri"]).read_bytes() for row in rows] == [*map(layouts.png, range(4))]
    assert [row["prompt"] for row in rows] == [f"prompt {i}" for i in range(4)]
    assert rows[3]["sample_id"] == sample_id("uuid-3.png", "prompt 3")
    told = {name: rows[3][name] for name in ("seed", "cfg", "step", "sampler", ERROR_CODE)}
    assert told == {"seed": 3, "cfg": 7.0, "step": 50, "sampler": "k_lms", ERROR_CODE: None}
    one = imported("diffusiondb", src / "part-000002", tmp_path).to_pylist()
    assert one == rows[2:]


def test_images_elsewhere(tmp_path: Path) -> None:
    src = layouts.diffusiondb_parts(tmp_path / "src")
    rows = imported("diffusiondb", src, tmp_path, images="/else").to_pylist()
    assert rows[3]["image_uri"] == "/else/part-000002/uuid-3.png"


def test_a_text_that_is_none(tmp_path: Path) -> None:
    part = tmp_path / "part-000001.json"
    part.write_text(r'{"a.png": {"p": "a \ud83d"}, "b.png": {}}')
    rows = imported("diffusiondb", tmp_path, tmp_path / "k").to_pylist()
    assert [row[ERROR_CODE] for row in rows] == ["text_invalid", None]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "holds a list; wanted images by name"),
        ('{"a.png": 3}', "'a.png' is 3; wanted its prompt as p"),
        ('{"a.png": {"p": 3}}', "'a.png': p is 3; wanted a string"),
        ('{"a.png": {"p": "a", "se": 1.5}}', "'a.png': se is 1.5; wanted a int64"),
        ('{"a.png": {"p": "a", "c": true}}', "'a.png': c is True; wanted a double"),
    ],
)
def test_refusals(content: str, message: str, tmp_path: Path) -> None:
    part = tmp_path / "part-000001.json"
    part.write_text(content)
    with pytest.raises(ManifestError) as caught:
        imported("diffusiondb", tmp_path, tmp_path / "k")
    assert str(caught.value) == f"{part}: {message}"


def test_roles_are_known(tmp_path: Path) -> None:
    src = layouts.diffusiondb_parts(tmp_path / "src")
    with pytest.raises(ConfigError) as caught:
        planned("diffusiondb", src, tmp_path, prompt="p")
    assert str(caught.value) == (
        "--map prompt=p: diffusiondb takes none, where its parts say what is what"
    )
