"""One Ray session: joins a cluster that is there, else starts a local one."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from typing import Any

import psutil
import pyarrow as pa
import ray

from tokenfocus_ray.distributed.cluster import join_cluster
from tokenfocus_ray.errors import JobError

#: Fewest logical CPUs of a local session. Readers, decoders, scorers and writers each hold a share
#: at the same time; with fewer, a pipeline can wait for itself for ever.
LOCAL_CPUS = 4
#: How Ray Data names the thread of a pipeline, and how long one may take to end.
PIPELINE_THREAD, PIPELINE_SECONDS = "StreamingExecutor-", 8.0
#: Where Ray says that it asks for a token; and what it says that is no news.
_TOKEN_SETUP = "ray._private.authentication.authentication_token_setup"
_NO_NEWS = ("Token authentication is enabled", "Progress bars disabled")


@contextmanager
def ray_session(*, verbose: bool = False) -> Iterator[None]:
    """Connects to the cluster that ``RAY_ADDRESS`` names, to a session already open, or starts one.

    A session that was started here is shut down at the end.

    Args:
        verbose: Whether Ray prints all that it has to say, its workers' lines among them, rather
            than warnings only.

    Raises:
        ConfigError: no cluster answers at ``RAY_ADDRESS``, or it does not let us in.
        JobError: Ray does not start on this machine.
    """
    if ray.is_initialized():
        yield
        return
    if not verbose:
        _quieten()
    level = logging.INFO if verbose else logging.WARNING
    address = os.environ.get("RAY_ADDRESS", "")
    is_local = address in ("", "local")
    before = _processes()
    try:
        with _own_handler():
            if is_local:
                _start(level, verbose)
            else:
                join_cluster(address, level, verbose)
        yield
    except Exception:
        raise
    except BaseException:  # stopped, perhaps while it started: then no process waits for another
        started = _processes() - before if is_local else set()
        _shut_down()
        _, alive = psutil.wait_procs(started, timeout=3)
        for process in alive:
            with suppress(psutil.Error):
                process.kill()
        raise
    finally:
        _shut_down()


def streamed(dataset: ray.data.Dataset) -> AbstractContextManager[Iterator[pa.Table]]:
    """The blocks of a dataset as tables, in a block after which its pipeline is shut down.

    Also where the block ends by an error: a pipeline has a thread of its own, which would go on.
    """
    blocks: Any = dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    return closing(iter(blocks))


def _shut_down() -> None:
    """Shuts Ray down, after Ray Data's threads: told to end, they may be at work for a moment.

    One that finds Ray shut down ends the process at once, with exit code 1 and no last line.
    """
    end = time.monotonic() + PIPELINE_SECONDS
    for thread in threading.enumerate():
        if thread.name.startswith(PIPELINE_THREAD):
            thread.join(max(0.0, end - time.monotonic()))
    ray.shutdown()


def _start(level: int, verbose: bool) -> None:
    """Starts Ray on this machine."""
    try:
        # uv's or make's environment is the workers' environment: no packaging of the folder
        ray.init(
            address="local",  # else one of `ray start` would be joined, or refuse num_cpus
            num_cpus=max(LOCAL_CPUS, os.cpu_count() or 1),
            include_dashboard=False,
            logging_level=level,
            log_to_driver=verbose,
        )
    except OSError:
        raise  # a full disk and the like have words of their own
    except Exception as error:
        raise JobError(
            f"Ray did not start on this machine: {' '.join(str(error).split())[:400]} Launch the "
            f"same command again once the machine is less busy, or has more memory or disk"
        ) from error


def _processes() -> set[psutil.Process]:
    """What this process started, and what that did."""
    return set(psutil.Process().children(recursive=True))


@contextmanager
def _own_handler() -> Iterator[None]:
    """Keeps a handler of SIGTERM that is there, which Ray replaces twice.

    Its own of Python ends with 15; the one of its C++ writes a dump and aborts after 3 seconds, in
    which a job does not always shut down.
    """
    handler = signal.getsignal(signal.SIGTERM)
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield
        return
    try:
        yield
    except SystemExit as end:
        if end.code == signal.SIGTERM:  # it came while Ray started
            handler(signal.SIGTERM, None)
        raise
    finally:
        signal.signal(signal.SIGTERM, handler)
        signal.alarm(0)


def _quieten() -> None:
    """Keeps lines from the console that are no news to whoever runs a job.

    Ray Data's go to its log file, except for warnings: of an error it prints hundreds, several
    times over, before the job can say what was wrong. Nor is it news that a session of one's own
    asks for a token, which it made itself, or that Ray's bars are off: those of the job are there.
    """
    import ray.data  # sets up its logger

    for handler in logging.getLogger(ray.data.__name__).handlers:
        if handler.name == "console":
            handler.addFilter(_is_warning)  # once, however often it is added
            handler.addFilter(_is_news)
    logging.getLogger(_TOKEN_SETUP).addFilter(_is_news)


def _is_warning(record: logging.LogRecord) -> bool:
    return record.levelno == logging.WARNING


def _is_news(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_NO_NEWS)


def cluster_gpus() -> int:
    """Number of GPUs that the session offers."""
    return int(ray.cluster_resources().get("GPU", 0))
