"""A model hub's local cache, laid out as huggingface_hub does, so that its own code reads it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tokenfocus_ray.backbones.registry import WEIGHTS

FIRST, SECOND = "1" * 40, "2" * 40


class HubCache:
    """One repository in a cache of its own.

    Attributes:
        name: Its id.
    """

    name = "owner/model"

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Points the hub's libraries at a new cache, as HF_HUB_CACHE would before their import."""
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
        self._repository = folder / "models--owner--model"

    def commit(self, sha: str, backbone: str | None = None) -> Path:
        """A snapshot, empty or with the files of a built-in backbone; returns its folder."""
        snapshot = self._repository / "snapshots" / sha
        if backbone is None:
            snapshot.mkdir(parents=True)
        else:
            shutil.copytree(WEIGHTS / backbone, snapshot)
        return snapshot

    def point(self, revision: str, sha: str) -> None:
        """Lets a branch or tag stand for a commit."""
        path = self._repository / "refs" / revision
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(sha)
