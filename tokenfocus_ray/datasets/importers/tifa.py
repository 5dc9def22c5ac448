"""TIFA: a ``.json`` list of questions, each with its prompt.

``{id, caption, question, choices, answer, element_type, element}``, and ``coco_val_id`` where the
prompt is a caption of COCO. Source: https://arxiv.org/abs/2303.11897 and its repository's README.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tokenfocus_ray.datasets.importers.base import Format, Plan, Request
from tokenfocus_ray.datasets.importers.claims import things
from tokenfocus_ray.datasets.importers.prompts import (
    Prompt,
    Question,
    plan_prompts,
)
from tokenfocus_ray.datasets.importers.records import read_records, text_of
from tokenfocus_ray.storage import public

_FIELDS = ("id", "caption", "question", "choices", "answer", "element_type", "element")
#: Types of elements that are things, and so subjects of questions.
_THINGS = ("object", "animal/human", "animal", "human", "food", "location")


def plan(request: Request) -> Plan:
    """Finds the prompts."""
    request.refuse("tifa", mapping="since its columns are known")
    return plan_prompts(request, lambda: prompts_of(read_records(request, _WANTED), request.src))


_WANTED = "TIFA's .json list of questions and answers"


def prompts_of(records: Sequence[Mapping[str, Any]], src: str) -> list[Prompt]:
    """Prompts in the order in which their first questions stand.

    Args:
        records: The questions.
        src: Their file, for messages.

    Raises:
        ManifestError: a record lacks a field.
    """
    found: dict[str, Prompt] = {}
    for number, record in enumerate(records):
        where = f"{public(src)}: record {number}"
        name, caption = text_of(record, "id", where), text_of(record, "caption", where)
        prompt = found.setdefault(name, Prompt(name, caption, others={"element_choices": []}))
        if prompt.text != caption:
            prompt.spoil(
                f"prompt {name!r} is {prompt.text!r:.80} and, in record {number}, {caption!r:.80}; "
                f"give each prompt its own id"
            )
        kind = text_of(record, "element_type", where, empty=True)
        element = text_of(record, "element", where, empty=True)
        question, answer = (text_of(record, n, where) for n in ("question", "answer"))
        prompt.questions.append(Question(question, answer, kind))
        choices = record.get("choices") or []
        prompt.others["element_choices"].append(
            [str(one) for one in choices] if isinstance(choices, list) else [str(choices)]
        )
        if kind in _THINGS and element:
            prompt.known.append(element)
        for other, value in record.items():
            if other not in _FIELDS:
                prompt.others.setdefault(other, value)
    for prompt in found.values():
        prompt.known += things(question.text for question in prompt.questions)
    return list(found.values())


TIFA = Format("questions about prompts, .json", plan)
