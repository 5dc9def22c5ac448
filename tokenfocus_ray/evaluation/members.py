"""Score rows of several members, taken apart: one table a member, for comparing them."""

from __future__ import annotations

import pyarrow as pa

from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.schema import ENSEMBLE_COLUMNS

_F, _LF = pa.float32(), pa.list_(pa.float32())
_EACH = (("score", "member_scores", _F), ("element_scores", "member_element_scores", _LF))


def member_names(scores: pa.Table) -> list[str]:
    """The members as the schema's metadata names them; empty where it names none."""
    metadata = scores.schema.metadata or {}
    return [n for n in metadata.get(b"tokenfocus.members", b"").decode().split(",") if n]


def member_table(scores: pa.Table, name: str) -> pa.Table:
    """Score rows as if one of :func:`member_names` had scored alone."""
    m = member_names(scores).index(name)
    # what an ensemble says of its own score is true of none of its members
    table = scores.drop_columns([c for c in ENSEMBLE_COLUMNS if c in scores.column_names])
    for whole, each, kind in _EACH:
        # of an unscored row the lists are empty: it stays without a score
        mine = [values[m] if values else None for values in scores[each].to_pylist()]
        index = table.schema.get_field_index(whole)
        table = table.set_column(index, whole, pa.array(mine, kind))
    return table


def member_tables(scores: pa.Table) -> dict[str, pa.Table]:
    """One table of score rows for each member, as if it had scored alone.

    Args:
        scores: With ``member_scores`` and ``member_element_scores``, and the members' names in the
            schema's metadata, as ``tokenfocus score`` writes them.

    Returns:
        Member name -> table with ``score`` and ``element_scores`` of that member.

    Raises:
        ManifestError: the metadata names no members.
    """
    names = member_names(scores)
    if not names:
        raise ManifestError(
            "the score table names no members in its schema's metadata; give the output of "
            "`tokenfocus score` as it was written"
        )
    return {name: member_table(scores, name) for name in names}
