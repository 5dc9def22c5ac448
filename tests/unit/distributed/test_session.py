"""What a session keeps Ray from: the handler of SIGTERM, and the console."""

from __future__ import annotations

import inspect
import io
import logging
import signal
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast

import pytest
import ray.data
from ray._private.authentication import authentication_token_setup
from ray.data._internal import progress

from tokenfocus_ray.distributed import session
from tokenfocus_ray.distributed.session import _own_handler, _quieten, ray_session, streamed


@pytest.fixture
def came() -> Iterator[list[int]]:
    """Signals that a handler of ours, which is there before Ray, was told of."""
    told: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    yield told
    signal.signal(signal.SIGTERM, before)


def rays(number: int, frame: object) -> None:
    raise SystemExit(number)


def test_a_handler_outlives_the_start_of_ray(came: list[int]) -> None:
    with _own_handler():
        signal.signal(signal.SIGTERM, rays)
    signal.raise_signal(signal.SIGTERM)
    assert came == [signal.SIGTERM]


def test_a_signal_while_ray_starts_is_told_to_the_handler(came: list[int]) -> None:
    @_own_handler()
    def start() -> None:
        signal.signal(signal.SIGTERM, rays)
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(SystemExit):
        start()
    assert came == [signal.SIGTERM]


def test_without_a_handler_rays_own_stays() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with _own_handler():
            signal.signal(signal.SIGTERM, rays)
        assert signal.getsignal(signal.SIGTERM) is rays
    finally:
        signal.signal(signal.SIGTERM, before)


def test_ray_data_prints_warnings_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its errors are those that the job tells in its own words, with hundreds of lines."""
    _quieten()
    _quieten()
    logger = logging.getLogger(ray.data.__name__)
    (console,) = (handler for handler in logger.handlers if handler.name == "console")
    assert len(console.filters) == len(set(console.filters))
    assert "Progress bars disabled" in inspect.getsource(progress.get_progress_manager)
    shown = io.StringIO()
    assert isinstance(console, logging.StreamHandler)
    monkeypatch.setattr(console, "stream", shown)
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        logger.log(level, "level %d", level)
    logger.warning("Progress bars disabled. To enable, set this and that.")
    assert [line.rpartition("-- ")[2] for line in shown.getvalue().splitlines()] == ["level 30"]


def test_that_a_session_asks_for_its_own_token_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    """That it asks for none is."""
    _quieten()
    with caplog.at_level(logging.WARNING, "ray"):
        logging.getLogger("ray").addHandler(caplog.handler)
        try:
            authentication_token_setup._warn_token_auth_enabled()
            authentication_token_setup._warn_token_auth_disabled()
        finally:
            logging.getLogger("ray").removeHandler(caplog.handler)
    found = {record.getMessage().partition(" for ")[0] for record in caplog.records}
    assert found == {"Token authentication is disabled"}


def test_a_pipeline_ends_with_the_block_that_reads_it() -> None:
    ended = []

    def blocks(**options: object) -> Iterator[int]:
        try:
            yield from range(9)
        finally:
            ended.append(True)

    dataset = cast("ray.data.Dataset", SimpleNamespace(iter_batches=blocks))

    def read() -> None:
        with streamed(dataset) as batches:
            for _ in batches:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stopped:
        read()
    assert ended  # though the error still holds the frames
    assert stopped.value.__traceback__


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_ray_outlives_a_pipeline_that_is_at_work(
    error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else Ray's C++ ends the process when the thread calls it: exit code 1, and no last line."""
    happened: list[str] = []

    def work() -> None:
        time.sleep(0.3)
        happened.append("pipeline ended")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(session, "_start", lambda *options: None)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: happened.append("shutdown"))

    @ray_session()
    def stopped() -> None:
        threading.Thread(target=work, name="StreamingExecutor-dataset_1", daemon=True).start()
        raise error

    with pytest.raises(error):
        stopped()
    assert happened[:2] == ["pipeline ended", "shutdown"]
