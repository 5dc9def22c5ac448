"""``tokenfocus select``: options, one call, the last line."""

from __future__ import annotations

from typing import Annotated

import typer

from tokenfocus_ray.cli.options import Quiet, Verbose, pairs
from tokenfocus_ray.cli.terminal import Terminal
from tokenfocus_ray.errors import ConfigError

_ROWS, _RANKS, _IN, _OUT = "Criteria of rows", "Criteria of ranks", "Input", "Output"


def select(
    scores: Annotated[
        str, typer.Argument(help="Folder of `tokenfocus score`, `merge` or `select`, or a file.")
    ],
    out: Annotated[
        str | None, typer.Option(help="Folder for the result, local or s3://.", show_default=False)
    ] = None,
    min_score: Annotated[
        float | None, typer.Option(help="Least score.", rich_help_panel=_ROWS)
    ] = None,
    min_low: Annotated[
        float | None,
        typer.Option(help="Least lower end of an ensemble's interval.", rich_help_panel=_ROWS),
    ] = None,
    max_spread: Annotated[
        float | None,
        typer.Option(help="Most between the members' scores.", rich_help_panel=_ROWS),
    ] = None,
    min_agreement: Annotated[
        float | None,
        typer.Option(
            help="Least share of backbones (of members, of one backbone) that reach --min-score.",
            rich_help_panel=_ROWS,
        ),
    ] = None,
    elements_present: Annotated[
        bool,
        typer.Option("--elements-present", help="All elements present.", rich_help_panel=_ROWS),
    ] = False,
    element_type: Annotated[
        list[str] | None,
        typer.Option(
            help="All elements of this type present; may be repeated.", rich_help_panel=_ROWS
        ),
    ] = None,
    element: Annotated[
        list[str] | None,
        typer.Option(help="This element there and present; likewise.", rich_help_panel=_ROWS),
    ] = None,
    element_threshold: Annotated[
        float | None,
        typer.Option(
            help="From which score on an element is present.",
            show_default="as the ensemble decided, or 0.5",
            rich_help_panel=_ROWS,
        ),
    ] = None,
    dependencies: Annotated[
        bool,
        typer.Option(
            "--dependencies",
            help="An element is absent where one that it depends on is.",
            rich_help_panel=_ROWS,
        ),
    ] = False,
    best_of: Annotated[
        int | None, typer.Option(help="The best so many of each prompt.", rich_help_panel=_RANKS)
    ] = None,
    top: Annotated[
        float | None, typer.Option(help="The best share, such as 0.3.", rich_help_panel=_RANKS)
    ] = None,
    balance: Annotated[
        str | None,
        typer.Option(
            help="Equally many for each generator, prompt_type, element_type or value of a column.",
            rich_help_panel=_RANKS,
        ),
    ] = None,
    budget: Annotated[
        int | None, typer.Option(help="The best so many rows.", rich_help_panel=_RANKS)
    ] = None,
    npy: Annotated[
        bool,
        typer.Option("--npy", help="Write DataComp's subset.npy too.", rich_help_panel=_OUT),
    ] = False,
    uid: Annotated[
        str | None,
        typer.Option(
            help="Its column of 128-bit uids.",
            show_default="uid, or else sample_id",
            rich_help_panel=_OUT,
        ),
    ] = None,
    copy_images: Annotated[
        bool,
        typer.Option("--copy-images", help="Copy the kept images, on Ray.", rich_help_panel=_OUT),
    ] = False,
    shard_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Cut the kept images into tar shards of at most so many samples, on Ray.",
            rich_help_panel=_OUT,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Count only, and write nothing.", rich_help_panel=_OUT),
    ] = False,
    manifest: Annotated[
        list[str] | None,
        typer.Option(
            help="What was scored, if it has moved; may be repeated.", rich_help_panel=_IN
        ),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(help="Folder that relative image paths start from.", rich_help_panel=_IN),
    ] = None,
    map_: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="ROLE=COLUMN", help="Name a column.", rich_help_panel=_IN),
    ] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Keep the rows of a score table that meet some criteria; drop the others with a reason."""
    from tokenfocus_ray import Selection, select_scores

    if out is None and not dry_run:
        raise ConfigError("give --out FOLDER for the result, or --dry-run to count only")
    selection = Selection.parse(
        {
            "min_score": min_score, "min_low": min_low, "max_spread": max_spread,
            "min_agreement": min_agreement, "elements_present": elements_present,
            "element_types": element_type or (), "elements": element or (),
            "element_threshold": element_threshold, "dependencies": dependencies,
            "best_of": best_of, "top": top, "balance": balance, "budget": budget,
        },
        "options",
    )  # fmt: skip
    folder = None if dry_run else out
    with Terminal(folder, quiet=quiet, verbose=verbose) as terminal:
        carries = not dry_run and (copy_images or shard_size is not None)
        with terminal.showing("looking at scores", ray=carries):
            summary = select_scores(
                scores, folder, selection, mapping=pairs(map_ or (), "--map"), manifests=manifest,
                images=images, npy=npy, uid=uid, copy_images=copy_images, shard_size=shard_size,
                say=terminal.say, progress=terminal.watch,
            )  # fmt: skip
        terminal.last(summary.line())
