"""One launch at a time writes a folder, whatever becomes of it."""

from __future__ import annotations

import functools
import json
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import ray

from tests.support.processes import ROOT
from tests.support.races import Race, races, scored  # noqa: F401
from tokenfocus_ray.cli.app import main
from tokenfocus_ray.config import JobConfig
from tokenfocus_ray.distributed import lease as leases
from tokenfocus_ray.distributed.holders import launch_record
from tokenfocus_ray.distributed.layout import LEASE, part_name
from tokenfocus_ray.distributed.lease import hold, refuse_if_held
from tokenfocus_ray.distributed.output import Launch, OutputFolder
from tokenfocus_ray.distributed.score.job import SCORES, run_job
from tokenfocus_ray.distributed.train.fleet import Fleet
from tokenfocus_ray.errors import OutputError
from tokenfocus_ray.storage import Store
from tokenfocus_ray.tables.parquet import to_parquet


@pytest.fixture
def out(tmp_path: Path) -> Store:
    return Store.of(tmp_path / "out")


def records(out: Store) -> dict[str, dict[str, Any]]:
    return {name: out.read_json(f"{LEASE}/{name}") for name in out.names(LEASE)}


def who(record: dict[str, Any]) -> str:
    return (
        f"another launch (tokenfocus {record['command']} on {record['host']}, process "
        f"{record['pid']}, user {record['user']}, since {record['since']}, last heartbeat "
        f"{record['heartbeat']})"
    )


def refusal(out: Store) -> str:
    with pytest.raises(OutputError) as caught, hold(out, "merge", str):
        pass
    return str(caught.value)


# --- of this machine --------------------------------------------------------------------------


def test_a_second_launch_is_refused_with_who_holds_the_folder(out: Store) -> None:
    with hold(out, "score", str):
        ((name, record),) = records(out).items()
        assert (record["command"], record["pid"]) == ("score", os.getpid())
        expected = (
            f"{out.uri!r} is being written by {who(record)}: let it end, or end it, and launch "
            f"again; if you know that it is dead, delete {f'{out.uri}/{LEASE}/{name}'!r}"
        )
        assert refusal(out) == expected
        with pytest.raises(OutputError) as caught:
            refuse_if_held(out)
        assert str(caught.value) == expected
        assert list(records(out)) == [name]
    assert records(out) == {}
    refuse_if_held(out)
    with hold(out, "score", str):
        pass


def test_a_second_launch_of_a_job_is_refused_before_its_input_is_looked_at(out: Store) -> None:
    with hold(out, "score", str), pytest.raises(OutputError, match="is being written by another"):
        run_job(
            ["nowhere.parquet"], out.uri, [], {}, images=None, mapping={}, job=JobConfig(),
            overwrite=True, retry_unscored=False, say=str,
        )  # fmt: skip


def test_the_command_that_is_refused_ends_with_2(
    out: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["score", "m.csv", "--backbone", "tiny-qwen2_5_vl", "--out", out.uri]
    monkeypatch.setattr(sys, "argv", ["tokenfocus", *arguments])
    with hold(out, "score", str), pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {out.uri!r} is being written by another launch (")
    assert error.count("\n") == 1


@pytest.mark.parametrize("error", [OutputError("full"), KeyboardInterrupt(), SystemExit(143)])
def test_a_lease_is_given_up_however_a_launch_ends(out: Store, error: BaseException) -> None:
    with pytest.raises(type(error)), hold(out, "score", str):
        raise error
    assert records(out) == {}


def test_the_job_that_was_submitted_is_named(out: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    submitted = {"metadata": {"job_submission_id": "raysubmit_x"}}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(submitted))
    with hold(out, "score", str):
        assert ", Ray job raysubmit_x, since " in refusal(out)


def test_a_launch_that_was_killed_is_taken_over_at_once(out: Store) -> None:
    """In a process of its own, which SIGKILL ends while it holds the folder."""
    script = (
        "import os, signal, sys\n"
        "from tokenfocus_ray.distributed.lease import hold\n"
        "from tokenfocus_ray.storage import Store\n"
        "with hold(Store.of(sys.argv[1]), 'score', print):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, out.uri],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "held\n"
        ((name, record),) = records(out).items()
        assert record["pid"] == process.pid
        assert who(record) in refusal(out)
        process.stdin.close()
        started, lines = time.monotonic(), []  # type: ignore[var-annotated]
        while not lines:  # from its end on, whether its parent has taken note or not
            try:
                with hold(out, "score", lines.append):
                    assert list(records(out)) != [name]
            except OutputError:
                assert time.monotonic() < started + 30
                time.sleep(0.05)
    assert lines == [
        f"{out.uri} is taken over from {who(record)}, which ended without giving it up"
    ]


def test_another_process_of_the_same_number_is_not_taken_for_the_holder(out: Store) -> None:
    write(out, launch_record("score") | {"process": "1"})
    with hold(out, "score", str):
        assert len(records(out)) == 1


# --- elsewhere --------------------------------------------------------------------------------


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "WATCH_SECONDS", 0.02)
    monkeypatch.setattr(leases, "SILENT_SECONDS", 0.4)


def write(out: Store, record: dict[str, Any], name: str = "other.json") -> dict[str, Any]:
    out.write_json(f"{LEASE}/{name}", record)
    return record


def elsewhere(**values: Any) -> dict[str, Any]:
    """A launch of another machine, whose clock is wrong by years."""
    return launch_record("score") | {
        "machine": "other", "host": "other", "heartbeat": "2060-01-01 00:00:00 UTC", **values,
    }  # fmt: skip


@contextmanager
def beating(out: Store) -> Iterator[None]:
    """Its heart beats."""
    done = threading.Event()

    def beat() -> None:
        for n in range(1_000):
            write(out, elsewhere(beats=n))
            if done.wait(0.05):
                return

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@pytest.mark.usefixtures("hasty")
def test_a_silent_launch_elsewhere_is_taken_over_whatever_its_clock_says(out: Store) -> None:
    record, lines = write(out, elsewhere()), []  # type: ignore[var-annotated]
    refuse_if_held(out)
    started = time.monotonic()
    with hold(out, "score", lines.append):
        assert time.monotonic() - started >= 0.4
        assert len(records(out)) == 1
        assert "other.json" not in records(out)
    assert lines == [
        f"{out.uri} was last held by {who(record)}; whether that launch lives is known within 0 "
        f"seconds: waiting",
        f"{out.uri} is taken over from {who(record)}, which ended without giving it up",
    ]


@pytest.mark.usefixtures("hasty")
def test_a_silent_launch_is_watched_once(out: Store) -> None:
    """Two that take over in the same moment withdraw and try again, without another wait."""
    write(out, elsewhere())
    silent: dict[str, bytes] = {}
    lines: list[str] = []
    for _ in range(3):
        found = leases._dead_launches(out, out.child(LEASE), silent, lines.append)
        assert found == {"other.json"}
    assert len(lines) == 2
    write(out, elsewhere(beats=1))
    leases._dead_launches(out, out.child(LEASE), silent, lines.append)
    assert len(lines) == 4


@pytest.mark.usefixtures("hasty")
def test_a_launch_elsewhere_that_lives_is_not_disturbed(out: Store) -> None:
    write(out, elsewhere())
    with beating(out):
        assert "(tokenfocus score on other, process" in refusal(out)
    assert list(records(out)) == ["other.json"]


@pytest.mark.usefixtures("hasty")
def test_a_launch_elsewhere_that_ends_is_followed(out: Store) -> None:
    write(out, elsewhere())
    threading.Timer(0.1, out.delete, [f"{LEASE}/other.json"]).start()
    with hold(out, "score", str):
        assert len(records(out)) == 1


@pytest.mark.usefixtures("hasty")
def test_a_file_that_is_no_record_is_a_launch_of_its_own(out: Store) -> None:
    out.write_bytes(f"{LEASE}/other.json", b"{")
    lines: list[str] = []
    with hold(out, "score", lines.append):
        pass
    assert "was last held by an unknown launch; " in lines[0]


def test_a_heart_beats(out: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.05)
    with hold(out, "score", str) as mine:
        while records(out)[mine.name]["beats"] < 2:
            time.sleep(0.01)
        mine.confirm()
        out.delete(f"{LEASE}/{mine.name}")  # which no beat brings back
        time.sleep(0.2)
        assert records(out) == {}


# --- lost -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("hasty")
def test_a_launch_that_was_taken_over_writes_nothing_more(out: Store) -> None:
    """Paused for long, say; also where a late heartbeat brought its file back, and in its tasks."""
    with hold(out, "score", str) as mine:
        mine.confirm()
        write(out, elsewhere())
        own = out.read_bytes(f"{LEASE}/{mine.name}")
        out.delete(f"{LEASE}/{mine.name}")
        record = records(out)["other.json"]
        expected = (
            f"this launch no longer holds {out.uri!r}: its lease "
            f"{f'{out.uri}/{LEASE}/{mine.name}'!r} is gone, taken over by {who(record)}; it stops "
            f"here, and what is committed is kept"
        )
        for copy in (mine, pickle.loads(pickle.dumps(mine))):
            with pytest.raises(OutputError) as caught:
                copy.confirm()
            assert str(caught.value) == expected
        out.write_bytes(f"{LEASE}/{mine.name}", own)
        with beating(out), pytest.raises(OutputError, match="is gone, taken over by another"):
            mine.confirm()
        out.delete(f"{LEASE}/{mine.name}")
        launch = Launch(OutputFolder(SCORES, out), {}, mine, resumes=False)
        steps: list[Callable[[], None]] = [
            launch.clear,
            functools.partial(launch.keep_inputs, {"0.parquet": b"x"}),
        ]
        for step in (*steps, launch.write_record, launch.finish):
            with pytest.raises(OutputError, match="no longer holds"):
                step()
        assert out.names("__job") == ["lease"]


def test_a_training_that_was_taken_over_ends_its_members(
    out: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[Any] = []
    monkeypatch.setattr(ray, "cluster_resources", dict)
    monkeypatch.setattr(ray, "cancel", lambda ref, *, force: ended.append((ref, force)))
    with hold(out, "train", str) as mine:
        job: Any = None
        fleet = Fleet([], "", mine, str)
        fleet._active = {"member": job}
        fleet._confirm()
        out.delete(f"{LEASE}/{mine.name}")
        with pytest.raises(OutputError, match="no longer holds"):
            fleet.run()
    assert ended == [("member", True)]


@pytest.mark.usefixtures("hasty")
def test_a_lease_that_was_deleted_by_hand_is_lost(out: Store) -> None:
    with hold(out, "score", str) as mine:
        out.delete(f"{LEASE}/{mine.name}")
        with pytest.raises(OutputError) as caught:
            mine.confirm()
    assert str(caught.value) == (
        f"this launch no longer holds {out.uri!r}: its lease "
        f"{f'{out.uri}/{LEASE}/{mine.name}'!r} is gone; it stops here, and what is committed is "
        f"kept"
    )


@pytest.mark.usefixtures("hasty")
def test_one_that_came_in_the_same_moment_and_withdrew_is_no_loss(out: Store) -> None:
    with hold(out, "score", str) as mine:
        write(out, elsewhere())
        threading.Timer(0.1, out.delete, [f"{LEASE}/other.json"]).start()
        mine.confirm()
        write(out, elsewhere())  # and one that died on the way
        mine.confirm()


# --- the folder -------------------------------------------------------------------------------


def test_readers_of_the_folder_pass_over_the_lease(out: Store) -> None:
    with hold(out, "score", str):
        out.write_bytes(part_name(0), to_parquet(scored(0, 0)))
        assert len(pd.read_parquet(out.root)) == 2


@pytest.mark.usefixtures("races")
def test_fifty_races_for_one_folder(tmp_path: Path) -> None:
    """Three launches each, of which some are killed: one at a time, and each row once."""
    for seed in range(50):
        race = Race(Store.of(tmp_path / str(seed)), seed, deaths=0.15)
        race.run(3)
        race.check()
