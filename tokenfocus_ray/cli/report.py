"""``tokenfocus report``: options, one call, the last line."""

from __future__ import annotations

from typing import Annotated

import typer

from tokenfocus_ray.cli.options import Quiet, Scored, ScoredImages, Verbose, pairs
from tokenfocus_ray.cli.terminal import Terminal


def report(
    scores: Annotated[
        str, typer.Argument(help="Output folder of `tokenfocus score`, `merge`; kept/ of `select`.")
    ],
    out: Annotated[str, typer.Option(help="The page, such as report.html, local or s3://.")],
    labels: Annotated[
        str | None,
        typer.Option(help="Human labels of some samples: Parquet, or EvalMuse .json."),
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="Other scores to compare with, by sample id.")
    ] = None,
    manifest: Scored = None,
    images: ScoredImages = None,
    map_: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            help="ROLE=COLUMN of the scores. Roles: prompt, image_uri, elements, element_parents, "
            "generator, seed; image: of the manifest.",
        ),
    ] = None,
    dependencies: Annotated[
        bool,
        typer.Option("--dependencies", help="An element fails where one that it depends on fails."),
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write one page about scores: thresholds, images, elements, generators, labels, two runs."""
    from tokenfocus_ray import write_report

    with Terminal(quiet=quiet, verbose=verbose) as terminal:
        with terminal.showing("starting"):
            summary = write_report(
                scores,
                out,
                labels=labels,
                against=against,
                manifests=manifest,
                images=images,
                mapping=pairs(map_ or [], "--map"),
                dependencies=dependencies,
                say=terminal.say,
                progress=terminal.watch,
            )
        terminal.last(summary.line())
