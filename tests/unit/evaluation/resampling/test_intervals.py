"""Intervals of a report equal those of figures that are computed on the rows of each resample."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats

from tokenfocus_ray.evaluation import element_figures, logistic, pairwise_accuracy
from tokenfocus_ray.evaluation.element_types import accuracy_interval
from tokenfocus_ray.evaluation.figures import FIGURES
from tokenfocus_ray.evaluation.figures.figure import Evidence
from tokenfocus_ray.evaluation.generators import generator_figures
from tokenfocus_ray.evaluation.join import Elements, Joined
from tokenfocus_ray.evaluation.pairwise import pairs_within
from tokenfocus_ray.evaluation.reliability import coverage
from tokenfocus_ray.evaluation.report import report_of
from tokenfocus_ray.evaluation.resampling.bootstrap import ENDS, Draws
from tokenfocus_ray.evaluation.resampling.intervals import Resamples, used_groups

COUNT, SEED = 25, 3


def joined() -> Joined:
    """Sixty images of fifteen prompts, two elements each; some labels and scores are missing."""
    generator = np.random.default_rng(0)
    labels = generator.integers(3, 16, size=60) / 3
    scores = np.round(labels + generator.normal(size=60), 1)
    labels[[5, 40]] = np.nan
    rows = np.repeat(np.arange(60), 2)
    truth = generator.integers(0, 4, size=120) / 3
    guess = np.clip(np.round(truth + generator.normal(size=120) * 0.4, 1), 0, 1)
    own = (guess >= 0.3).astype(float)
    truth[3], guess[7], own[[7, 9]] = np.nan, np.nan, np.nan
    kinds = tuple(("color", "object", "color")[i % 3] for i in range(120))
    return Joined(
        n_rows=60, n_duplicates=0, unscored={}, n_unlabelled=0, n_labels=60,
        n_labels_without_row=0, keys=tuple(map(str, range(60))), scores=scores, labels=labels,
        groups=np.arange(60) % 15, generators=tuple(f"g{i % 4}" for i in range(60)),
        lows=scores - 1, highs=np.where(np.arange(60) % 7, scores + 1, np.nan),
        elements=Elements(rows, kinds, guess, truth, own), on_scale=True,
    )  # fmt: skip


def resampled(whole: Joined) -> list[Joined]:
    """The rows of each resample, written out; a prompt drawn twice is two prompts."""
    generator = np.random.default_rng(SEED)
    found = []
    for _ in range(COUNT):
        drawn = generator.integers(0, 15, 15)
        rows = [np.flatnonzero(whole.groups == g) for g in drawn]
        elements = [np.flatnonzero(whole.groups[whole.elements.rows] == g) for g in drawn]
        k, e = np.concatenate(rows), np.concatenate(elements)
        own = whole.elements
        found.append(
            dataclasses.replace(
                whole, scores=whole.scores[k], labels=whole.labels[k], lows=whole.lows[k],
                highs=whole.highs[k], groups=np.repeat(np.arange(15), [len(r) for r in rows]),
                generators=tuple(whole.generators[i] for i in k),
                elements=Elements(
                    own.rows[e], tuple(own.types[i] for i in e), own.scores[e], own.labels[e],
                    own.present[e],
                ),
            )
        )  # fmt: skip
    return found


def test_every_figure() -> None:
    whole = joined()
    report = report_of(whole)
    resamples = Resamples(used_groups(whole), Draws.of(15, COUNT, SEED))
    evidence = Evidence(whole, resamples, intervals=True)
    each = [figure(evidence) for figure in FIGURES]
    found = {one.name: one.interval for one in each if one.interval is not None}
    samples: dict[str, list[float]] = {name: [] for name in found}
    for one in resampled(whole):
        own = np.isfinite(one.labels)
        x, y = one.scores[own], one.labels[own]
        pairwise = pairwise_accuracy(x, y, one.groups[own])
        these = pairs_within(x, y, one.groups[own])
        assert these is not None
        elements = element_figures(one.elements.scores, one.elements.labels, one.elements.present)
        assert report.official.fit is not None
        assert report.corrected.fit is not None
        srcc = stats.spearmanr(x, y).statistic
        official = stats.pearsonr(logistic(y, *report.official.fit), x).statistic
        corrected = stats.pearsonr(logistic(x, *report.corrected.fit), y).statistic
        values = {
            "srcc": srcc,
            "plcc": stats.pearsonr(x, y).statistic,
            "krcc": stats.kendalltau(x, y).statistic,
            "pairwise_accuracy": pairwise.accuracy,
            "pairwise_accuracy_ties": these.right(report.pairwise_epsilon).mean(),
            "element_accuracy": elements.accuracy,
            "element_auc": elements.auc,
            "element_f1": elements.f1,
            "element_accuracy_own": elements.accuracy_own,
            "interval_coverage": coverage(one.lows, one.highs, one.labels).share,
            "final_official": 0.25 * srcc + 0.25 * official + 0.5 * elements.accuracy,
            "final_corrected": 0.25 * srcc + 0.25 * corrected + 0.5 * elements.accuracy,
        }
        assert values.keys() == samples.keys()
        for name, value in values.items():
            samples[name].append(float(value))
    for name, values_R in samples.items():
        assert found[name] == pytest.approx(np.percentile(values_R, ENDS), abs=1e-10), name


def test_generators_and_types_of_elements() -> None:
    whole = joined()
    resamples = Resamples(used_groups(whole), Draws.of(15, COUNT, SEED))
    figures = generator_figures(whole, resamples)["g1"]
    colors = np.array([kind == "color" for kind in whole.elements.types])
    low, high = accuracy_interval(whole, resamples, colors)
    means, srccs, accuracies = [], [], []
    for one in resampled(whole):
        own = np.isfinite(one.labels) & np.array([name == "g1" for name in one.generators])
        means.append((one.scores[own].mean(), one.labels[own].mean()))
        srccs.append(stats.spearmanr(one.scores[own], one.labels[own]).statistic)
        own = np.array([kind == "color" for kind in one.elements.types])
        elements = one.elements
        accuracies.append(
            element_figures(elements.scores[own], elements.labels[own], elements.present[own])
        )
    scores, labels = np.array(means).T
    for ends, values in (
        ((figures.mean_score_low, figures.mean_score_high), scores),
        ((figures.mean_label_low, figures.mean_label_high), labels),
        ((figures.srcc_low, figures.srcc_high), srccs),
        ((low, high), [one.accuracy for one in accuracies]),
    ):
        assert ends == pytest.approx(np.percentile(values, ENDS), abs=1e-10)
