"""``tokenfocus merge``: options, one call, the last line."""

from __future__ import annotations

from typing import Annotated

import typer

from tokenfocus_ray.cli.options import Quiet, Verbose
from tokenfocus_ray.cli.terminal import Terminal


def merge(
    scores: Annotated[
        list[str],
        typer.Argument(help="Parquet files or folders of scores, of the same rows in one order."),
    ],
    ensemble: Annotated[str, typer.Option(help="Folder of `tokenfocus stack`.")],
    out: Annotated[
        str, typer.Option(help="Folder for the result, local or s3://; launch again to go on.")
    ],
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Apply an ensemble on Ray Data to scores that are there already."""
    from tokenfocus_ray import merge_scores

    with Terminal(out, quiet=quiet, verbose=verbose) as terminal:
        with terminal.showing("starting"):
            summary = merge_scores(scores, out, ensemble, say=terminal.say, progress=terminal.watch)
        terminal.last(summary.line())
