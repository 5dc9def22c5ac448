"""The images of rows that were scored, as the bytes that they were: for copies and thumbnails.

A score table has no image bytes. It is in the order of its manifest, so a row's number leads to
the image where the manifest holds it; a path leads there too, and in tar shards a key.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Self

import pyarrow as pa

from tokenfocus_ray.datasets.scored import ScoredTable
from tokenfocus_ray.datasets.sources import plan_source
from tokenfocus_ray.datasets.tar_samples import Sample, samples_of
from tokenfocus_ray.datasets.tars import picture
from tokenfocus_ray.datasets.units import Source, Unit, read_unit
from tokenfocus_ray.errors import ImageDecodeError, ManifestError, RowError, shown
from tokenfocus_ray.scoring.fetch import original
from tokenfocus_ray.storage import Store, public
from tokenfocus_ray.tables.text import TextOptions, readable

#: Name of the column of row numbers.
ROW = "row"
#: Images fetched from a store at a time, and rows with images in memory.
_FETCHES, _ROWS = 16, 64


@dataclass(frozen=True, slots=True)
class Originals:
    """Where the images of a score table are; pickles.

    Attributes:
        where: The score table, for messages.
        needed: Columns of the score table that :meth:`read` wants beside the row number.
        uri: Of these, that of the paths.
        base: Folder that relative paths start from; None where each unit has its own, or none is
            known.
        confined: Whether only images below it are read.
        source: The manifests, where they must be read again.
        starts: First row of each of their units; none of tar shards.
        numbers: Column of the row's number in the manifests; None: that of the score table.
    """

    where: str
    needed: tuple[str, ...]
    uri: str | None = None
    base: str | None = None
    confined: bool = False
    source: Source | None = None
    starts: tuple[int, ...] = ()
    numbers: str | None = None

    @classmethod
    def of(cls, scored: ScoredTable) -> Self:
        """Finds them; reads no image.

        Args:
            scored: The score table.

        Raises:
            ManifestError: nothing says where they are, or the manifests are not those that were
                scored.
        """
        uri, given = scored.columns.image_uri, scored.input
        known = () if uri is None else (uri,)
        if given is None:
            if uri is None:
                raise ManifestError(
                    f"{scored.where}: nothing says which images were scored: there is neither a "
                    f"column of paths nor __job/run.json beside the scores; name the manifest that "
                    f"was scored with --manifest"
                )
            return cls(scored.where, known, uri)
        if uri is not None and not given.has_bytes and len(given.bases) == 1:
            return cls(scored.where, known, uri, given.bases[0], given.images_only)
        if not given.manifests:
            raise ManifestError(
                f"{scored.where}: has no column of paths, so --images does not lead to the images; "
                f"name the manifest that was scored with --manifest"
            )
        source = plan_source(
            given.manifests, given.images, given.mapping, Store.of("."),
            TextOptions(given.encoding, given.quotes),
        )  # fmt: skip
        found = cls(scored.where, known, uri, None, given.images_only, source)
        if source.n_rows is None:
            return replace(found, needed=("shard", "key"))._with_shards(scored)
        # once it is read, what it is made of may be large
        found = replace(found, source=replace(source, inputs={}))
        numbers = given.numbers if given.numbers in scored.rows.schema.names else None
        if numbers is None and source.n_rows != scored.n_rows:
            raise ManifestError(
                f"{scored.where} has {scored.n_rows:,} rows, and {source.where} {source.n_rows:,}; "
                f"name the manifest that was scored, as it was then, with --manifest"
            )
        starts, n_rows = [], 0
        for unit in source.units:
            starts.append(n_rows)
            n_rows += unit.n_rows or 0
        prompt = (scored.columns.prompt,) if scored.columns.prompt else ()
        more = () if numbers is None else (numbers,)
        return replace(
            found, needed=(*known, *more, *prompt), starts=tuple(starts), numbers=numbers
        )

    def _with_shards(self, scored: ScoredTable) -> Self:
        assert self.source is not None
        if missing := {"shard", "key"} - set(scored.rows.schema.names):
            raise ManifestError(
                f"{scored.where}: has no column {min(missing)!r}, which leads to the images in "
                f"{self.source.where}; give the scores as they were written"
            )
        counts = Counter(_name(unit) for unit in self.source.units)
        name, count = counts.most_common(1)[0]
        if count > 1:
            raise ManifestError(
                f"{self.source.where}: {count} shards are called {name!r}, so their images cannot "
                f"be told apart; score folders with shards of equal names one at a time"
            )
        return self

    def read(self, rows: pa.Table) -> Iterator[tuple[int, bytes | RowError]]:
        """The images of some rows, a few in memory at a time.

        Args:
            rows: :data:`ROW` (numbers in the score table, rising) and the columns :attr:`needed`.

        Yields:
            Each row's number and its encoded image, or why there is none; each row once, in the
            order of the rows where the images lie in files of their own or in Parquet, in the order
            of the shards where they lie in tar files.

        Raises:
            ManifestError: the manifest cannot be read any more, or is not the one that was scored.
        """
        if self.source is None:
            yield from self._fetched(rows, self.base)
        elif not self.starts:
            yield from self._of_shards(rows)
        elif self.numbers is None:
            yield from self._of_units(rows)
        else:
            own: Any = rows[self.numbers]
            asked = dict(zip(own.to_pylist(), rows[ROW].to_pylist(), strict=True))
            place = rows.column_names.index(ROW)
            for number, found in self._of_units(rows.set_column(place, ROW, own)):
                yield asked[number], found

    def _fetched(self, rows: pa.Table, base: str | None) -> Iterator[tuple[int, bytes | RowError]]:
        assert self.uri is not None

        def one(uri: Any) -> bytes | RowError:
            try:
                if base is None and uri and "://" not in str(uri) and not os.path.isabs(str(uri)):
                    raise ImageDecodeError(  # never from wherever this process happens to stand
                        "image_missing",
                        f"image {shown(uri)} has a relative path, and nothing says where it "
                        f"starts; name the folder with --images",
                    )
                data, _ = original(None, uri, base, column=self.uri, confined=self.confined)
            except RowError as error:
                return error
            return data

        numbers: list[Any] = rows[ROW].to_pylist()
        uris: list[Any] = rows[self.uri].to_pylist()
        with ThreadPoolExecutor(_FETCHES) as pool:
            for i in range(0, len(uris), _ROWS):
                found = pool.map(one, uris[i : i + _ROWS])
                yield from zip(numbers[i : i + _ROWS], found, strict=True)

    def _of_units(self, rows: pa.Table) -> Iterator[tuple[int, bytes | RowError]]:
        """Of Parquet manifests: by number."""
        assert self.source is not None
        numbers: list[Any] = rows[ROW].to_pylist()
        at = 0
        for unit, start in zip(self.source.units, self.starts, strict=True):
            stop = start + (unit.n_rows or 0)
            first = at
            while at < len(numbers) and numbers[at] < stop:
                at += 1
            if at == first:
                continue
            own = rows.slice(first, at - first)
            if self.source.has_bytes:
                yield from self._held(own, unit, start)
            else:
                yield from self._fetched(own, unit.base)

    def _held(
        self, rows: pa.Table, unit: Unit, start: int
    ) -> Iterator[tuple[int, bytes | RowError]]:
        """Of manifests with image bytes."""
        assert self.source is not None
        columns = self.source.columns
        names = [n for n in (columns.image, columns.image_uri, columns.prompt) if n is not None]
        schema = pa.schema([self.source.schema.field(n) for n in dict.fromkeys(names)])
        wanted: Mapping[int, Any] = {row[ROW]: row for row in rows.to_pylist()}
        last, number = max(wanted), start
        for table in read_unit(schema, unit, _ROWS):
            here = [n for n in range(number, number + table.num_rows) if n in wanted]
            own: list[Any] = table.take([n - number for n in here]).to_pylist() if here else []
            for n, found in zip(here, own, strict=True):
                self._check_prompt(n, wanted[n], found[columns.prompt])
                value = found[columns.image] if columns.image else None
                uri = found[columns.image_uri] if columns.image_uri else None
                if isinstance(value, list) and len(value) == 1:
                    value = value[0]
                try:
                    data, _ = original(
                        value, uri, unit.base, column=columns.image, confined=self.confined
                    )
                    yield n, data
                except RowError as error:
                    yield n, error
            number += table.num_rows
            if number > last:
                return

    def _check_prompt(self, number: int, scored: Mapping[str, Any], found: object) -> None:
        """Refuses a manifest of as many, but other, rows: its images would go by wrong scores."""
        name = self.needed[-1]
        given = scored.get(name)
        if not isinstance(found, (list, bytes)) and given is not None and str(given) != str(found):
            assert self.source is not None
            raise ManifestError(
                f"row {number:,} of {self.source.where} has the prompt {shown(found)}, and that of "
                f"{self.where} {shown(given)}; name the manifest that was scored, as it was then, "
                f"with --manifest"
            )

    def _of_shards(self, rows: pa.Table) -> Iterator[tuple[int, bytes | RowError]]:
        """Of tar shards, each read to the last key that is wanted; a key's first sample counts."""
        assert self.source is not None
        places = {_name(unit): unit.uri for unit in self.source.units}
        by_shard: dict[str, dict[str, list[int]]] = {}
        for row in rows.to_pylist():
            by_shard.setdefault(row["shard"], {}).setdefault(row["key"], []).append(row[ROW])
        image = self.source.columns.image
        for shard, keys in by_shard.items():
            if shard in places:
                yield from _of_shard(Store.of(places[shard]), image, keys)
            for key, numbers in keys.items():  # those that were not found
                message = f"key {key!r} is not in the shard {shard!r} of {self.source.where}"
                for number in numbers:
                    yield number, ImageDecodeError("image_missing", f"{message}; put it back")


def _of_shard(
    store: Store, image: str | None, keys: dict[str, list[int]]
) -> Iterator[tuple[int, bytes | RowError]]:
    """Those that are found leave ``keys``."""
    column = image or "image"
    wanted = None if column == "image" else column.lower()
    try:
        for sample in samples_of(store, wanted, Counter()):
            numbers = keys.pop(readable(sample.key), []) if sample.key else []
            found = _picture_of(sample, wanted) if numbers else b""
            for number in numbers:
                yield number, found
            if not keys:
                return
    except (OSError, pa.ArrowException) as error:
        cause, remedy = store.explain(error)
        raise ManifestError(f"{public(store.uri)}: cannot be read: {cause}; {remedy}") from error


def _picture_of(sample: Sample, wanted: str | None) -> bytes | RowError:
    try:
        if sample.fault is not None:
            raise sample.fault
        if found := sample.files.get(wanted or picture(sample)):
            return found
    except RowError as error:
        return error
    return ImageDecodeError(
        "image_missing", f"key {sample.key!r} has no image; put one beside its text"
    )


def _name(unit: Unit) -> str:
    return unit.uri.rpartition("/")[2]
