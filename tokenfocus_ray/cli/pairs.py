"""``tokenfocus pairs``: options, one call, the last line."""

from __future__ import annotations

from typing import Annotated

import typer

from tokenfocus_ray.cli.options import Quiet, Scored, ScoredImages, Verbose
from tokenfocus_ray.cli.options import pairs as named
from tokenfocus_ray.cli.terminal import Terminal

_FORMATS = (
    "diffusion-dpo, trl, unified-reward, ms-swift, hpdv3, kohya, imagereward (rankings); of single "
    "images: reward, label-studio (those that members dispute most, for people)."
)


def pairs(
    scores: Annotated[str, typer.Argument(help="Output folder of `tokenfocus score` or `merge`.")],
    out: Annotated[
        str, typer.Option(help="Folder for the result, local or s3://; launch again to go on.")
    ],
    format: Annotated[str, typer.Option(help=_FORMATS)],
    min_margin: Annotated[
        float, typer.Option(help="Least difference of the two scores; equal ones are never a pair.")
    ] = 0.0,
    min_confidence: Annotated[
        float | None,
        typer.Option(
            help="Least probability that the order is right, 0.5 to 1.", show_default="any"
        ),
    ] = None,
    majority: Annotated[
        bool,
        typer.Option(
            "--majority",
            help="Only where more than half of the backbones (of one backbone: members) have the "
            "order.",
        ),
    ] = False,
    per_prompt: Annotated[
        int | None,
        typer.Option(
            help="Most pairs of a prompt, the surest first; of rankings: most images.",
            show_default="all",
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Most tasks of label-studio.", show_default="100")
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Decides which image stands first where both are shown alike.")
    ] = 0,
    map: Annotated[
        list[str] | None,
        typer.Option(help="ROLE=COLUMN of the scores: prompt, image_uri, generator, seed."),
    ] = None,
    manifest: Scored = None,
    images: ScoredImages = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write preference pairs of images of one prompt, in the formats that trainers read."""
    from tokenfocus_ray import export_pairs

    with Terminal(out, quiet=quiet, verbose=verbose) as terminal:
        with terminal.showing("starting"):
            summary = export_pairs(
                scores, out, format=format, min_margin=min_margin, min_confidence=min_confidence,
                majority=majority, per_prompt=per_prompt, limit=limit, seed=seed,
                mapping=named(map or (), "--map"), manifests=manifest, images=images,
                say=terminal.say, progress=terminal.watch,
            )  # fmt: skip
        terminal.last(summary.line())
