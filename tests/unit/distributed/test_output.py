"""An output folder: where a job may write, what it goes on with, and in which order it writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.datasets.test_sources import plan, write_tar
from tokenfocus_ray.config import JobConfig, TrainConfig
from tokenfocus_ray.distributed.layout import part_name
from tokenfocus_ray.distributed.merge import MERGE, merge_scores
from tokenfocus_ray.distributed.output import (
    OutputFolder,
    OutputKind,
    check_clearable,
    check_outside,
)
from tokenfocus_ray.distributed.score.commits import JOB_FILE
from tokenfocus_ray.distributed.score.job import SCORES, run_job
from tokenfocus_ray.distributed.train.job import RUN, train_members
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
    check = OutputFolder(SCORES, store).is_begun
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
        OutputFolder(SCORES, store).is_begun(now)


# --- one job's folder -------------------------------------------------------------------------


@pytest.fixture
def out(tmp_path: Path) -> Store:
    return Store.of(tmp_path / "out")


@pytest.mark.parametrize("kind", [SCORES, MERGE, RUN], ids=lambda kind: kind.command)
def test_a_folder_is_begun_once_its_record_is_there(kind: OutputKind, out: Store) -> None:
    """Which comes last; killed before, it is begun anew."""
    folder = OutputFolder(kind, out)
    assert not folder.is_begun({"a": 1})
    with folder.launch({"a": 1}, str) as launch:
        assert not launch.resumes
        launch.keep_inputs({"0.parquet": b"x"})
        assert not folder.is_begun({"a": 1})
        launch.write_record()
        launch.finish()
    assert out.names("__job/input") == ["0.parquet"]
    with folder.launch({"a": 1}, str) as launch:
        assert launch.resumes
    with pytest.raises(ConfigError, match=r"\(a: 1 there, 2 now\)"), folder.launch({"a": 2}, str):
        pass
    assert out.names("__job/lease") == []


def test_a_folder_that_another_job_began_is_refused(out: Store) -> None:
    """Also where nothing of its output is there yet: a merge's parts would be taken for scores."""
    with OutputFolder(SCORES, out).launch({}, str) as launch:
        launch.write_record()
    for kind in (MERGE, RUN):
        with pytest.raises(OutputError) as caught:
            OutputFolder(kind, out).is_begun({})
        assert str(caught.value) == (
            f"output folder {out.uri!r} holds '__job/job.json', which {kind.none} wrote; choose "
            f"another"
        )


def test_a_folder_is_looked_at_again_once_it_is_held(out: Store) -> None:
    """Another launch may have begun meanwhile; what it is refused for, it leaves as it is."""
    folder = OutputFolder(SCORES, out)
    assert not folder.is_begun({"a": 1})
    out.write_json(JOB_FILE, {"a": 1})
    with folder.launch({"a": 1}, str) as launch:
        assert launch.resumes
    out.delete(JOB_FILE)
    out.write_bytes("mine.txt", b"precious")
    with pytest.raises(OutputError, match=r"holds 'mine\.txt'"), folder.launch({"a": 1}, str):
        pass
    assert out.names() == ["__job", "mine.txt"]
    assert out.names("__job/lease") == []


def test_the_end_of_a_launch_sweeps_what_killed_ones_left(out: Store) -> None:
    for name in ("", "__job/"):
        out.write_bytes(f"{name}.tmp-1", b"half")
    with OutputFolder(SCORES, out).launch({}, str) as launch:
        launch.finish()
    assert not [path for path in Path(out.root).rglob(".tmp-*")]


def test_beginning_anew_keeps_the_lease(out: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """``--overwrite`` deletes all else: the record last, without which nothing is known as ours."""
    for name in ("__job/commits/0", "__job/input/1.parquet", "__job/run.json", part_name(0)):
        out.write_bytes(name, b"x")
    out.write_json(JOB_FILE, {"a": 1})
    deleted: list[str] = []
    delete = Store.delete

    def noted(store: Store, name: str) -> None:
        deleted.append(name)
        delete(store, name)

    with OutputFolder(SCORES, out, overwrite=True).launch({"a": 2}, str) as launch:
        assert not launch.resumes
        with monkeypatch.context() as patch:
            patch.setattr(Store, "delete", noted)
            launch.clear()
        launch.keep_inputs({"0.parquet": b"x"})
        launch.write_record()
        launch.lease.confirm()
        assert out.names() == ["__job"]
        assert out.names("__job") == ["input", "job.json", "lease"]
    assert deleted == [part_name(0), "commits", "input", "run.json", "job.json"]


# --- overwriting ------------------------------------------------------------------------------


def refusal(out: Path, *inputs: Path) -> str:
    with pytest.raises(OutputError) as caught:
        check_clearable(Store.of(out), [str(i) for i in inputs], SCORES)
    return str(caught.value)


def test_scores_of_an_earlier_job_may_go(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "__job").mkdir(parents=True)
    (out / "part-00000.parquet").write_bytes(b"")
    check_clearable(Store.of(out), [str(tmp_path / "m.csv"), "s3://bucket/out/m.parquet"], SCORES)


def test_the_input_is_never_deleted(tmp_path: Path) -> None:
    """A Parquet manifest in the output folder looks like scores."""
    manifest = tmp_path / "test.parquet"
    manifest.write_bytes(b"")
    assert refusal(tmp_path, tmp_path.parent / "m.csv", manifest) == (
        f"output folder {str(tmp_path)!r} holds the input {str(manifest)!r}, which --overwrite "
        f"would delete; choose another"
    )


def test_what_is_not_ours_is_never_deleted(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "photos").mkdir(parents=True)
    assert refusal(out, tmp_path / "m.csv") == (
        f"output folder {str(out)!r} holds 'photos', which no scoring job wrote; --overwrite "
        f"deletes scores only: choose another folder"
    )


def test_overwrite_follows_links_to_the_input(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "m.parquet").write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "out")
    with pytest.raises(OutputError, match="which --overwrite would delete"):
        check_clearable(Store.of(tmp_path / "link"), [str(tmp_path / "out" / "m.parquet")], SCORES)
