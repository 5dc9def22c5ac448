"""Files of the model hub, or of its local cache, at one commit."""

from __future__ import annotations

import re
from pathlib import Path

#: A commit's full name; branches and tags move.
COMMIT = re.compile(r"[0-9a-f]{40}")


def hub_file(name: str, file: str, revision: str | None, must_exist: bool = True) -> Path | None:
    """A local copy of a repository's file; None where there is none and need not be.

    Args:
        name: Hub id.
        file: Name of the file.
        revision: Commit, branch or tag; None: the main branch.
        must_exist: Whether a missing file is an error.

    Raises:
        OSError, ValueError: what transformers says of the repository, the file or the network.
    """
    from transformers.utils.hub import cached_file

    found = cached_file(
        name, file, revision=revision, _raise_exceptions_for_missing_entries=must_exist
    )
    return Path(found) if found else None


def commit_of(name: str, revision: str | None) -> tuple[Path, str]:
    """The commit that a hub id stands for now, and its ``config.json``.

    Where the hub cannot be asked, the local cache says which commit the revision stood for last.

    Raises:
        OSError, ValueError: the file is not to be had, or its commit cannot be told.
    """
    path = hub_file(name, "config.json", revision)
    if path is None:
        raise OSError(f"{name} has no config.json.")
    commit = path.parent.name  # .../snapshots/COMMIT/config.json
    if not COMMIT.fullmatch(commit):
        raise ValueError(
            f"the cache does not say of which commit {str(path)!r} is, so runs could not be told "
            f"apart."
        )
    return path, commit
