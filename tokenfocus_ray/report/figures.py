"""Summaries as plain values for the page: sorted, rounded, with intervals.

Legend: K generators, G groups of prompts, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tokenfocus_ray.evaluation.correlation import srcc
from tokenfocus_ray.evaluation.resampling.bootstrap import MIN_GROUPS, Draws, interval, ratio
from tokenfocus_ray.report.binned import Binned, widening
from tokenfocus_ray.report.cards import MESSAGE, TEXT, cut, number
from tokenfocus_ray.report.runs import BOTH, FIRST, NEITHER, SECOND, Shared
from tokenfocus_ray.report.summary import MOST_KINDS, MOST_MAKERS, Summary
from tokenfocus_ray.schema import ERROR_CODES
from tokenfocus_ray.tables.columns import FloatArray

#: Generators and types that the page lists; characters of a name.
LISTED, LISTED_KINDS, NAME = 60, 40, 80


def binned(found: Binned) -> dict[str, Any] | None:
    """Bins in thousandths; None of no values."""
    if not found.n:
        return None
    step = widening(found.level)
    return {"low": found.low * step, "step": step, "counts": found.counts_B.tolist()}


def figures(summary: Summary, threshold: float) -> dict[str, Any]:
    """All that is counted over the rows of a run.

    Args:
        summary: Of all rows.
        threshold: From which score on an element is present.
    """
    n = summary.n_scored
    scores = summary.scores
    n_apart, apart = summary.disagreement
    kinds = of_kinds(summary)
    makers = of_makers(summary)
    return {
        "rows": summary.n_rows,
        "scored": n,
        "scores": binned(scores),
        "mean": number(summary.total / n, 3) if n else None,
        "quantiles": [number(scores.quantile(q), 3) for q in (0.1, 0.5, 0.9)] if n else [],
        "disagreement": number(apart / n_apart, 3) if n_apart else None,
        "elementThreshold": number(threshold, 3),
        "states": [int(count) for count in summary.states],
        "kinds": kinds,
        "makers": makers,
        "matrix": matrix(summary, [m["key"] for m in makers["listed"]], kinds["listed"]),
        "unscored": unscored(summary),
        "notes": [f"{count:,} {what}." for what, count in sorted(summary.problems.items())],
    }


def of_kinds(summary: Summary) -> dict[str, Any]:
    """Types of elements, those that fail most often first."""
    sums: dict[str, FloatArray] = {}
    for (_, kind), states in summary.elements.items():
        sums[kind] = sums.get(kind, 0) + states
    counted: list[dict[str, Any]] = [
        {"key": kind, "name": cut(kind or "(untyped)", NAME), **_states(states)}
        for kind, states in sums.items()
    ]
    most = sorted(counted, key=lambda one: (-one["n"], one["key"]))[:LISTED_KINDS]
    most.sort(key=lambda one: (-one["failed"] / one["n"] if one["n"] else 1, one["key"]))
    return {
        "listed": most,
        "others": max(0, len(sums) - len(most)),
        "capped": len(sums) >= MOST_KINDS,
    }


def _states(states: FloatArray) -> dict[str, int]:
    failed, present, unknown = (int(count) for count in states)
    return {"failed": failed, "n": failed + present, "unknown": unknown}


def matrix(
    summary: Summary, makers: Iterable[str], kinds: Iterable[Mapping[str, Any]]
) -> list[list[list[int]]]:
    """For each generator and type, elements that failed and elements whose state is known."""
    columns = [kind["key"] for kind in kinds]
    return [
        [
            [int(states[0]), int(states[0] + states[1])]
            for kind in columns
            for states in [summary.elements.get((maker, kind), np.zeros(3))]
        ]
        for maker in makers
    ]


def of_makers(summary: Summary) -> dict[str, Any]:
    """Generators by mean score, with 95 % intervals of means and places."""
    named = {name: sums for name, sums in summary.makers.items() if name and sums[:, 0].any()}
    listed = sorted(named, key=lambda name: (-named[name][:, 0].sum(), name))[:LISTED]
    rows = ranked({name: named[name] for name in listed})
    failed: dict[str, FloatArray] = {}
    for (maker, _), states in summary.elements.items():
        failed[maker] = failed.get(maker, 0) + states
    for row in rows:
        row |= {"elements": _states(failed.get(row["key"], np.zeros(3)))}
    return {
        "listed": rows,
        "others": len(named) - len(listed),
        "capped": len(summary.makers) >= MOST_MAKERS,
        "unnamed": int(summary.makers[""][:, 0].sum()) if "" in summary.makers else 0,
    }


def ranked(makers: Mapping[str, FloatArray]) -> list[dict[str, Any]]:
    """Each generator's mean and place, and how far prompts at random move them.

    Groups of prompts are drawn with replacement, the same for all generators.

    Args:
        makers: Generator -> [G, 2] number of rows, and sum of their scores.
    """
    if not makers:
        return []
    sums_KG2 = np.stack(list(makers.values()))
    n_K, total_K = sums_KG2.sum(axis=1).T
    ends = _resampled(sums_KG2)
    places_RK = np.argsort(np.argsort(-np.nan_to_num(ends, nan=-math.inf), axis=1), axis=1) + 1
    rows = []
    for k, name in enumerate(makers):
        low, high = _interval(ends[:, k], sums_KG2[k, :, 0])
        first, last = _interval(places_RK[:, k].astype(np.float64), sums_KG2[k, :, 0])
        rows.append(
            {
                "key": name, "name": cut(name, NAME), "n": int(n_K[k]),
                "mean": number(total_K[k] / n_K[k], 3), "low": number(low, 3),
                "high": number(high, 3), "first": number(first, 0), "last": number(last, 0),
            }
        )  # fmt: skip
    return sorted(rows, key=lambda row: (-row["mean"], row["key"]))


def _resampled(sums_KG2: FloatArray) -> FloatArray:
    """[R, K] means on resamples of the groups that have rows."""
    used = sums_KG2[..., 0].any(axis=0)
    draws = Draws.of(int(used.sum()))
    counts_RG = draws.counts_RG.astype(np.float64)
    n_RK, total_RK = (counts_RG @ sums_KG2[:, used, column].T for column in (0, 1))
    return np.stack([ratio(n, d) for n, d in zip(total_RK.T, n_RK.T, strict=True)], axis=1)


def _interval(samples_R: FloatArray, n_G: FloatArray) -> tuple[float, float]:
    if np.count_nonzero(n_G) < MIN_GROUPS:
        return math.nan, math.nan
    return interval(samples_R)


def unscored(summary: Summary) -> list[dict[str, Any]]:
    """Reasons, the most frequent first, and an example of each."""
    found = sorted(summary.unscored.items(), key=lambda one: (-one[1].n, one[0]))
    return [
        {
            "code": cut(code, NAME), "n": own.n, "meaning": ERROR_CODES.get(code, ""),
            "row": own.example[1], "message": cut(own.example[2], MESSAGE),
        }
        for code, own in found
    ]  # fmt: skip


def against(shared: Shared, where: str, second: Binned) -> dict[str, Any]:
    """How this run differs from another.

    Args:
        shared: Of both.
        where: The other's table.
        second: All scores of the other.
    """
    runs = shared.runs
    sums = {name: own for name, own in runs.makers.items() if name}
    rows = _differences(sums) if sums else []
    every = np.sum(list(runs.makers.values()), axis=0) if runs.makers else None
    is_whole = every is not None and int(every[:, 0].sum()) == runs.n
    ranks = srcc(runs.pairs.first_N, runs.pairs.second_N) if len(runs.pairs.first_N) > 2 else None
    return {
        "where": cut(where, TEXT),
        "counts": {
            "both": int(runs.counts[BOTH]), "first": int(runs.counts[FIRST]),
            "second": int(runs.counts[SECOND]), "neither": int(runs.counts[NEITHER]),
            "onlyFirst": shared.only_first, "onlySecond": shared.only_second,
        },
        "isSample": shared.is_sample,
        "scores": binned(second),
        "pairs": [binned(runs.first), binned(runs.second)],
        "difference": number(runs.difference / runs.n, 4) if runs.n else None,
        "interval": _differences({"": every})[0] if is_whole and every is not None else None,
        "srcc": number(ranks, 4),
        "ranked": len(runs.pairs.first_N),
        "makers": rows[:LISTED],
        "others": max(0, len(rows) - LISTED),
        "rose": [int(row) for row in runs.rose.rows_N],
        "fell": [int(row) for row in runs.fell.rows_N],
        "moved": {
            int(row): number(-key if least is runs.rose else key, 3)
            for least in (runs.rose, runs.fell)
            for row, key in zip(least.rows_N, least.keys_N, strict=True)
        },
    }  # fmt: skip


def _differences(makers: Mapping[str, FloatArray]) -> list[dict[str, Any]]:
    """Of each generator, this run's mean less the other's; the largest difference first."""
    sums_KG3 = np.stack(list(makers.values()))
    moved_KG2 = np.stack([sums_KG3[..., 0], sums_KG3[..., 1] - sums_KG3[..., 2]], axis=-1)
    ends = _resampled(moved_KG2)
    rows = []
    for k, name in enumerate(makers):
        n, a, b = sums_KG3[k].sum(axis=0)
        low, high = _interval(ends[:, k], sums_KG3[k, :, 0])
        rows.append(
            {
                "name": cut(name, NAME), "n": int(n), "first": number(a / n, 3),
                "second": number(b / n, 3), "difference": number((a - b) / n, 3),
                "low": number(low, 3), "high": number(high, 3),
            }
        )  # fmt: skip
    return sorted(rows, key=lambda row: (-abs(row["difference"] or 0), row["name"]))
