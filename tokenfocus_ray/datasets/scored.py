"""Score tables as people use them: read a few rows at a time, their columns found by role.

scored = ScoredTable.open("runs/scores")
for table in scored.read([scored.columns.prompt, "score"]): ...
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import pyarrow as pa

from tokenfocus_ray.datasets.manifest import CONVENTIONS
from tokenfocus_ray.datasets.recorded import RecordedInput
from tokenfocus_ray.datasets.row_table import RowTable
from tokenfocus_ray.errors import ManifestError, did_you_mean
from tokenfocus_ray.storage import Store
from tokenfocus_ray.tables.columns import require_columns
from tokenfocus_ray.tables.members import ScoreTableInfo

#: Role -> names tried in this order, beside those of manifests.
ROLES: dict[str, tuple[str, ...]] = {
    **{role: CONVENTIONS[role] for role in ("prompt", "image_uri", "elements", "prompt_type")},
    "element_parents": ("element_parents",),
    "generator": ("generator", "model", "model_name"),
    "seed": ("seed",),
}
#: What every job of this package wrote.
NEEDED = ("sample_id", "status", "error_code", "error_message", "score", "element_scores")
#: Rows that are read at a time.
BATCH_ROWS = 8_192


@dataclass(frozen=True, slots=True)
class ScoredColumns:
    """Name of the score table's column for each role; None where it has none.

    Attributes:
        prompt: The text prompt.
        image_uri: Path or URI of the image; None where the manifest held images only.
        elements: Elements in any form that ``parse_elements`` reads.
        prompt_type: ``"real"`` or ``"synthetic"``.
        element_parents: For each element, the elements that it depends on.
        generator: Who made the image.
        seed: With which it was made.
    """

    prompt: str | None
    image_uri: str | None
    elements: str | None
    prompt_type: str | None
    element_parents: str | None
    generator: str | None
    seed: str | None


@dataclass(frozen=True, slots=True)
class ScoredTable:
    """The output of ``tokenfocus score`` or ``merge``; pickles.

    Attributes:
        rows: All rows by number, in the order of the input.
        info: Who scored; None where the metadata does not say.
        columns: Which column is what.
        input: What was scored; None where nothing says so.
    """

    rows: RowTable
    info: ScoreTableInfo | None
    columns: ScoredColumns
    input: RecordedInput | None

    @classmethod
    def open(
        cls,
        scores: str,
        *,
        mapping: Mapping[str, str] | None = None,
        manifests: Sequence[str] | None = None,
        images: str | None = None,
    ) -> Self:
        """Finds the files; reads their footers only.

        Args:
            scores: Output folder of a job, or a Parquet file of it; local or in a store.
            mapping: Role -> column of the score table, before any convention. ``image`` names the
                column of the images' bytes in ``manifests``.
            manifests: What was scored, in the order of then; None: as the job wrote it down.
            images: Folder that relative image paths start from; None: likewise.

        Raises:
            ManifestError: there is no score table; or a role or a column is not there.
        """
        given = dict(mapping or {})
        with tempfile.TemporaryDirectory() as folder:
            rows = RowTable.of(scores, Store.of(f"{folder}/scores.parquet"))
        if rows.inputs:
            raise ManifestError(f"{rows.where}: give scores in Parquet, as they were written")
        require_columns(rows.schema.empty_table(), NEEDED, rows.where, "the output of a job")
        recorded = RecordedInput.find(scores)
        if manifests is not None:
            more = {"image": given["image"]} if "image" in given else {}
            recorded = RecordedInput(
                manifests=tuple(Store.of(uri).absolute for uri in manifests),
                mapping=(recorded.mapping if recorded else {}) | more,
                columns=recorded.columns if recorded else {},
                numbers=recorded.numbers if recorded else None,
            )
        if images is not None:
            base = Store.of(images).absolute
            recorded = (recorded or RecordedInput(manifests=())).model_copy(
                update={"images": base, "bases": (base,)}
            )
        given.pop("image", None)
        columns = _find(rows.schema.names, given, recorded, rows.where)
        return cls(rows, ScoreTableInfo.find(rows.schema, rows.where), columns, recorded)

    @property
    def where(self) -> str:
        """The table, for messages."""
        return self.rows.where

    @property
    def n_rows(self) -> int:
        """Rows in all."""
        return self.rows.n_rows

    def read(
        self,
        columns: Sequence[str | None] | None = None,
        start: int = 0,
        stop: int | None = None,
        rows: int = BATCH_ROWS,
    ) -> Iterator[pa.Table]:
        """Rows from ``start`` to ``stop``, so many at a time, in their order.

        Args:
            columns: Those to read, in this order; None among them, for a role without a column, is
                passed over. By default all.
            start: First row.
            stop: Row before which to stop; None: all.
            rows: Of each table but the last.
        """
        table = self.rows
        if columns is not None:
            fields = [table.schema.field(n) for n in dict.fromkeys(columns) if n is not None]
            schema = pa.schema(fields).with_metadata(dict(table.schema.metadata or {}))
            table = replace(table, schema=schema)
        stop = self.n_rows if stop is None else stop
        if stop > start:
            yield from table.read(start, stop, rows)


def _find(
    names: Sequence[str], given: Mapping[str, str], recorded: RecordedInput | None, where: str
) -> ScoredColumns:
    for role, name in given.items():
        if role not in ROLES:
            raise ManifestError(f"--map {role}={name}: no such role. {did_you_mean(role, ROLES)}")
        if name not in names:
            raise ManifestError(
                f"--map {role}={name}: {where} has no column {name!r}. {did_you_mean(name, names)}"
            )
    known = {} if recorded is None else recorded.columns
    first = {role: given.get(role, known.get(role)) for role in ROLES}
    found = {
        role: first[role] if first[role] in names else next((n for n in tried if n in names), None)
        for role, tried in ROLES.items()
    }
    return ScoredColumns(**found)
