"""Where a job may write: not where its input is read from."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.datasets.test_sources import plan, write_tar
from tokenfocus_ray.config import JobConfig, TrainConfig
from tokenfocus_ray.distributed.merge import merge_scores
from tokenfocus_ray.distributed.output import check_identity, check_outside
from tokenfocus_ray.distributed.score.job import check_clearable, run_job
from tokenfocus_ray.distributed.train.job import train_members
from tokenfocus_ray.errors import ConfigError, OutputError
from tokenfocus_ray.storage import Store


def score(folder: str, out: str) -> Any:
    return run_job(
        [folder], out, [], {}, images=None, mapping={}, job=JobConfig(), overwrite=False,
        retry_unscored=False, say=str,
    )  # fmt: skip


def merge(folder: str, out: str) -> Any:
    bundle: Any = None  # which is not looked at
    return merge_scores([folder], out, bundle)


def train(folder: str, out: str) -> Any:
    return train_members(TrainConfig.parse({"data": folder, "backbones": ["none"]}), out)


@pytest.mark.parametrize("verb", [score, merge, train])
@pytest.mark.parametrize("below", ["", "scores", "a/link"])
def test_an_output_folder_inside_the_input_folder_is_refused(
    verb: Callable[[str, str], Any], below: str, tmp_path: Path
) -> None:
    """At the start, whatever links lead there; nothing is written."""
    folder = tmp_path / "in"
    folder.mkdir()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "link").symlink_to(folder)
    (folder / "m.csv").write_text("prompt,path\n")
    out = tmp_path / below if "link" in below else folder / below
    with pytest.raises(OutputError) as caught:
        verb(str(folder), str(out))
    assert str(caught.value) == (
        f"output folder {str(out)!r} lies in the input folder {str(folder)!r}, all files of which "
        f"are read: the next launch would take the output for input; choose a folder outside of it"
    )
    assert [p.name for p in folder.iterdir()] == ["m.csv"]


def test_an_output_folder_beside_its_manifest_is_ordinary(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("prompt,path\n")
    (tmp_path / "in").mkdir()
    for uri in ("m.csv", "in", "none", "in-2"):
        check_outside(Store.of(tmp_path / "out"), [str(tmp_path / uri)])
    check_outside(Store.of(tmp_path / "in-2"), [str(tmp_path / "in")])
    check_outside(Store.of(tmp_path / "m.csv" / "out"), [str(tmp_path / "m.csv")])
    check_outside(Store.of("s3://bucket/in-2"), ["s3://bucket/in", str(tmp_path)])


def test_a_job_begun_before_its_files_were_watched_goes_on(tmp_path: Path) -> None:
    """And what it does have must agree, as in a job that was begun since."""
    store = Store.of(tmp_path)
    old = {"scorer": "a", "input.content": "1"}
    now = old | {"input.bytes": "2", "input.0.mtimes": "3", "input.etags": "4"}
    store.write_json("__job/job.json", old)
    check = functools.partial(check_identity, store, "__job/job.json", is_ours=bool, maker="none")
    assert check(now)
    for changed in ({"input.content": "5"}, {"scorer": "b"}, {"bytes": "6"}):
        with pytest.raises(ConfigError, match="begun with another configuration"):
            check(now | changed)
    store.write_json("__job/job.json", now)
    assert check(now)
    with pytest.raises(ConfigError) as caught:
        check(now | {"input.bytes": "7"})
    assert str(caught.value) == (
        f"{tmp_path} was begun with another configuration (input.bytes: '2' there, '7' now); set "
        f"it back to go on, or choose another --out"
    )


def test_shards_of_which_samples_were_cut_otherwise_are_refused(tmp_path: Path) -> None:
    """A job that an earlier version began would get some rows twice, and others never."""
    write_tar(tmp_path / "0.tar", {"a.txt": b"a cow", "a.jpg": b"x"})
    now = {f"input.{k}": v for k, v in plan(tmp_path / "0.tar", keep=tmp_path).fingerprint.items()}
    earlier = {k: v for k, v in now.items() if k != "input.sample_rules"}
    store = Store.of(tmp_path / "out")
    store.write_json("__job/job.json", earlier)
    with pytest.raises(ConfigError, match=r"\(input\.sample_rules: None there, 2 now\)"):
        check_identity(store, "__job/job.json", now, bool, "none")


def test_overwrite_follows_links_to_the_input(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "m.parquet").write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "out")
    with pytest.raises(OutputError, match="which --overwrite would delete"):
        check_clearable(Store.of(tmp_path / "link"), [str(tmp_path / "out" / "m.parquet")])
