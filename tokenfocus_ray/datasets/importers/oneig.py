r"""OneIG-Bench: a ``.csv`` of prompts, and files of questions by prompt id, a file a category.

``OneIG-Bench.csv`` (or ``-ZH``) has ``category, id, prompt_en`` (or ``prompt_cn``) and more. Beside
it, in ``Q_D/`` or in ``scripts/alignment/Q_D/`` lie ``anime.json``, ``human.json`` and
``object.json`` (``anime_zh.json``, ...): ``{id: {"question": "{\"1\": ...}", "dependency":
"{\"1\": [0]}"}}``, where the values are JSON inside of JSON, or objects. Text, reasoning and
multilingual prompts have no questions there. The expected answer is "Yes" throughout.
Source: https://arxiv.org/abs/2506.07977 and its repository.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tokenfocus_ray.datasets.importers.base import Format, Plan, Request
from tokenfocus_ray.datasets.importers.claims import things
from tokenfocus_ray.datasets.importers.prompts import (
    Prompt,
    Question,
    plan_prompts,
)
from tokenfocus_ray.datasets.importers.records import read_text
from tokenfocus_ray.datasets.text_tables import read_small
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.storage import Store, public

#: Begin of a category's name, without case, blanks and signs -> name of its files and folders.
CATEGORIES = {
    "anime": "anime",
    "portrait": "human",
    "human": "human",
    "generalobject": "object",
    "object": "object",
    "text": "text",
    "knowledge": "reasoning",
    "reasoning": "reasoning",
    "multilingual": "multilingualism",
}
#: Columns of the prompt, and what the files of questions end with.
_PROMPTS = {"prompt_en": "", "prompt_cn": "_zh", "prompt_zh": "_zh", "prompt": ""}
_FOLDERS = ("scripts/alignment/Q_D", "Q_D", "")


def plan(request: Request) -> Plan:
    """Finds the prompts and their questions."""
    request.refuse("oneig", mapping="since its columns are known")
    return plan_prompts(request, lambda: _read(request))


def _read(request: Request) -> list[Prompt]:
    table_uri = _table(request.src)
    where = public(table_uri)
    table = read_small(Store.of(table_uri), {}, request.text)
    rows: list[Any] = table.to_pylist()
    names = table.column_names
    prompt = next((name for name in _PROMPTS if name in names), None)
    if prompt is None or not {"category", "id"} <= set(names):
        raise ManifestError(
            f"{where}: found columns {names}; wanted category, id and a prompt (one of "
            f"{list(_PROMPTS)}), as in OneIG-Bench.csv"
        )
    folder = Store.of(table_uri.rpartition("/")[0] or ".")
    wanted = {_short(row["category"]) for row in rows} - {None}
    questions: dict[str, Any] = {}
    for category in sorted(str(one) for one in wanted):
        file = f"{category}{_PROMPTS[prompt]}.json"
        uri = next((u for f in _FOLDERS if (u := folder.child(f, file)).exists()), None)
        if uri is not None:
            questions[category] = _object(request, uri.uri)
    if not questions:
        raise ManifestError(
            f"{where}: none of the files of questions, such as anime{_PROMPTS[prompt]}.json, lies "
            f"beside it, in Q_D or in scripts/alignment/Q_D; copy them there"
        )
    if without := sorted(str(one) for one in wanted - set(questions)):
        request.say(f"{where}: there are no questions about {', '.join(without)}")
    known = {(_short(row["category"]), row["id"]) for row in rows}
    unused = [f"{c} {one}" for c, entries in questions.items() for one in entries]
    unused = [name for name in unused if tuple(name.split(" ", 1)) not in known]
    if unused:
        request.say(f"{where}: {len(unused)} prompts with questions are not in it: {unused[0]}")
    return prompts_of(rows, prompt, questions)


def prompts_of(
    rows: Sequence[Mapping[str, str]], column: str, questions: Mapping[str, Mapping[str, Any]]
) -> list[Prompt]:
    """Prompts in the order of the table.

    Args:
        rows: Of the table.
        column: Of the prompt.
        questions: Category -> id -> what is asked.
    """
    found = []
    for row in rows:
        category = _short(row["category"])
        others = {n: v for n, v in row.items() if n not in ("id", column, "category")}
        prompt = Prompt(row["id"], row[column], depends=True)
        prompt.others = {"category": category or row["category"], **others}
        if category is None:
            prompt.spoil(
                f"prompt {row['id']!r} is of category {row['category']!r}; known are "
                f"{', '.join(dict.fromkeys(CATEGORIES.values()))}"
            )
        elif category in questions:
            _ask(prompt, questions[category].get(row["id"]), category)
        found.append(prompt)
    return found


def _ask(prompt: Prompt, entry: Any, category: str) -> None:
    where = f"prompt {prompt.id!r} of {category}"
    if entry is None:
        prompt.spoil(f"{where} has no entry in the file of questions; add it, or drop the prompt")
        return
    try:
        asked, depends = (_inner(entry, name, where) for name in ("question", "dependency"))
        prompt.questions = [
            Question(str(text), id=name, parents=_parents(depends.get(name), name, where))
            for name, text in asked.items()
        ]
    except ValueError as error:
        prompt.spoil(str(error))
        return
    if extra := [name for name in depends if name not in asked]:
        prompt.spoil(f"{where}: the dependency of {extra[0]!r} is of no question; drop it")
    prompt.known = things(question.text for question in prompt.questions)


def _inner(entry: Any, name: str, where: str) -> dict[str, Any]:
    """An object, which may be JSON inside of JSON."""
    value = entry.get(name) if isinstance(entry, Mapping) else entry
    try:
        value = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: {name} is no JSON ({error}): {value!r:.80}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{where}: {name} is {value!r:.80}; give an object by number")
    return {str(key): one for key, one in value.items()}


def _parents(value: Any, name: str, where: str) -> tuple[str, ...]:
    several = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(one, (int, str)) for one in several):
        raise ValueError(f"{where}: the dependency of {name!r} is {value!r:.80}; give numbers")
    return tuple(str(one) for one in several if str(one) != "0")


def _short(category: str) -> str | None:
    """Name of a category's files.

    >>> _short("Anime_Stylization"), _short("General_Object"), _short("Other")
    ('anime', 'object', None)
    """
    folded = re.sub(r"[^a-z]", "", category.casefold())
    return next((short for begin, short in CATEGORIES.items() if folded.startswith(begin)), None)


def _table(src: str) -> str:
    if src.lower().endswith(".csv"):
        return src
    store = Store.of(src)
    if not store.is_folder():
        raise ManifestError(f"{public(src)!r}: wanted OneIG-Bench.csv, or the folder with it")
    names = [name for name in store.names() if name.lower().endswith(".csv")]
    if len(names) != 1:
        found = f"holds {names[:5]}" if names else "has none"
        raise ManifestError(f"{public(src)!r} {found}; name the .csv of prompts, OneIG-Bench.csv")
    return posixpath.join(src, names[0])


def _object(request: Request, uri: str) -> dict[str, Any]:
    try:
        value = json.loads(read_text(request, uri))
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{public(uri)}: not JSON ({error}); fetch it again") from None
    if not isinstance(value, dict):
        raise ManifestError(f"{public(uri)}: holds a {type(value).__name__}; wanted ids")
    return value


ONEIG = Format("prompts with files of questions, .csv", plan)
