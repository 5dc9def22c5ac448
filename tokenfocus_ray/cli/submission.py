"""``tokenfocus submission``: options, one call, the last line."""

from __future__ import annotations

from typing import Annotated

import typer

from tokenfocus_ray.cli.options import Encoding


def submission(
    scores: Annotated[str, typer.Argument(help="Scores of the challenge's test list.")],
    out: Annotated[str, typer.Option(help="The archive, such as submission.zip.")],
    test_list: Annotated[str, typer.Option(help="The challenge's JSON file of images to score.")],
    fill_unscored: Annotated[
        bool,
        typer.Option(
            "--fill-unscored",
            help="Give images without a score the mean of the others; else they are an error.",
        ),
    ] = False,
    readme: Annotated[
        str | None, typer.Option(help="Text for readme.txt.", show_default="who scored")
    ] = None,
    encoding: Encoding = None,
) -> None:
    """Write the challenge's submission.zip, checked against its test list."""
    from tokenfocus_ray import write_submission

    summary = write_submission(
        scores, out, test_list=test_list, fill_unscored=fill_unscored, readme=readme,
        encoding=encoding,
    )  # fmt: skip
    typer.echo(summary.line())
