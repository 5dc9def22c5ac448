from __future__ import annotations

from tokenfocus_ray.schema import ScoreRow
from tokenfocus_ray.training.divergence import without_answer


def test_a_member_is_lost_where_it_answers_nothing() -> None:
    """A few rows beyond a type's range, or images that are gone, are no divergence."""
    nan = [ScoreRow(f"n{i}", "unscored", "score_not_finite", "NaN") for i in range(2)]
    gone = ScoreRow("g", "unscored", "image_missing", "gone")
    assert without_answer([*nan, gone]) == ["n0", "n1"]
    assert without_answer([*nan, ScoreRow("a", "ok", score=3.0)]) == []
    assert without_answer([gone]) == []
    assert without_answer([]) == []
