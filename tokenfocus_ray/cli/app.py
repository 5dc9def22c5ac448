"""The ``tokenfocus`` command, a file a command. Heavy imports wait until a command runs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from tokenfocus_ray.cli import data as data_commands
from tokenfocus_ray.cli import (
    demo,
    elements,
    evaluate,
    merge,
    pairs,
    plan,
    report,
    score,
    select,
    stack,
    submission,
    train,
)
from tokenfocus_ray.cli.ends import run
from tokenfocus_ray.cli.options import Command
from tokenfocus_ray.version import __version__

#: Commands that go on where they ended when they are launched again.
GOING_ON = (
    ["score"], ["train"], ["merge"], ["select"], ["pairs"], ["demo"], ["data", "import"],
    ["data", "elements"],
)  # fmt: skip

app = typer.Typer(
    help="Scores how well generated images follow their prompts (TokenFocus-VQA on Ray).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data = typer.Typer(help="Makes and imports data sets.", no_args_is_help=True)
app.add_typer(data, name="data")


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


for _command in (
    score.score, train.train, evaluate.evaluate, stack.stack, merge.merge, report.report,
    select.select, pairs.pairs, submission.submission, plan.plan, demo.demo,
):  # fmt: skip
    app.command(cls=Command)(_command)
data.command(cls=Command)(data_commands.synthetic)
data.command("import", cls=Command)(data_commands.import_)
data.command(cls=Command)(elements.elements)


def main() -> None:
    """Runs the command; :mod:`~tokenfocus_ray.cli.ends` says how it ends."""
    sys.exit(run(app, goes_on=any(sys.argv[1 : 1 + len(c)] == c for c in GOING_ON)))


if __name__ == "__main__":
    main()
