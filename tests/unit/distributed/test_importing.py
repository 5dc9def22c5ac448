"""What is refused before Ray starts, and the last line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import layouts
from tokenfocus_ray.distributed.importing import ImportSummary, import_manifest
from tokenfocus_ray.errors import ConfigError, ManifestError, OutputError


def test_last_line() -> None:
    summary = ImportSummary("out", 5, 12, {"image_missing": 2, "elements_invalid": 1}, False, 1.25)
    assert summary.line() == (
        "rows=5 elements=12 spoiled=3 (elements_invalid 1, image_missing 2) seconds=1.2 out=out"
    )
    assert ImportSummary("out", 5, 12, {}, True, 1.0).line() == (
        "rows=5 elements=12 spoiled=0 images=none (add yours: --images FOLDER/{id}.png) "
        "seconds=1.0 out=out"
    )


def test_unknown_format(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^unknown format 'tiffa'\. Did you mean 'tifa'\?"):
        import_manifest("tiffa", "x", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_source_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ManifestError) as caught:
        import_manifest("hf-parquet", f"{tmp_path}/none", str(tmp_path / "out"))
    assert str(caught.value) == f"manifest '{tmp_path}/none' does not exist"
    assert not (tmp_path / "out").exists()


def test_output_in_the_source(tmp_path: Path) -> None:
    src = layouts.webdataset(tmp_path / "src")
    with pytest.raises(OutputError, match="lies in the input folder"):
        import_manifest("webdataset", str(src), f"{src}/out")


def test_foreign_output(tmp_path: Path) -> None:
    src = layouts.dsg(tmp_path / "d.csv")
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.parquet").write_bytes(b"mine")
    with pytest.raises(OutputError) as caught:
        import_manifest("dsg", str(src), str(out))
    assert str(caught.value) == (
        f"output folder '{out}' holds 'mine.parquet', which no import wrote; choose another"
    )
    with pytest.raises(OutputError) as caught:
        import_manifest("dsg", str(src), str(out), overwrite=True)
    assert str(caught.value) == (
        f"output folder '{out}' holds 'mine.parquet' and is of no import; --overwrite deletes "
        f"imports only: choose another folder"
    )
    assert (out / "mine.parquet").read_bytes() == b"mine"
