"""Score rows of several members, taken apart: one table a member, for comparing them."""

from __future__ import annotations

import pyarrow as pa

from tokenfocus_ray.errors import ManifestError

_F, _LF = pa.float32(), pa.list_(pa.float32())


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
    metadata = scores.schema.metadata or {}
    names = [n for n in metadata.get(b"tokenfocus.members", b"").decode().split(",") if n]
    if not names:
        raise ManifestError(
            "the score table names no members in its schema's metadata; give the output of "
            "`tokenfocus score` as it was written"
        )
    columns = (("score", "member_scores", _F), ("element_scores", "member_element_scores", _LF))
    tables = {}
    for m, name in enumerate(names):
        table = scores
        for whole, each, kind in columns:
            # of an unscored row the lists are empty: it stays without a score
            mine = [values[m] if values else None for values in scores[each].to_pylist()]
            index = table.schema.get_field_index(whole)
            table = table.set_column(index, whole, pa.array(mine, kind))
        tables[name] = table
    return tables
