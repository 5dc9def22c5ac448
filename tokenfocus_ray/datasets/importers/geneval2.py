"""GenEval 2: a ``.jsonl`` with a prompt in each line.

``{prompt, atom_count, vqa_list: [[question, expected answer], ...], skills: [skill, ...]}``; a
prompt's id is its number, from 0. Source: https://arxiv.org/abs/2512.16853 and its repository.
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
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.storage import public


def plan(request: Request) -> Plan:
    """Finds the prompts."""
    request.refuse("geneval2", mapping="since its fields are known")
    return plan_prompts(
        request, lambda: prompts_of(read_records(request, "geneval2_data.jsonl"), request.src)
    )


def prompts_of(records: Sequence[Mapping[str, Any]], src: str) -> list[Prompt]:
    """Prompts in the order of the lines.

    Args:
        records: The lines.
        src: Their file, for messages.

    Raises:
        ManifestError: a line lacks its prompt or questions.
    """
    return [_prompt(record, i, f"{public(src)}: record {i}") for i, record in enumerate(records)]


def _prompt(record: Mapping[str, Any], number: int, where: str) -> Prompt:
    pairs = record.get("vqa_list")
    if not isinstance(pairs, list) or not all(_is_pair(pair) for pair in pairs):
        raise ManifestError(
            f"{where}: vqa_list is {pairs!r:.80}; give a list of a question and its expected "
            f"answer each"
        )
    others = {k: v for k, v in record.items() if k not in ("prompt", "vqa_list", "skills")}
    prompt = Prompt(str(number), text_of(record, "prompt", where), others=others)
    skills = record.get("skills") or []
    if not isinstance(skills, list) or (skills and len(skills) != len(pairs)):
        prompt.spoil(
            f"prompt {number}: {len(pairs)} questions and skills {skills!r:.80}; give one skill "
            f"for each question"
        )
        skills = []
    kinds = [str(skill) for skill in skills] or [""] * len(pairs)
    prompt.questions = [
        Question(question, answer, kind)
        for (question, answer), kind in zip(pairs, kinds, strict=True)
    ]
    prompt.known = things(question.text for question in prompt.questions)
    return prompt


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and all(isinstance(one, str) for one in pair)


GENEVAL2 = Format("prompts with questions and answers, .jsonl", plan)
