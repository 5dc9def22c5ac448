"""What is said of a training that left the finite numbers: what, where, the remedy."""

from __future__ import annotations

from collections.abc import Sequence

from tokenfocus_ray.config import TrainConfig
from tokenfocus_ray.errors import DivergedError
from tokenfocus_ray.schema import ScoreRow

#: Rows that a message names at the most.
_NAMED = 5


def diverged(
    what: str, rows: Sequence[str], config: TrainConfig, backbone: str, exact: bool
) -> DivergedError:
    """The error, with what to change.

    Args:
        what: What was seen, and in which step.
        rows: Ids of the samples that it was seen with.
        config: How was trained.
        backbone: A key of its backbones.
        exact: Whether it was computed in float32 at least.
    """
    own = config.backbones[backbone].learning_rate
    key = f"backbones.{backbone}.learning_rate" if own else "optimizer.learning_rate"
    rate = own or config.optimizer.learning_rate
    named = ", ".join(map(repr, rows[:_NAMED]))
    more = f" and {len(rows) - _NAMED} more" if len(rows) > _NAMED else ""
    remedy = f"lower {key} ({rate:g})"
    if not exact:
        remedy += f", or set backbones.{backbone}.dtype to float32"
    return DivergedError(
        f"{what}, with rows {named}{more}; {remedy}, and choose another --out, or look at the rows"
    )


def without_answer(rows: Sequence[ScoreRow]) -> list[str]:
    """Ids of the rows that a member answered with NaN or infinity, where it answered no other.

    A member of that kind is past helping; with a few such rows it is not.

    >>> without_answer([ScoreRow("a", "ok", score=3.0), ScoreRow("b", "unscored")])
    []
    """
    if any(row.status == "ok" for row in rows):
        return []
    return [row.sample_id for row in rows if row.error_code == "score_not_finite"]
