"""``tokenfocus merge``: options, one call, the last line."""

from __future__ import annotations

from typing import Annotated

import typer


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
    from tokenfocus_ray import merge_scores

    typer.echo(merge_scores(scores, out, ensemble, say=typer.echo).line())
