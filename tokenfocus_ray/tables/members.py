"""Who scored a table: members and backbones, as the schema's metadata names them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Self

import pyarrow as pa

from tokenfocus_ray.errors import ManifestError, shown
from tokenfocus_ray.schema import ENSEMBLE_COLUMNS, backbone_label


def text_metadata(schema: pa.Schema) -> dict[str, str]:
    """A schema's metadata as text."""
    metadata = schema.metadata or {}
    return {k.decode(errors="replace"): v.decode(errors="replace") for k, v in metadata.items()}


@dataclass(frozen=True, slots=True)
class Members:
    """Who scored a table.

    Attributes:
        names: [M] of the members, as they stand in the table.
        backbones: Name of each backbone -> its members' places.
    """

    names: tuple[str, ...]
    backbones: dict[str, list[int]]

    @classmethod
    def of(cls, schema: pa.Schema, where: str) -> Self:
        """Reads them from a score table's metadata.

        Raises:
            ManifestError: it names none.
        """
        metadata = text_metadata(schema)
        names = [n for n in metadata.get("tokenfocus.members", "").split(",") if n]
        backbone = metadata.get("tokenfocus.backbone", "")
        if not names or not backbone:
            raise ManifestError(
                f"{where}: the table's metadata names no members; give the output of `tokenfocus "
                f"score` as it was written, or any table by --table"
            )
        if not backbone.startswith("{"):
            return cls(tuple(names), {backbone_label(backbone): list(range(len(names)))})
        try:
            backbones = list(dict(json.loads(backbone)))
        except (ValueError, TypeError, RecursionError):
            raise ManifestError(
                f"{where}: the table's metadata names its backbones as {shown(backbone)}; give the "
                f"output of `tokenfocus score` as it was written"
            ) from None
        bags = {
            name: [m for m, member in enumerate(names) if member.startswith(f"{name}/")]
            for name in backbones
        }
        return cls(tuple(names), bags)

    def places(self) -> dict[str, list[int]]:
        """Every NAME that can be asked for -> the members of which it is the mean."""
        return {name: [m] for m, name in enumerate(self.names)} | self.backbones

    def bags(self) -> list[str]:
        """What is stacked: backbones; or members, where there is one backbone only."""
        return list(self.backbones) if len(self.backbones) > 1 else list(self.names)


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
