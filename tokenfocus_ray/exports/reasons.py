"""Why rows are dropped, in words: with the value seen and what was asked for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tokenfocus_ray.exports.criteria import CODES, REASONS, Criteria, Judged
from tokenfocus_ray.exports.ranking import Ranking

#: Columns that dropped rows have beside their own.
REASON, MESSAGE = "dropped_reason", "dropped_message"


def explain(
    criteria: Criteria, judged: Judged, ranking: Ranking | None, ranked: dict[int, dict[str, Any]]
) -> tuple[list[str], list[str]]:
    """Reason and message of each dropped row, in their order.

    Args:
        criteria: Of the rows.
        judged: A batch.
        ranking: Of the rows that passed; None where they are not ranked.
        ranked: Place in the batch -> what the ranking says of a row that it drops.
    """
    dropped = np.flatnonzero(judged.codes_N)
    reasons = [REASONS[code] for code in judged.codes_N[dropped].tolist()]
    messages = [""] * len(dropped)
    by_code = {code: np.flatnonzero(judged.codes_N[dropped] == code) for code in CODES.values()}
    for code, at in by_code.items():
        if len(at):
            told = _told(REASONS[code], dropped[at], criteria, judged, ranking, ranked)
            for i, message in zip(at.tolist(), told, strict=True):
                messages[i] = message
    unscored = by_code[CODES["unscored"]]
    if len(unscored):
        rows = judged.table.take(dropped[unscored])
        codes: list[Any] = rows["error_code"].to_pylist()
        for i, code in zip(unscored.tolist(), codes, strict=True):
            reasons[i] = f"unscored:{code or 'score_not_finite'}"
    return reasons, messages


def _told(
    reason: str,
    rows: Any,
    criteria: Criteria,
    judged: Judged,
    ranking: Ranking | None,
    ranked: dict[int, dict[str, Any]],
) -> list[str]:
    options = criteria.options
    scores = [f"{v:.6g}" for v in judged.score_N[rows].tolist()]
    match reason:
        case "unscored":
            own: list[Any] = judged.table.take(rows)["error_message"].to_pylist()
            return [f"no score: {text or 'the score is not finite'}" for text in own]
        case "min_score":
            return [f"score {v} is below {options.min_score:.6g}" for v in scores]
        case "min_low":
            assert judged.low_N is not None
            low = judged.low_N[rows].tolist()
            return [f"lower end {v:.6g} of the score is below {options.min_low:.6g}" for v in low]
        case "max_spread":
            assert judged.spread_N is not None
            spread = judged.spread_N[rows].tolist()
            most = f"{options.max_spread:.6g}"
            return [f"the members' scores spread over {v:.6g}, above {most}" for v in spread]
        case "min_agreement":
            assert judged.agreement_N is not None
            share = judged.agreement_N[rows].tolist()
            n, least = len(criteria.voters), f"{options.min_agreement:.6g}"
            score = f"{options.min_score:.6g}"
            return [f"{v * n:.0f} of {n} reach {score}, below the share {least}" for v in share]
        case "elements_present" | "element_type" | "element":
            assert judged.asked is not None
            assert criteria.elements is not None
            first = criteria.elements.first_wrong(judged.asked, reason)
            none = _LACKS[reason]
            return [first.get(row, none) for row in rows.tolist()]
        case _:
            assert ranking is not None
            facts = [ranked[row] for row in rows.tolist()]
            return [_rank(reason, v, fact, ranking) for v, fact in zip(scores, facts, strict=True)]


_LACKS = {
    "elements_present": "the row has no elements, so nothing says that they are present",
    "element_type": "",  # a row without such elements passes
    "element": "the row does not have the named element",
}


def _rank(reason: str, score: str, fact: dict[str, Any], ranking: Ranking) -> str:
    place, options = fact["place"], ranking.options
    if reason == "best_of":
        return f"score {score} is number {place} of its prompt, and {options.best_of} are kept"
    if reason == "balance":
        if place is None:
            return f"no value in {options.balance!r}, so the row is of no group"
        group = repr(fact["grp"])
        return f"score {score} is number {place} of {group}, of which {fact['quota']} are kept"
    kept, n, lowest = ranking.best[reason]
    end = "" if math.isnan(lowest) else f", the last with {lowest:.6g}"
    return f"score {score} is number {place} of {n}, and {kept} are kept{end}"
