"""``tokenfocus data elements``: options, one call, the last line."""

from __future__ import annotations

from typing import Annotated

import typer

from tokenfocus_ray.cli.options import Quiet, Verbose, pairs
from tokenfocus_ray.cli.terminal import Terminal


def elements(
    manifest: Annotated[
        list[str],
        typer.Argument(help="All that `tokenfocus score` takes, and tables without images."),
    ],
    out: Annotated[str, typer.Option(help="Folder for the new manifest; launch again to go on.")],
    method: Annotated[
        str, typer.Option("--with", help="What decomposes the prompts: rules.")
    ] = "rules",
    map_: Annotated[
        list[str] | None,
        typer.Option("--map", help="ROLE=COLUMN, as for `tokenfocus score`."),
    ] = None,
    encoding: Annotated[
        str | None,
        typer.Option(help="Of captions and text manifests, such as latin-1.", show_default="utf-8"),
    ] = None,
    no_quotes: Annotated[
        bool, typer.Option("--no-quotes", help="Quotes in .csv and .tsv are part of the text.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Make new elements for rows that bring some, too.")
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write a manifest again with elements for every prompt that brings none."""
    from tokenfocus_ray import make_elements

    with Terminal(out, quiet=quiet, verbose=verbose) as terminal:
        with terminal.showing("starting"):
            summary = make_elements(
                manifest,
                out,
                method=method,
                mapping=pairs(map_ or [], "--map"),
                encoding=encoding,
                quotes=not no_quotes,
                replace=replace,
                say=terminal.say,
                progress=terminal.watch,
            )
        terminal.last(summary.line())
