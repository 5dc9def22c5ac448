"""DSG: a ``.csv`` with a row for each question, which depends on others of its prompt.

``item_id, text, keywords, proposition_id, dependency, category_broad, category_detailed, tuple,
question_natural_language``; a dependency is ``0`` or ids such as ``1,4``. The expected answer is
"yes" throughout. Source: https://arxiv.org/abs/2310.18235 and its repository.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from tokenfocus_ray.datasets.importers.base import Format, Plan, Request
from tokenfocus_ray.datasets.importers.claims import things
from tokenfocus_ray.datasets.importers.prompts import Prompt, Question, plan_prompts
from tokenfocus_ray.datasets.text_tables import read_small
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.storage import Store, public
from tokenfocus_ray.tables.columns import require_columns

_NEEDED = ("item_id", "text", "proposition_id", "dependency", "question_natural_language")
_USED = (*_NEEDED, "keywords", "category_broad", "category_detailed", "tuple")


def plan(request: Request) -> Plan:
    """Finds the prompts."""
    request.refuse("dsg", mapping="since its columns are known")
    return plan_prompts(request, lambda: _read(request))


def _read(request: Request) -> list[Prompt]:
    where = public(request.src)
    if not request.src.lower().endswith((".csv", ".tsv")):
        raise ManifestError(f"{where}: wanted DSG's .csv of questions, such as dsg-1k-anns.csv")
    table: pa.Table = read_small(Store.of(request.src), {}, request.text)
    require_columns(table, _NEEDED, where)
    return prompts_of(table.to_pylist())


def prompts_of(rows: Sequence[Mapping[str, str]]) -> list[Prompt]:
    """Prompts in the order in which their first questions stand."""
    found: dict[str, Prompt] = {}
    for number, row in enumerate(rows):
        name, text = row["item_id"], row["text"]
        prompt = found.setdefault(
            name,
            Prompt(name, text, depends=True, others={"element_tuples": [], "element_classes": []}),
        )
        if prompt.text != text:
            prompt.spoil(
                f"prompt {name!r} is {prompt.text!r:.80} and, in row {number}, {text!r:.80}; give "
                f"each prompt its own id"
            )
        broad, fine = ((row.get(n) or "").strip() for n in ("category_broad", "category_detailed"))
        parents = [one.strip() for one in row["dependency"].split(",")]
        prompt.questions.append(
            Question(
                row["question_natural_language"],
                type=kind_of(broad, fine),
                id=row["proposition_id"].strip(),
                parents=tuple(one for one in parents if one not in ("", "0", "-")),
            )
        )
        prompt.others["element_tuples"].append(row.get("tuple"))
        prompt.others["element_classes"].append(f"{broad}/{fine}")
        if broad == "entity":
            prompt.known.append((row.get("keywords") or "").strip())
        for other, value in row.items():
            if other not in _USED:
                prompt.others.setdefault(other, value)
    for prompt in found.values():
        prompt.known += things(question.text for question in prompt.questions)
    return list(found.values())


def kind_of(broad: str, fine: str) -> str:
    """The type of an element.

    >>> kind_of("entity", "whole"), kind_of("attribute", "color"), kind_of("global", "-")
    ('object', 'color', 'global')
    """
    if (broad, fine) == ("entity", "whole"):
        return "object"
    return broad if fine in ("", "-") else fine


DSG = Format("questions with dependencies, .csv", plan)
