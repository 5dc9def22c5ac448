"""Image paths that lead to the images from wherever a table lies."""

from __future__ import annotations

import bisect
import posixpath
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc

from tokenfocus_ray.datasets.recorded import RecordedInput
from tokenfocus_ray.datasets.scored import ScoredTable
from tokenfocus_ray.scoring.originals import Originals
from tokenfocus_ray.storage import split_uri
from tokenfocus_ray.tables.columns import unlike

#: Paths that start from nowhere else, as ``split_uri`` takes them apart.
_ABSOLUTE = r"^([A-Za-z][A-Za-z0-9+.-]+://|data:|file:|/)"


#: Column of a row's number in what was scored, where only that leads to its image.
NUMBER = "source_row"


@dataclass(frozen=True, slots=True)
class ImagePaths:
    """Where relative image paths of a score table start from.

    Attributes:
        column: Of the paths; None where there is none.
        starts: First row of each run of rows that start from one folder.
        bases: Those folders; None where it is not known.
        number: Column of a row's number in what was scored, which rows get where only that leads to
            their images; None: it does not, or they have one.
    """

    column: str | None
    starts: tuple[int, ...] = (0,)
    bases: tuple[str | None, ...] = (None,)
    number: str | None = None

    @classmethod
    def of(cls, scored: ScoredTable) -> Self:
        """Finds them; where a job scored several folders, in its manifests.

        Raises:
            ManifestError: the manifests are not those that were scored.
        """
        column, given = scored.columns.image_uri, scored.input
        if given is None:
            return cls(column)
        number = None
        confined = given.images_only and len(given.bases) != 1
        if given.numbers is None and (given.has_bytes or confined):
            number = unlike(NUMBER, scored.rows.schema.names, "tokenfocus_")
        if column is None or len(given.bases) == 1:
            return cls(column, (0,), given.bases[:1] or (None,), number)
        if (source := Originals.of(scored).source) is None:
            return cls(column, number=number)
        starts, bases, n_rows = list[int](), list[str | None](), 0
        for unit in source.units:
            if unit.n_rows is None:  # of a tar shard, which has no paths
                return cls(column, number=number)
            if not bases or bases[-1] != unit.base:
                starts.append(n_rows)
                bases.append(unit.base)
            n_rows += unit.n_rows
        return cls(column, tuple(starts), tuple(bases), number)

    def schema(self, schema: pa.Schema) -> pa.Schema:
        """Of the rows that :meth:`lead` gives."""
        more = () if self.number is None else (pa.field(self.number, pa.int64()),)
        found = pa.schema([*schema, *more])
        return found.with_metadata(dict(schema.metadata or {}))

    def recorded(self, scored: ScoredTable) -> RecordedInput | None:
        """What is to be written beside a table of some of those rows."""
        if (given := scored.input) is None:
            return None
        several = given.images_only and len(given.bases) != 1
        first = self.bases[0]
        return given.model_copy(
            update={
                "columns": {k: v for k, v in asdict(scored.columns).items() if v is not None},
                "bases": given.bases if several or first is None else (first,),
                "numbers": self.number or given.numbers,
            }
        )

    def lead(self, table: pa.Table, start: int) -> pa.Table:
        """The table as it leads to the images: all paths absolute or URIs, and numbers beside.

        Args:
            table: Rows of the score table.
            start: Number of the first one.
        """
        table = self.absolute(table, start)
        if self.number is not None:
            numbers: Any = pa.array(range(start, start + table.num_rows), pa.int64())
            table = table.append_column(self.number, numbers)
        return table

    def absolute(self, table: pa.Table, start: int) -> pa.Table:
        """The table with all paths absolute, or as URIs.

        Args:
            table: Rows of the score table.
            start: Number of the first one.
        """
        if self.column is None or table.num_rows == 0:
            return table
        index = table.column_names.index(self.column)
        kind = table.schema.field(index).type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            return table
        parts, at = [], 0
        while at < table.num_rows:
            run = bisect.bisect_right(self.starts, start + at) - 1
            last = run + 1 == len(self.starts)
            stop = table.num_rows if last else min(self.starts[run + 1] - start, table.num_rows)
            paths = table[self.column].slice(at, stop - at).combine_chunks()
            parts.append(_below(self.bases[run], paths))
            at = stop
        return table.set_column(index, table.schema.field(index), pa.chunked_array(parts, kind))

    def unknown(self, table: pa.Table) -> str | None:
        """A sentence about paths that lead nowhere once the table lies elsewhere, if any do.

        Args:
            table: Rows of the score table.
        """
        if self.column is None or self.bases != (None,):
            return None
        paths: Any = table[self.column]
        if not pa.types.is_string(paths.type) and not pa.types.is_large_string(paths.type):
            return None
        relative: Any = pc.invert(pc.match_substring_regex(paths, _ABSOLUTE))
        if not pc.any(relative).as_py():
            return None
        return (
            f"image paths such as {paths.filter(relative)[0].as_py()!r} are relative, and nothing "
            f"says from which folder, so they stay as they are; name it with --images"
        )


def _below(base: str | None, paths: Any) -> Any:
    """Paths as they are from a folder; null and blank ones stay."""
    if base is None or not len(paths):
        return paths
    blank = pc.equal(pc.utf8_trim_whitespace(paths), pa.scalar("", paths.type))
    stays = pc.or_(pc.match_substring_regex(paths, _ABSOLUTE), blank)
    folder = pa.scalar(base.rstrip("/"), paths.type)
    joined: Any = pc.binary_join_element_wise(folder, paths, pa.scalar("/", paths.type))
    if split_uri(base)[0]:  # steps up mean something to a disk only
        steps: Any = pc.match_substring_regex(joined, r"[^:]/(/|\.{1,2}(/|$))")
        if pc.any(steps).as_py():
            joined = pa.array(_normal(joined.to_pylist()), paths.type)
    return pc.if_else(pc.fill_null(stays, True), paths, joined)


def _normal(uris: Sequence[str | None]) -> list[str | None]:
    """URIs without ``.`` and ``..``, which do not lead out of a bucket."""
    found: list[str | None] = []
    for uri in uris:
        if uri is None:
            found.append(None)
            continue
        scheme, place = split_uri(uri)
        host, _, path = place.partition("/")
        found.append(f"{scheme}://{host}{posixpath.normpath(posixpath.join('/', path))}")
    return found
