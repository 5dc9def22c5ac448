"""Scores and human labels -> an ensemble, judged on groups that it did not see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tokenfocus_ray.config import StackConfig
from tokenfocus_ray.datasets.row_table import read_table
from tokenfocus_ray.ensemble.bundle import Ensemble
from tokenfocus_ray.ensemble.judge import StackReport, fit_calibrated
from tokenfocus_ray.ensemble.labelled import GROUP, TARGET, join_labels, join_out_of_fold
from tokenfocus_ray.ensemble.stack_table import read_stack_table
from tokenfocus_ray.ensemble.stored import Broken, check_backbones
from tokenfocus_ray.errors import ConfigError, ManifestError
from tokenfocus_ray.evaluation.labels import read_labels, read_labels_table, scale_of
from tokenfocus_ray.progress import Pace, Watch, unwatched
from tokenfocus_ray.storage import Store
from tokenfocus_ray.tables.features import ELEMENT
from tokenfocus_ray.tables.members import ScoreTableInfo
from tokenfocus_ray.tables.parquet import read_parquet

if TYPE_CHECKING:
    import pyarrow as pa

    from tokenfocus_ray.ensemble.calibrated import CalibratedStack


@dataclass(frozen=True, slots=True)
class StackInput:
    """What is stacked.

    Attributes:
        where: For messages.
        total: Table of scores and labels.
        elements: Likewise, a row an element; None where there are none.
        target: Column of the label.
        group: Column of the prompt.
        features: Names or patterns of the columns of ``total``.
        backbones: See :class:`~tokenfocus_ray.ensemble.bundle.Ensemble`.
    """

    where: str
    total: pa.Table
    elements: pa.Table | None
    target: str
    group: str | None
    features: tuple[str, ...]
    backbones: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FittedEnsemble:
    """An ensemble, and how good it is.

    Attributes:
        ensemble: To be saved, or given to ``score_manifest`` and ``merge_scores``.
        total: How well its score follows labels that it did not see.
        elements: Likewise for elements; None where they were not stacked.
        elements_reason: Why they were not, though there were elements.
    """

    ensemble: Ensemble
    total: StackReport
    elements: StackReport | None
    elements_reason: str | None

    def to_dict(self) -> dict[str, Any]:
        """The reports as plain values, as JSON knows them."""
        return self.total.to_dict() | {"elements": self.elements and self.elements.to_dict()}

    def write_json(self, path: str) -> None:
        """Writes :meth:`to_dict` to a file, local or ``s3://``.

        Raises:
            OutputError: the file cannot be written.
        """
        Store.of(path).write_json("", self.to_dict())


def fit_ensemble(
    scores: Sequence[str] = (),
    labels: str | None = None,
    table: str | None = None,
    *,
    target: str | None = None,
    features: Sequence[str] = (),
    group: str | None = None,
    encoding: str | None = None,
    config: StackConfig | None = None,
    progress: Watch = unwatched,
) -> FittedEnsemble:
    """Learns from human labels how to make one score of many.

    Args:
        scores: Output folders of ``score_manifest``, or one of ``train_members``; none with
            ``table``.
        labels: Human labels of the former: Parquet, or EvalMuse's JSON.
        table: Parquet file or folder, ``.csv``, ``.tsv`` or ``.jsonl``; local or ``s3://``.
        target: See :func:`~tokenfocus_ray.ensemble.stack_table.read_stack_table`.
        features: Likewise.
        group: Likewise.
        encoding: Of labels and tables that are text, without a byte order mark; None: UTF-8.
        config: How a stacker is chosen and judged; None: the defaults.
        progress: Is told where it stands, at each fold.

    Raises:
        ConfigError: neither scores with labels nor a table with a target are given, or both.
        ManifestError: the table cannot be read, or there is too little to learn from.
    """
    config = config or StackConfig()
    if table is not None and not scores and labels is None and target is not None and features:
        given = StackInput(table, read_table(table, encoding), None, target, group, tuple(features))
    elif scores and table is None and target is None and group is None:
        given = read_run(scores) if labels is None else read_scores(scores, labels, encoding)
    else:
        raise ConfigError(
            "give either SCORES... with --labels, or the folder of a training run, or --table with "
            "--target and --features"
        )
    found = read_stack_table(
        given.total, target=given.target, features=features or given.features, group=given.group,
        label_range=config.label_range, where=given.where,
    )  # fmt: skip
    total, report = fit_calibrated(found, config, _told(progress, "total"))
    elements, element_report, reason = _fit_elements(given, config, progress)
    ensemble = Ensemble(total, elements, given.backbones)
    return FittedEnsemble(ensemble, report, element_report, reason)


def _told(watch: Watch, part: str) -> Callable[[int, int], None]:
    """Takes how many of how many folds are done."""
    pace = Pace()

    def tell(done: int, total: int) -> None:
        pace.count({"folds": done - pace.codes.total()})
        watch(pace.progress("stacking", total, unit="folds", part=part))

    return tell


def _fit_elements(
    given: StackInput, config: StackConfig, progress: Watch
) -> tuple[CalibratedStack | None, StackReport | None, str | None]:
    """Elements likewise; none where they have no labels, or too little to learn from."""
    if given.elements is None or not given.elements.num_rows:
        return None, None, None
    try:
        found = read_stack_table(
            given.elements, target=given.target, features=[f"{ELEMENT}*"], group=given.group,
            label_range=(0.0, 1.0), where=f"{given.where}: elements", min_features=1,
        )  # fmt: skip
        folds = _told(progress, "elements")
        return (*fit_calibrated(found, config, folds, elements=True), None)
    except ManifestError as error:
        return None, None, str(error)


def read_scores(scores: Sequence[str], labels: str, encoding: str | None = None) -> StackInput:
    """Score tables joined with their labels."""
    bare = read_parquet(scores[0], None, [""])  # its names, without a row
    scale = scale_of(bare.schema, scores[0])
    known = read_labels(read_labels_table(labels, encoding), labels, scale)
    tables = {where: read_parquet(where, None, ("sample_id",), ids=known) for where in scores}
    joined = join_labels(tables, known)
    backbones: dict[str, Any] = {}
    for where, table in tables.items():
        scored_by = ScoreTableInfo.of(table.schema, where).backbones
        identity = _identity(where)
        for one in scored_by:
            own = {k.removeprefix(f"{one.name}."): v for k, v in identity.items()
                   if k.startswith(f"{one.name}.")} if len(scored_by) > 1 else identity  # fmt: skip
            backbones[one.name] = {"config": one.config, "identity": own}
    _check_backbones(backbones, "the tables' metadata")
    return StackInput(
        " + ".join(scores), joined.total, joined.elements, TARGET, GROUP, joined.features, backbones
    )


def _identity(scores: str) -> dict[str, Any]:
    """What a scoring job recorded of what it scored with; nothing of a lone file."""
    folder = Store.of(scores)
    if not folder.exists("__job/job.json"):
        return {}
    record = folder.read_record("__job/job.json")
    return {
        k: v
        for k, v in record.items()
        if not k.startswith("input.") and k not in ("commit_rows", "ensemble")
    }


def read_run(scores: Sequence[str]) -> StackInput:
    """The out-of-fold predictions of a training run, with its members."""
    (run, *more) = scores
    folder = Store.of(run)
    if more or not (folder.exists("oof.parquet") and folder.exists("summary.json")):
        raise ConfigError(
            f"{' '.join(scores)}: without --labels, give the one folder of a finished training "
            f"run, which has an oof.parquet; with score tables, give --labels"
        )
    joined = join_out_of_fold(read_parquet(f"{run}/oof.parquet", None, ()), run)
    backbones = folder.read_record("summary.json").get("backbones") or {}
    _check_backbones(backbones, f"{run}/summary.json")
    for one in backbones.values():
        adapters = one["config"].get("adapters", {})
        place = folder.root if folder.is_local else folder.uri
        one["config"]["adapters"] = {n: f"{place}/{below}" for n, below in adapters.items()}
    return StackInput(run, joined.total, joined.elements, TARGET, GROUP, joined.features, backbones)


def _check_backbones(backbones: Any, where: str) -> None:

    try:
        check_backbones(backbones)
    except Broken as error:
        raise ManifestError(
            f"{where}: {error}; give what tokenfocus wrote, as it was written"
        ) from None
