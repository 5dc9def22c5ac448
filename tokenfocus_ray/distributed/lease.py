"""One launch at a time writes a folder: a lease with a heartbeat.

    OUT/__job/lease/NAME.json   who writes here, and how often its heart has beaten

A launch writes a file of a name that nobody else has, then lists the folder, and withdraws where it
finds one that it does not know to be dead. Of two, the one that lists later sees both, so never do
two go on. No locks and no conditional writes are asked of the store, which not every disk and not
every S3 has: only that a listing shows what was written before it, as S3's and a disk's do.

A launch is dead where its process has gone, which is known of this machine's processes only, or
where its file stays the same for :data:`SILENT_SECONDS` by the clock of whoever looks, so that
clocks need not agree. Whoever takes over deletes the dead one's file; should that launch live after
all, on a machine that was paused, it finds its file gone before it writes anything more.
"""

from __future__ import annotations

import json
import random
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from tokenfocus_ray.distributed.holders import (
    OWN_LEASES,
    Life,
    describe,
    launch_record,
    life_of,
    now,
)
from tokenfocus_ray.distributed.layout import LEASE
from tokenfocus_ray.errors import OutputError
from tokenfocus_ray.say import Say
from tokenfocus_ray.storage import Store

#: Seconds between heartbeats, and without one after which a launch is taken for dead.
BEAT_SECONDS, SILENT_SECONDS = 10.0, 60.0
#: Seconds between looks at another's heartbeat.
WATCH_SECONDS = 1.0
#: Most seconds until a launch tries again that met another in the same moment.
PAUSE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write a folder; pickles, for tasks that write.

    Attributes:
        out: The folder.
        name: Of this launch's file.
        dead: Names of files whose launches are known to be dead.
    """

    out: Store
    name: str
    dead: frozenset[str] = frozenset()

    def confirm(self) -> None:
        """To be called before anything is written or deleted.

        Raises:
            OutputError: another launch has taken over, or the file was deleted by hand.
        """
        folder, passed = self.out.child(LEASE), {self.name, *self.dead}
        while self.name in (names := folder.names()):
            other = next((name for name in names if name not in passed), None)
            if other is None:
                return
            # most likely it withdraws, having come in the same moment; one that stays has taken
            # over, and a heartbeat that was on its way has brought our file back
            life = life_of(other, _read(folder, other)[1])
            life = life if life is Life.DEAD else _watch_heartbeat(folder, other)
            if life is Life.ALIVE:
                break
            passed.add(other)
        others = [describe(_read(folder, name)[1]) for name in folder.names() if name not in passed]
        taker = f", taken over by {others[0]}" if others else ""
        raise OutputError(
            f"this launch no longer holds {self.out.uri!r}: its lease "
            f"{folder.child(self.name).uri!r} is gone{taker}; it stops here, and what is committed "
            f"is kept"
        )


@contextmanager
def hold(out: Store, command: str, say: Say) -> Iterator[Lease]:
    """Holds a folder for as long as the block runs, however it ends.

    Args:
        out: What is to be written.
        command: Who wants it, for others' messages.
        say: Takes lines of progress.

    Raises:
        OutputError: another launch holds it, or it cannot be written.
    """
    record = launch_record(command)
    lease = _acquire(out, record, say)
    done = threading.Event()
    heart = threading.Thread(target=_beat, args=(lease, record, done), daemon=True)
    heart.start()
    try:
        yield lease
    finally:
        done.set()
        heart.join(BEAT_SECONDS)
        _release(out.child(LEASE), lease.name)


def refuse_if_held(out: Store) -> None:
    """Refuses a folder that a process of this machine holds; to be asked before all other work.

    Raises:
        OutputError: with who holds it.
    """
    folder = out.child(LEASE)
    names: list[str] = []
    with suppress(OutputError):  # of a folder that cannot be: whoever writes to it says so better
        names = folder.names()
    for name in names:
        _, record = _read(folder, name)
        if life_of(name, record) is Life.ALIVE:
            raise _refusal(out, name, record)


def _acquire(out: Store, record: Mapping[str, Any], say: Say) -> Lease:
    folder = out.child(LEASE)
    silent: dict[str, bytes] = {}
    while True:
        dead = _dead_launches(out, folder, silent, say)
        name = f"{uuid.uuid4().hex}.json"
        OWN_LEASES.add(name)
        try:
            folder.write_json(name, record)
            others = {n for n in folder.names() if n not in dead}
            if others == {name}:
                for other in dead:
                    folder.delete(other)
                return Lease(out, name, dead)
        except BaseException:
            _release(folder, name)
            raise
        _release(folder, name)
        time.sleep(random.uniform(0, PAUSE_SECONDS))


def _release(folder: Store, name: str) -> None:
    with suppress(OutputError):  # of a process that has ended it hinders nobody
        folder.delete(name)
    OWN_LEASES.discard(name)


def _dead_launches(out: Store, folder: Store, silent: dict[str, bytes], say: Say) -> frozenset[str]:
    """Names of the files that are there, all of launches that are dead.

    Args:
        out: Whose.
        folder: Where they are.
        silent: Files that were watched before, which is not done twice; new ones are added.
        say: Takes lines of progress.
    """
    found = set()
    for name in folder.names():
        data, record = _read(folder, name)
        if data and silent.get(name) == data:
            found.add(name)
            continue
        life = life_of(name, record) if data else Life.GONE
        if life is Life.UNKNOWN:
            say(
                f"{out.uri} was last held by {describe(record)}; whether that launch lives is "
                f"known within {SILENT_SECONDS:.0f} seconds: waiting"
            )
            life = _watch_heartbeat(folder, name)
        if life is Life.ALIVE:
            raise _refusal(out, name, _read(folder, name)[1] or record)
        if life is Life.DEAD:
            say(
                f"{out.uri} is taken over from {describe(record)}, which ended without giving it up"
            )
            silent[name] = data
            found.add(name)
    return frozenset(found)


def _refusal(out: Store, name: str, record: Mapping[str, Any]) -> OutputError:
    file = out.child(LEASE, name).uri
    return OutputError(
        f"{out.uri!r} is being written by {describe(record)}: let it end, or end it, and launch "
        f"again; if you know that it is dead, delete {file!r}"
    )


def _beat(lease: Lease, record: Mapping[str, Any], done: threading.Event) -> None:
    folder, beats = lease.out.child(LEASE), 0
    while not done.wait(BEAT_SECONDS):
        beats += 1
        with suppress(OutputError):  # a store that fails: the next beat may come through
            if lease.name not in folder.names():
                return  # lost, which whoever writes next finds out
            folder.write_json(lease.name, {**record, "beats": beats, "heartbeat": now()})


def _watch_heartbeat(folder: Store, name: str) -> Life:
    """Whether a file's heart beats: it changes, goes, or stays the same for long enough."""
    first = data = _read(folder, name)[0]
    end = time.monotonic() + SILENT_SECONDS
    while data and data == first:
        if time.monotonic() > end:
            return Life.DEAD
        time.sleep(WATCH_SECONDS)
        data = _read(folder, name)[0]
    return Life.ALIVE if data else Life.GONE


def _read(folder: Store, name: str) -> tuple[bytes, dict[str, Any]]:
    """A file and what it says; nothing where it is gone, or no record."""
    data = b""
    for tries_left in (2, 1, 0):
        try:
            data = folder.read_bytes(name)
            break
        except FileNotFoundError:
            return b"", {}
        except OutputError:  # on S3 also of a file that goes or changes while it is read
            if name not in folder.names():
                return b"", {}
            if not tries_left:
                raise
    with suppress(ValueError):
        if isinstance(record := json.loads(data), dict):
            return data, record
    return data, {}
