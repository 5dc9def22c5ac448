"""What a job refuses before it starts: nothing but earlier scores is ever deleted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tokenfocus_ray.distributed.batch import check_output
from tokenfocus_ray.errors import OutputError


def refusal(out: Path, keep: Path, overwrite: bool = True) -> str:
    with pytest.raises(OutputError) as caught:
        check_output(str(out), overwrite, keep=(keep,))
    return str(caught.value)


def test_scores_of_an_earlier_job_may_go(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "0.parquet").write_bytes(b"")
    (out / "_run.json").write_text("{}")
    assert check_output(str(out), True, keep=(tmp_path / "m.csv",)) == out
    assert "is not empty" in refusal(out, tmp_path / "m.csv", overwrite=False)


def test_the_input_is_never_deleted(tmp_path: Path) -> None:
    """A Parquet manifest in the output folder looks like scores."""
    manifest = tmp_path / "test.parquet"
    manifest.write_bytes(b"")
    assert refusal(tmp_path, manifest) == (
        f"output folder {str(tmp_path)!r} holds the input {str(manifest)!r}, which --overwrite "
        f"would delete; choose another"
    )
    assert manifest.exists()


def test_what_is_not_ours_is_never_deleted(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "photos").mkdir(parents=True)
    assert refusal(out, tmp_path / "m.csv") == (
        f"output folder {str(out)!r} holds 'photos', which no scoring job wrote; --overwrite "
        f"deletes scores only: choose another folder"
    )


def test_output_that_is_no_local_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert refusal(tmp_path / "file", tmp_path / "m.csv").endswith("is a file; give a folder")
