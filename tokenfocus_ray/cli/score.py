"""``tokenfocus score``: options, one call, the last line."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tokenfocus_ray.cli.options import (
    Adapters,
    Backbone,
    ManifestEncoding,
    ManifestImages,
    ManifestRoles,
    MaxVisualTokens,
    NoQuotes,
    Quiet,
    ScoringFile,
    Verbose,
    pairs,
)
from tokenfocus_ray.cli.terminal import Terminal


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
    backbone: Backbone = None,
    adapter: Adapters = None,
    images: ManifestImages = None,
    images_only: Annotated[
        bool, typer.Option("--images-only", help="Refuse image paths that lead out of --images.")
    ] = False,
    map_: ManifestRoles = None,
    encoding: ManifestEncoding = None,
    no_quotes: NoQuotes = False,
    config: ScoringFile = None,
    max_visual_tokens: MaxVisualTokens = None,
    ensemble: Annotated[
        str | None,
        typer.Option(help="Folder of `tokenfocus stack`: scores with its members, merged."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Scoring actors.", show_default="one a GPU; one without GPU"),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete the scores in --out first.")
    ] = False,
    retry_unscored: Annotated[
        bool,
        typer.Option("--retry-unscored", help="Score rows again that a store did not hand out."),
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Score every row of a manifest on Ray Data; one row out for each row in."""
    from tokenfocus_ray import Ensemble, load_score_config, score_manifest

    given: dict[str, Any] = {"backbone": backbone, "max_visual_tokens": max_visual_tokens}
    if adapter:
        given["adapters"] = pairs(adapter, "--adapter")
    given = {name: value for name, value in given.items() if value is not None}
    pace = {} if workers is None else {"workers": workers}
    with Terminal(out, quiet=quiet, verbose=verbose) as terminal:
        with terminal.showing("starting"):
            bundle = None if ensemble is None else Ensemble.load(ensemble)
            brought = None if bundle is None else bundle.scoring_configs()
            scoring, job = load_score_config(config, given, brought, **pace)
            summary = score_manifest(
                manifest,
                out,
                scoring,
                images=images,
                images_only=images_only,
                mapping=pairs(map_ or [], "--map"),
                encoding=encoding,
                quotes=not no_quotes,
                job=job,
                ensemble=bundle,
                overwrite=overwrite,
                retry_unscored=retry_unscored,
                say=terminal.say,
                progress=terminal.watch,
            )
        terminal.last(summary.line())
