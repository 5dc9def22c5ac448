"""An output folder: of one configuration, outside of what is read, written by one launch at a time.

A job finds its folder, compares its configuration with what is there, and holds the folder while it
works. Killed at any point, it goes on when it is launched again; refused, it leaves nothing behind:

    folder = OutputFolder.find(KIND, out, inputs)
    if folder.is_begun(identity) and ...:  # all is there: it may be read-only by now
        folder.sweep()
    else:
        with folder.launch(identity, say) as launch:
            if not launch.resumes:
                launch.keep_inputs(...)
                launch.write_record()
            ...
            launch.finish()
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Self

from tokenfocus_ray.distributed.identity import check_same
from tokenfocus_ray.distributed.layout import INPUT, JOB, LEASE
from tokenfocus_ray.distributed.lease import Lease, hold, refuse_if_held
from tokenfocus_ray.errors import OutputError
from tokenfocus_ray.say import Say
from tokenfocus_ray.storage import Store, public


@dataclass(frozen=True, slots=True)
class OutputKind:
    """What one kind of job leaves in its folder.

    Attributes:
        command: That writes it.
        none: Of such jobs, for messages: "no training".
        record: Name of the file of what the output depends on.
        early: Names that may stand in the folder before the record does.
    """

    command: str
    none: str
    record: str
    early: frozenset[str] = frozenset({JOB})


@dataclass(frozen=True, slots=True)
class OutputFolder:
    """Where a job writes.

    Attributes:
        kind: Of the job.
        store: The folder.
        inputs: Files and folders that are read.
        overwrite: Whether what an earlier job wrote is to be deleted.
    """

    kind: OutputKind
    store: Store
    inputs: tuple[str, ...] = ()
    overwrite: bool = False

    @classmethod
    def find(
        cls,
        kind: OutputKind,
        out: str,
        inputs: Sequence[str],
        *,
        others: Sequence[str] = (),
        overwrite: bool = False,
    ) -> Self:
        """Finds the folder, before any other work is done; writes nothing.

        Args:
            kind: Of the job.
            out: Local or ``s3://``.
            inputs: Files and folders of which all files are read.
            others: Further ones, of which only named files are: the output may lie in these.
            overwrite: Whether what an earlier job wrote is to be deleted.

        Raises:
            OutputError: it lies in an input, or another launch on this machine is writing to it.
        """
        store = absolute_store(out)
        check_outside(store, inputs)
        refuse_if_held(store)
        return cls(kind, store, (*inputs, *others), overwrite)

    def is_begun(self, identity: Mapping[str, Any]) -> bool:
        """Whether there is a job to go on with.

        Args:
            identity: What makes the output what it is, flat.

        Raises:
            ConfigError: it is one of another configuration, with what differs.
            OutputError: the folder holds something else.
        """
        if self.overwrite:
            check_clearable(self.store, self.inputs, self.kind)
            return False
        if self.store.exists(self.kind.record):
            check_same(self.store.uri, self.store.read_record(self.kind.record), identity)
            return True
        if foreign := self._foreign():
            raise OutputError(
                f"output folder {self.store.uri!r} holds {foreign[0]!r}, which {self.kind.none} "
                f"wrote; choose another"
            )
        return False

    def _foreign(self) -> list[str]:
        """Names that do not stand in a folder of this kind whose record is yet to be written."""
        other_records = [f"{JOB}/{n}" for n in self.store.names(JOB) if n.endswith(".json")]
        return [n for n in self.store.names() if n not in self.kind.early] + other_records

    @contextmanager
    def launch(self, identity: Mapping[str, Any], say: Say) -> Iterator[Launch]:
        """Holds the folder for as long as the block runs.

        Args:
            identity: As of :meth:`is_begun`.
            say: Takes lines of progress.

        Raises:
            ConfigError, OutputError: as :meth:`is_begun`; it cannot be written; or another launch
                is writing to it.
        """
        self.store.check_writable()
        with hold(self.store, self.kind.command, say) as lease:
            # asked again, since another launch may have begun or ended in between
            yield Launch(self, identity, lease, self.is_begun(identity))

    def sweep(self) -> None:
        """Deletes what killed launches left half written."""
        for folder in (self.store, self.store.child(JOB)):
            folder.sweep()


@dataclass(frozen=True, slots=True)
class Launch:
    """One launch of a job, while it holds the folder; each step confirms that it still does.

    Attributes:
        folder: Where it writes.
        identity: What makes the output what it is, flat.
        lease: The right to write.
        resumes: Whether an earlier launch began the job.
    """

    folder: OutputFolder
    identity: Mapping[str, Any]
    lease: Lease
    resumes: bool

    def clear(self) -> None:
        """Deletes all but the lease; the record last, so that what is left is known as ours."""
        self.lease.confirm()
        store = self.folder.store
        for name in store.names():
            if name != JOB:
                store.delete(name)
        job = store.child(JOB)
        lease, record = (PurePosixPath(name).name for name in (LEASE, self.folder.kind.record))
        others = [name for name in job.names() if name not in (lease, record)]
        for name in (*others, record):
            job.delete(name)

    def keep_inputs(self, inputs: Mapping[str, bytes]) -> None:
        """Keeps files of the input that tasks are to read, by name."""
        self.lease.confirm()
        for name, data in inputs.items():
            self.folder.store.write_bytes(f"{INPUT}/{name}", data)

    def write_record(self) -> None:
        """Writes what the output depends on: last, so that a job is begun whole or not at all."""
        self.lease.confirm()
        self.folder.store.write_json(self.folder.kind.record, self.identity)

    def finish(self) -> None:
        """Deletes what killed launches left half written; called once all is there."""
        self.lease.confirm()
        self.folder.sweep()


def absolute_store(uri: str) -> Store:
    """The store of a path or URI, whatever the working folder will be."""
    return Store.of(uri if "://" in uri else os.path.abspath(uri))


def check_outside(store: Store, inputs: Sequence[str]) -> None:
    """Refuses an output folder in a folder whose files are the input: the next launch reads both.

    Args:
        store: The output folder.
        inputs: Files and folders that are read; only folders can hold it.

    Raises:
        OutputError: naming both.
    """
    for uri in inputs:
        folder = absolute_store(uri)
        if store.lies_in(folder) and folder.is_folder():
            raise OutputError(
                f"output folder {store.uri!r} lies in the input folder {public(uri)!r}, all files "
                f"of which are read: the next launch would take the output for input; choose a "
                f"folder outside of it"
            )


def check_clearable(store: Store, inputs: Sequence[str], kind: OutputKind) -> None:
    """Refuses to delete anything but what earlier jobs wrote.

    Args:
        store: The output folder.
        inputs: What is read, which must not lie in it.
        kind: Of the jobs.

    Raises:
        OutputError: naming the folder and what is in the way.
    """
    for uri in inputs:
        if absolute_store(uri).lies_in(store):
            raise OutputError(
                f"output folder {store.uri!r} holds the input {uri!r}, which --overwrite would "
                f"delete; choose another"
            )
    foreign = [n for n in store.names() if n not in kind.early and not n.endswith(".parquet")]
    if foreign:
        raise OutputError(
            f"output folder {store.uri!r} holds {foreign[0]!r}, which {kind.none} wrote; "
            f"--overwrite deletes scores only: choose another folder"
        )
