"""What a score table was made from, as its job wrote it down: where its images are found again.

OUT/__job/run.json  {"input": {"manifests": [...], "columns": {"prompt": "prompt", ...}}, ...}
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from tokenfocus_ray.datasets.manifest import Columns, passthrough
from tokenfocus_ray.datasets.units import Source
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.parsing import problems
from tokenfocus_ray.storage import Store
from tokenfocus_ray.tables.text import TextOptions

#: Of an output folder.
RUN_FILE = "__job/run.json"
#: Most folders that relative paths start from, before they are left to be found again.
_MOST_BASES = 16


class RecordedInput(BaseModel):
    """The input of a scoring job.

    Attributes:
        manifests: Files and folders, as any process finds them.
        images: Folder that relative image paths start from; None: each manifest's own.
        images_only: Whether images outside that folder were refused.
        mapping: Role -> column of the manifest, as the user gave it.
        encoding: Of text without a byte order mark; None: UTF-8.
        quotes: Whether quotes in ``.csv`` and ``.tsv`` stood around values.
        columns: Role -> column of the score table.
        bases: Folders that relative image paths start from; none where they are too many.
        has_bytes: Whether the manifests hold the images themselves.
        numbers: Column of the score table with each row's number in the manifests; None: they are
            in its order, row by row.
    """

    # what a later release adds does no harm
    model_config = ConfigDict(frozen=True, extra="ignore")

    manifests: tuple[str, ...]
    images: str | None = None
    images_only: bool = False
    mapping: dict[str, str] = {}
    encoding: str | None = None
    quotes: bool = True
    columns: dict[str, str] = {}
    bases: tuple[str, ...] = ()
    has_bytes: bool = False
    numbers: str | None = None

    @classmethod
    def of(
        cls,
        manifests: Sequence[str],
        source: Source,
        images: str | None,
        mapping: dict[str, str],
        text: TextOptions,
    ) -> Self:
        """What is to be written down.

        Args:
            manifests: As the user gave them.
            source: What they are.
            images: As the user gave it.
            mapping: Likewise.
            text: Likewise.
        """
        bases = tuple(dict.fromkeys(unit.base for unit in source.units))
        return cls(
            manifests=tuple(Store.of(uri).absolute for uri in manifests),
            images=None if images is None else Store.of(images).absolute,
            images_only=source.confined,
            mapping=mapping,
            encoding=text.encoding,
            quotes=text.quotes,
            columns=_in_the_output(source.schema.names, source.columns),
            bases=bases if len(bases) <= _MOST_BASES else (),
            has_bytes=source.has_bytes,
        )

    @classmethod
    def find(cls, scores: str) -> Self | None:
        """What stands beside a score table; None where nothing does.

        Args:
            scores: Output folder of a job, or a file in it.

        Raises:
            ManifestError: it cannot be right.
            OutputError: it cannot be read.
        """
        place = Store.of(scores)
        if scores.lower().endswith(".parquet") and not place.is_folder():
            place = Store.of(place.absolute.rpartition("/")[0])
        if not place.exists(RUN_FILE):
            return None
        found = place.read_record(RUN_FILE).get("input")
        try:
            return None if found is None else cls.model_validate(found)
        except ValidationError as error:
            raise ManifestError(
                f"{place.child(RUN_FILE).uri}: input: {problems(error, cls)}; delete the file, "
                f"and name what was scored with --manifest"
            ) from None


def _in_the_output(names: Sequence[str], columns: Columns) -> dict[str, str]:
    renamed = passthrough(names, columns)
    roles = ("prompt", "image_uri", "elements", "prompt_type")
    found = {role: getattr(columns, role) for role in roles}
    return {role: renamed[name] for role, name in found.items() if name in renamed}
