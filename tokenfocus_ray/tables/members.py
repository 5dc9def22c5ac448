"""Who scored a table, and with what: one value, and one key of the Parquet schema's metadata.

    tokenfocus: {"version": 1, "backbones": [{"name": "qwen", "members": ["m0", "m1"], ...}], ...}

:mod:`~tokenfocus_ray.tables.older_keys` stand beside it for other tools, and are read only where a
table of before has nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Self

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tokenfocus_ray.errors import ManifestError, shown
from tokenfocus_ray.parsing import problems
from tokenfocus_ray.schema import ENSEMBLE_COLUMNS
from tokenfocus_ray.tables.features import of_several
from tokenfocus_ray.tables.older_keys import from_older_keys, is_older_key, to_older_keys

#: The key, and which form its JSON has; a later one is refused.
KEY, VERSION = "tokenfocus", 1


class _Stored(BaseModel):
    # what a later release adds to this version does no harm
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class BackboneInfo(_Stored):
    """A backbone that scored.

    Attributes:
        name: By which a job of several knows it; of a lone one the last part of ``source``.
        source: Built-in name, folder or hub id.
        revision: Commit or hash of its weights.
        package: Version of this package.
        template: Hash of the questions' wording.
        members: Names of its members, in the order of the table's lists.
        config: The ``ScoringConfig`` as plain values.
    """

    name: str
    source: str
    revision: str
    package: str
    template: str
    members: tuple[str, ...] = Field(min_length=1)
    config: dict[str, Any]


class EnsembleInfo(_Stored):
    """What made one score of the members'.

    Attributes:
        fingerprint: Of the bundle.
        coverage: Share of labels that the intervals are to hold.
        element_threshold: From which score on an element counts as present; None where elements
            were not stacked.
    """

    fingerprint: str
    coverage: float
    element_threshold: float | None = None


class ScoreTableInfo(_Stored):
    """Who scored a table.

    Attributes:
        backbones: In the order of the table's lists.
        ensemble: Whose score the table's is; None where it is the mean of the members'.
    """

    backbones: tuple[BackboneInfo, ...] = Field(min_length=1)
    ensemble: EnsembleInfo | None = None

    def to_metadata(self, others: Mapping[bytes, bytes] | None = None) -> dict[str, str]:
        """The schema's metadata.

        Args:
            others: Metadata that is there already; what it says of who scored is replaced.
        """
        kept = {k: v for k, v in _texts(others).items() if k != KEY and not is_older_key(k)}
        values = self.model_dump(mode="json")
        backbones = {own["name"]: own for own in values["backbones"]}
        return {
            **kept,
            KEY: json.dumps({"version": VERSION, **values}),
            **to_older_keys(backbones, self.members, values["ensemble"]),
        }

    @classmethod
    def of(cls, schema: pa.Schema | pa.Field[Any], where: str) -> Self:
        """Reads what :meth:`to_metadata` wrote.

        Args:
            schema: What has the metadata.
            where: The table, for messages.

        Raises:
            ManifestError: there is nothing, it is of a later version, or it cannot be right.
        """
        if (found := cls.find(schema, where)) is None:
            raise ManifestError(
                f"{where}: the table's metadata names no members; give the output of `tokenfocus "
                f"score` as it was written, or any table by --table"
            )
        return found

    @classmethod
    def find(cls, schema: pa.Schema | pa.Field[Any], where: str) -> Self | None:
        """Likewise; None of a table that no job wrote."""
        metadata = _texts(schema.metadata)
        text = metadata.get(KEY)
        values = from_older_keys(metadata, where) if text is None else _values(text, where)
        try:
            return None if values is None else cls.model_validate(values)
        except ValidationError as error:
            raise ManifestError(
                f"{where}: the table's metadata says {problems(error, cls)}; give the output of "
                f"`tokenfocus score` as it was written"
            ) from None

    @classmethod
    def joined(cls, infos: Iterable[ScoreTableInfo]) -> Self:
        """Of one table that holds the scores of several tables, one after another."""
        return cls(backbones=tuple(one for info in infos for one in info.backbones))

    def named(self, backbone: str) -> Self:
        """The same, of one backbone, by the name that a job of several knows it by."""
        (one,) = self.backbones
        return self.model_copy(update={"backbones": (one.model_copy(update={"name": backbone}),)})

    @property
    def members(self) -> tuple[str, ...]:
        """[M] names of the members, as they stand in the table: ``m0``, or ``qwen/m0`` of several.

        >>> one = {"source": "", "revision": "", "package": "", "template": "", "config": {}}
        >>> qwen, other = ({"name": n, "members": ["m0"], **one} for n in ("qwen", "other"))
        >>> ScoreTableInfo(backbones=[qwen, other]).members
        ('qwen/m0', 'other/m0')
        """
        several = len(self.backbones) > 1
        return tuple(
            of_several(one.name, name) if several else name
            for one in self.backbones
            for name in one.members
        )

    @property
    def bags(self) -> dict[str, list[int]]:
        """Backbone -> its members' places."""
        found: dict[str, list[int]] = {}
        start = 0
        for one in self.backbones:
            found[one.name] = list(range(start, start + len(one.members)))
            start += len(one.members)
        return found

    def places(self) -> dict[str, list[int]]:
        """Every NAME that can be asked for -> the members of which it is the mean."""
        return {name: [m] for m, name in enumerate(self.members)} | self.bags

    def stacked(self) -> list[str]:
        """What is stacked: backbones; or members, where there is one backbone only."""
        return list(self.bags if len(self.backbones) > 1 else self.members)

    @property
    def scale(self) -> tuple[float, float] | None:
        """Lowest and highest score of the levels, which all backbones share; None if unknown."""
        try:
            levels = [float(v) for v in self.backbones[0].config["total_levels"].values()]
            return min(levels), max(levels)
        except (LookupError, ValueError, TypeError, AttributeError):
            return None


def _texts(metadata: Mapping[bytes, bytes] | None) -> dict[str, str]:
    found = (metadata or {}).items()
    return {k.decode(errors="replace"): v.decode(errors="replace") for k, v in found}


def _values(text: str, where: str) -> dict[str, Any]:
    """What the key holds, of a version that is known."""
    try:
        values = json.loads(text)
        version = values["version"]
    except (ValueError, TypeError, LookupError, RecursionError):
        raise ManifestError(
            f"{where}: the table's metadata holds {shown(text)} under {KEY!r}; give the output of "
            f"`tokenfocus score` as it was written"
        ) from None
    if version != VERSION:
        raise ManifestError(
            f"{where}: the table's metadata has version {shown(version)}, and this release of "
            f"tokenfocus-ray reads {VERSION}; install a later one, or score again"
        )
    return dict(values)


_F, _LF = pa.float32(), pa.list_(pa.float32())
_EACH = (("score", "member_scores", _F), ("element_scores", "member_element_scores", _LF))


def member_table(scores: pa.Table, name: str) -> pa.Table:
    """Score rows as if one member had scored alone.

    Args:
        scores: See :func:`member_tables`.
        name: One of :attr:`ScoreTableInfo.members`.
    """
    m = ScoreTableInfo.of(scores.schema, "the score table").members.index(name)
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
    if (info := ScoreTableInfo.find(scores.schema, "the score table")) is None:
        raise ManifestError(
            "the score table names no members in its schema's metadata; give the output of "
            "`tokenfocus score` as it was written"
        )
    return {name: member_table(scores, name) for name in info.members}
