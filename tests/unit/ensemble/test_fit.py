"""The verb that fits an ensemble: what it is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tokenfocus_ray import fit_ensemble
from tokenfocus_ray.errors import ConfigError, ManifestError


def test_the_encoding_is_that_of_tables_and_labels(tmp_path: Path) -> None:
    """Of text; a table of three rows is too small, which is told once it is read."""
    table = tmp_path / "t.csv"
    rows = [f"caf\u00e9 {i},{i},{i}" for i in range(3)]
    table.write_bytes("\n".join(["prompt,label,m_a", *rows]).encode("latin-1"))
    given: dict[str, Any] = {"target": "label", "features": ["m_a"], "group": "prompt"}
    seen = []
    for encoding in (None, "latin-1", "nope"):
        with pytest.raises((ConfigError, ManifestError)) as caught:
            fit_ensemble(table=str(table), encoding=encoding, **given)
        seen.append(str(caught.value))
    assert seen[0].startswith(f"{table}: line 2 is not utf-8: byte 20 is 0xe9")
    assert "utf-8" not in seen[1]
    assert seen[2].startswith("encoding 'nope': there is no such encoding")
