"""``tokenfocus data``: makes and imports data sets."""

from __future__ import annotations

from typing import Annotated

import typer


def synthetic(
    out: Annotated[str, typer.Option(help="Folder for images, manifests and labels.")],
    samples: Annotated[int, typer.Option(help="Number of images, at least 24.")] = 1200,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal bytes.")] = 0,
) -> None:
    """Write the built-in benchmark: drawn scenes with exact truth and simulated raters."""
    from tokenfocus_ray import write_benchmark

    counts = write_benchmark(out, samples, seed)
    typer.echo(f"train={counts['train']} test={counts['test']} out={out}")
