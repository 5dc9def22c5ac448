"""Benchmarks of prompts with their questions: a row a prompt, an element a question."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tokenfocus_ray.datasets.footers import digest
from tokenfocus_ray.datasets.importers.base import Plan, Request
from tokenfocus_ray.datasets.importers.claims import claim
from tokenfocus_ray.datasets.importers.images import join_images
from tokenfocus_ray.datasets.importers.rows import ELEMENTS
from tokenfocus_ray.datasets.manifest import CONVENTIONS
from tokenfocus_ray.datasets.units import UNIT_ROWS, Unit, read_unit
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.schema import sample_id
from tokenfocus_ray.storage import public
from tokenfocus_ray.tables.text import ERROR_CODE, ERROR_MESSAGE, make_valid

#: For each element, positions of the elements that it depends on; empty at a root.
PARENTS = pa.list_(pa.list_(pa.int32()))
_TEXTS = pa.list_(pa.string())
_COLUMNS: dict[str, pa.DataType] = {
    "sample_id": pa.string(),
    "prompt": pa.string(),
    "image_uri": pa.string(),
    "elements": ELEMENTS,
    "element_parents": PARENTS,
    "element_questions": _TEXTS,
    "element_answers": _TEXTS,
    "prompt_id": pa.string(),
    "prompt_index": pa.int64(),
    ERROR_CODE: pa.string(),
    ERROR_MESSAGE: pa.string(),
}


_TAKEN = {*_COLUMNS, *itertools.chain.from_iterable(CONVENTIONS.values())}


@dataclass(frozen=True, slots=True)
class Question:
    """One question about a prompt.

    Attributes:
        text: As the benchmark asks it.
        answer: The one that is expected.
        type: Of what it asks about; empty where the benchmark does not say.
        id: Which others depend on it by; empty: none do.
        parents: Ids of the questions that it depends on.
    """

    text: str
    answer: str = "yes"
    type: str = ""
    id: str = ""
    parents: tuple[str, ...] = ()


@dataclass(slots=True)
class Prompt:
    """One prompt.

    Attributes:
        id: The benchmark's, or its number.
        text: The prompt.
        questions: About it.
        known: Things that questions are about.
        others: Columns that travel on.
        depends: Whether the benchmark has dependencies.
        fault: Why it cannot be scored, the first reason.
    """

    id: str
    text: str
    questions: list[Question] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    others: dict[str, Any] = field(default_factory=dict)
    depends: bool = False
    fault: str | None = None

    def spoil(self, message: str) -> None:
        """Notes why it cannot be scored, if nothing came before."""
        self.fault = self.fault or message

    def row(self, index: int) -> dict[str, Any]:
        """The row of a manifest, without image."""
        parents = None
        for question in self.questions:
            if not question.text.strip():
                self.spoil(
                    f"prompt {self.id!r}: one of its questions is empty; write it or drop it"
                )
        if self.depends:
            try:
                parents = positions(self.questions)
            except ValueError as error:
                self.spoil(f"prompt {self.id!r}: {error}")
        made = {
            "prompt": self.text,
            "elements": [
                {"text": claim(q.text, q.answer, self.known, self.text), "type": q.type}
                for q in self.questions
                if q.text.strip()
            ]
            or None,
            "element_parents": parents,
            "element_questions": [q.text for q in self.questions] or None,
            "element_answers": [q.answer for q in self.questions] or None,
            "prompt_id": self.id,
            "prompt_index": index,
            **{_free(name): value for name, value in self.others.items()},
        }
        if self.fault is not None:
            made |= {ERROR_CODE: "elements_invalid", ERROR_MESSAGE: self.fault}
        return made


def _free(name: str) -> str:
    """A name that nothing of the manifest has, and that scoring takes for nothing of it."""
    return f"input_{name}" if name in _TAKEN else name


def positions(questions: Sequence[Question]) -> list[list[int]]:
    """For each question, where those stand that it depends on.

    Raises:
        ValueError: an id stands twice, is unknown, or depends on itself.
    """
    place: dict[str, int] = {}
    for at, question in enumerate(questions):
        if question.id in place:
            raise ValueError(f"question id {question.id!r} stands there twice; give each its own")
        place[question.id] = at
    found: list[list[int]] = []
    for question in questions:
        unknown = [one for one in question.parents if one not in place]
        if unknown:
            raise ValueError(
                f"question {question.id!r} depends on {unknown[0]!r}, which is none of its "
                f"questions ({', '.join(place)}); put its dependency right"
            )
        found.append(list(dict.fromkeys(place[one] for one in question.parents)))
    if (first := _in_a_circle(found)) is not None:
        raise ValueError(
            f"question {questions[first].id!r} depends on itself, by way of others or not; put its "
            f"dependency right"
        )
    return found


def _in_a_circle(parents: Sequence[Sequence[int]]) -> int | None:
    """A question that cannot be reached from those without parents."""
    settled: set[int] = set()
    left = list(range(len(parents)))
    while left:
        ready = [at for at in left if settled.issuperset(parents[at])]
        if not ready:
            return left[0]
        settled.update(ready)
        left = [at for at in left if at not in settled]
    return None


def prompt_table(prompts: Sequence[Prompt]) -> pa.Table:
    """Rows of a manifest without images, in the order of the prompts."""
    rows = [make_valid(p.row(i), ("prompt", "elements")) for i, p in enumerate(prompts)]
    for row in rows:
        row["sample_id"] = sample_id(row["prompt_id"], row["prompt"] or "")
    names = dict.fromkeys(name for row in rows for name in row if name not in _COLUMNS)
    others = {name: _column([row.get(name) for row in rows]) for name in names}
    head = {
        name: pa.array([row.get(name) for row in rows], kind) for name, kind in _COLUMNS.items()
    }
    errors = {name: head.pop(name) for name in (ERROR_CODE, ERROR_MESSAGE)}
    if all(not prompt.depends for prompt in prompts):
        del head["element_parents"]
    return pa.table({**head, **others, **errors})


def _column(values: list[Any]) -> pa.Array[Any]:
    """Values of one type as they are, of several as JSON."""
    try:
        made: pa.Array[Any] = pa.array(values)
        return made
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        texts = [v if v is None or isinstance(v, str) else json.dumps(v) for v in values]
        return pa.array(texts, pa.string())


@dataclass(frozen=True, slots=True)
class AsTheyAre:
    """Rows that the driver has made."""

    schema: pa.Schema

    def __call__(self, unit: Unit) -> Any:
        """Yields tables of a manifest."""
        return read_unit(self.schema, unit, UNIT_ROWS)


def plan_prompts(request: Request, read: Callable[[], Sequence[Prompt]]) -> Plan:
    """The plan of a benchmark of prompts, with images where the user has some.

    Args:
        request: What is to be imported.
        read: Makes the prompts.

    Raises:
        ManifestError: there are none, or images match none.
    """
    prompts = read()
    where = public(request.src)
    if not prompts:
        raise ManifestError(f"{where}: it has no prompts")
    table = prompt_table(prompts)
    if request.images is None:
        table = table.drop_columns(["image_uri"])
    else:
        table = join_images(table, request.images, request.say)
    table = table.replace_schema_metadata(None)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=UNIT_ROWS, compression="zstd")
    data = sink.getvalue().to_pybytes()
    keep = request.keep.child("prompts.parquet")
    starts = range(0, table.num_rows, UNIT_ROWS)
    units = tuple(
        Unit(i, keep.absolute, (i,), 0, min(UNIT_ROWS, table.num_rows - start), "")
        for i, start in enumerate(starts)
    )
    fingerprint = {"rows": table.num_rows, "content": digest(map(_plain, table.to_pylist()))}
    return Plan(
        units,
        AsTheyAre(table.schema),
        fingerprint,
        {"prompts.parquet": data},
        only_prompts=request.images is None,
    )


def _plain(row: Mapping[str, Any]) -> str:
    return json.dumps(row, sort_keys=True, default=str)
