"""Where a job stands."""

from __future__ import annotations

from tokenfocus_ray.progress import Progress


def test_rows_with_and_without_a_score() -> None:
    found = Progress("scoring", codes={"prompt_empty": 1, "ok": 7, "image_corrupt": 2})
    assert found.scored == 7
    assert found.unscored == {"image_corrupt": 2, "prompt_empty": 1}
    assert Progress("scoring").scored == 0
