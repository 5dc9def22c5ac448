"""The ``tokenfocus`` command: parses, calls, prints. Heavy imports wait until a command runs."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from tokenfocus_ray import __version__
from tokenfocus_ray.cli.ends import run
from tokenfocus_ray.errors import ConfigError

#: Commands that go on where they ended when they are launched again.
GOING_ON = (["score"], ["train"], ["merge"], ["demo"])

app = typer.Typer(
    help="Scores how well generated images follow their prompts (TokenFocus-VQA on Ray).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data = typer.Typer(help="Makes and imports data sets.", no_args_is_help=True)
app.add_typer(data, name="data")


#: Arguments and options that are paths. Those of a configuration, ``backbone`` and ``adapter``
#: among them, are expanded there.
_PATHS = (
    "manifest", "scores", "out", "images", "config", "ensemble", "labels", "table", "against",
    "plots", "json",
)  # fmt: skip


class _Command(TyperCommand):
    """A command whose paths may begin with ``~``, also where no shell expands it (``--out=~/x``).

    Here and not where files are opened: another node, or a manifest, has no business at our home.
    """

    def invoke(self, ctx: Any) -> Any:
        for name in _PATHS:
            match ctx.params.get(name):
                case str(path):
                    ctx.params[name] = os.path.expanduser(path)
                case list(paths):
                    ctx.params[name] = [os.path.expanduser(path) for path in paths]
        return super().invoke(ctx)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"tokenfocus-ray {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command(cls=_Command)
def score(
    manifest: Annotated[
        list[str],
        typer.Argument(
            help="Parquet, .csv, .tsv, .jsonl, EvalMuse .json, .tar shards, or a folder of them or "
            "of captioned images; local or s3://."
        ),
    ],
    out: Annotated[
        str, typer.Option(help="Folder for the scores, local or s3://; launch again to go on.")
    ],
    backbone: Annotated[
        str | None,
        typer.Option(help="tiny-qwen2_5_vl, tiny-internvl, a folder, or a hub id."),
    ] = None,
    adapter: Annotated[
        list[str] | None, typer.Option(help="NAME=FOLDER of a peft adapter: one member. Repeat.")
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(help="Folder that relative image paths start from [the manifest's]."),
    ] = None,
    images_only: Annotated[
        bool, typer.Option("--images-only", help="Refuse image paths that lead out of --images.")
    ] = False,
    map_: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            help="ROLE=COLUMN. Roles: prompt, image, image_uri, elements, prompt_type, sample_id.",
        ),
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(help="Of captions and text manifests, such as latin-1 [utf-8].")
    ] = None,
    no_quotes: Annotated[
        bool, typer.Option("--no-quotes", help="Quotes in .csv and .tsv are part of the text.")
    ] = False,
    config: Annotated[
        str | None, typer.Option(help="YAML of ScoringConfig, and of JobConfig under 'job'.")
    ] = None,
    max_visual_tokens: Annotated[
        int | None, typer.Option(help="Most image tokens an image [the backbone's own limit].")
    ] = None,
    ensemble: Annotated[
        str | None,
        typer.Option(help="Folder of `tokenfocus stack`: scores with its members, merged."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Scoring actors [one a GPU; one without GPU].")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete the scores in --out first.")
    ] = False,
    retry_unscored: Annotated[
        bool,
        typer.Option("--retry-unscored", help="Score rows again that a store did not hand out."),
    ] = False,
) -> None:
    """Score every row of a manifest on Ray Data; one row out for each row in."""
    from tokenfocus_ray.config import load_score_config
    from tokenfocus_ray.distributed.batch import score_manifest
    from tokenfocus_ray.distributed.scorers import ensemble_configs
    from tokenfocus_ray.ensemble.bundle import Ensemble

    given: dict[str, Any] = {"backbone": backbone, "max_visual_tokens": max_visual_tokens}
    if adapter:
        given["adapters"] = _pairs(adapter, "--adapter")
    given = {name: value for name, value in given.items() if value is not None}
    pace = {} if workers is None else {"workers": workers}
    bundle = None if ensemble is None else Ensemble.load(ensemble)
    brought = None if bundle is None else ensemble_configs(bundle)
    scoring, job = load_score_config(config, given, brought, **pace)
    summary = score_manifest(
        manifest,
        out,
        scoring,
        images=images,
        images_only=images_only,
        mapping=_pairs(map_ or [], "--map"),
        encoding=encoding,
        quotes=not no_quotes,
        job=job,
        ensemble=bundle,
        overwrite=overwrite,
        retry_unscored=retry_unscored,
        say=typer.echo,
    )
    typer.echo(summary.line())


@app.command(cls=_Command)
def train(
    config: Annotated[str, typer.Option(help="YAML of TrainConfig; docs/training.md lists keys.")],
    out: Annotated[
        str, typer.Option(help="Folder of the run, local or s3://; launch again to go on.")
    ],
    plan: Annotated[
        bool, typer.Option("--plan", help="Print what would run, and start nothing.")
    ] = False,
) -> None:
    """Fine-tune every backbone on every bag on Ray Train, and score out of fold."""
    from tokenfocus_ray.cli.train import run_plan, run_train
    from tokenfocus_ray.config import TrainConfig

    parsed = TrainConfig.parse(TrainConfig.load_values(config), config)
    if plan:
        run_plan(parsed)
    else:
        run_train(parsed, out)


@app.command(cls=_Command)
def evaluate(
    scores: Annotated[
        str | None, typer.Argument(help="Output folder of `tokenfocus score`.")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(help="Its human labels: a Parquet manifest, or EvalMuse .json."),
    ] = None,
    table: Annotated[
        str | None,
        typer.Option(help="Or any table of scores and labels: Parquet, .csv, .tsv, .jsonl."),
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Its column of the label, or pattern of raters' columns.")
    ] = None,
    group: Annotated[str | None, typer.Option(help="Its column of the prompt.")] = None,
    column: Annotated[
        str | None, typer.Option(help="What to measure: a column, or a member; SCORES have score.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(help="Compare with a column, a member, or another output folder."),
    ] = None,
    label_range: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Lowest and highest possible label of the table."),
    ] = None,
    plots: Annotated[str | None, typer.Option(help="Folder for plots, as PNG files.")] = None,
    json: Annotated[str | None, typer.Option(help="Also write the report to this file.")] = None,
) -> None:
    """Measure how well scores follow human labels, with intervals and comparisons."""
    from tokenfocus_ray.cli.evaluate import evaluate as run_evaluate

    run_evaluate(
        scores, labels, json, table=table, target=target, group=group, column=column,
        against=against, label_range=label_range, plots=plots,
    )  # fmt: skip


@app.command(cls=_Command)
def stack(
    scores: Annotated[
        list[str] | None,
        typer.Argument(help="Output folders of `tokenfocus score`, or one of `tokenfocus train`."),
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="Their human labels: a Parquet manifest, or EvalMuse .json.")
    ] = None,
    table: Annotated[
        str | None,
        typer.Option(help="Or any table of scores and labels: Parquet, .csv, .tsv, .jsonl."),
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Its column of the label, or pattern of raters' columns.")
    ] = None,
    features: Annotated[
        list[str] | None,
        typer.Option(help="Column of scores or pattern, such as 'm_*'; may be repeated."),
    ] = None,
    group: Annotated[
        str | None, typer.Option(help="Column whose equal values are never parted: the prompt.")
    ] = None,
    out: Annotated[str | None, typer.Option(help="Folder of the ensemble, local or s3://.")] = None,
    json: Annotated[str | None, typer.Option(help="Also write the report to this file.")] = None,
    method: Annotated[
        str,
        typer.Option(help="single, rank_mean, nnls, ridge, boosting, blend, or auto."),
    ] = "auto",
    metric: Annotated[
        str, typer.Option(help="What to choose by: srcc, plcc, mean (of both), challenge.")
    ] = "mean",
    label_range: Annotated[
        tuple[float, float] | None, typer.Option(help="Lowest and highest possible label.")
    ] = None,
    coverage: Annotated[float, typer.Option(help="Share of labels in the intervals.")] = 0.9,
    folds: Annotated[int, typer.Option(min=2, help="Outer folds of whole groups.")] = 5,
    seeds: Annotated[int, typer.Option(min=1, help="Rounds of outer folds.")] = 5,
) -> None:
    """Stack columns of scores to one that follows human labels, and say how well it does."""
    from tokenfocus_ray.cli.stack import stack as run_stack
    from tokenfocus_ray.config import StackConfig

    config = StackConfig.parse(
        {"method": method, "metric": metric, "label_range": label_range, "coverage": coverage,
         "folds": folds, "seeds": seeds},
        "options",
    )  # fmt: skip
    run_stack(
        scores or [], labels, table, target=target, features=features or [], group=group,
        config=config, out=out, json_out=json,
    )  # fmt: skip


@app.command(cls=_Command)
def merge(
    scores: Annotated[
        list[str],
        typer.Argument(help="Parquet files or folders of scores, of the same rows in one order."),
    ],
    ensemble: Annotated[str, typer.Option(help="Folder of `tokenfocus stack`.")],
    out: Annotated[
        str, typer.Option(help="Folder for the result, local or s3://; launch again to go on.")
    ],
) -> None:
    """Apply an ensemble on Ray Data to scores that are there already."""
    from tokenfocus_ray.distributed.merge import merge_scores

    typer.echo(merge_scores(scores, out, ensemble, say=typer.echo).line())


@data.command(cls=_Command)
def synthetic(
    out: Annotated[str, typer.Option(help="Folder for images, manifests and labels.")],
    samples: Annotated[int, typer.Option(help="Number of images, at least 24.")] = 1200,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal bytes.")] = 0,
) -> None:
    """Write the built-in benchmark: drawn scenes with exact truth and simulated raters."""
    from tokenfocus_ray.datasets.synthetic_files import write_benchmark

    counts = write_benchmark(out, samples, seed)
    typer.echo(f"train={counts['train']} test={counts['test']} out={out}")


@app.command(cls=_Command)
def demo(
    out: Annotated[str, typer.Option(help="Folder for everything that the demo makes.")],
    samples: Annotated[int, typer.Option(help="Images of the benchmark.")] = 960,
    seed: Annotated[int, typer.Option(help="Seed of the benchmark.")] = 0,
) -> None:
    """Make the benchmark, score its test split with both built-in backbones, evaluate."""
    from tokenfocus_ray.cli.demo import run_demo

    run_demo(out, samples, seed)


def _pairs(items: list[str], option: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not (key and equals and value):
            raise ConfigError(f"{option} {item!r}: wanted NAME=VALUE")
        if key in pairs:
            raise ConfigError(f"{option} {item!r}: {key!r} is given twice")
        pairs[key] = value
    return pairs


def main() -> None:
    """Runs the command; :mod:`~tokenfocus_ray.cli.ends` says how it ends."""
    sys.exit(run(app, goes_on=sys.argv[1:2] in GOING_ON))


if __name__ == "__main__":
    main()
