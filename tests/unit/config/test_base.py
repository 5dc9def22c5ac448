from __future__ import annotations

from pathlib import Path

import pytest

from tokenfocus_ray.config import StackConfig
from tokenfocus_ray.errors import ConfigError


def test_a_file_is_read_and_named_in_errors(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("folds: 3\n", encoding="utf-8")
    assert StackConfig.load(path) == StackConfig(folds=3)
    path.write_text("fold: 3\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        StackConfig.load(path)
    assert str(caught.value) == (
        f"{path}: unknown key 'fold'. Did you mean 'folds'? Known: coverage, folds, label_range, "
        "method, metric, seeds."
    )
