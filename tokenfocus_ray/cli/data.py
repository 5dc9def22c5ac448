"""``tokenfocus data``: makes and imports data sets."""

from __future__ import annotations

from typing import Annotated

import typer

from tokenfocus_ray.cli.options import Quiet, Verbose, pairs
from tokenfocus_ray.cli.terminal import Terminal


def synthetic(
    out: Annotated[str, typer.Option(help="Folder for images, manifests and labels.")],
    samples: Annotated[int, typer.Option(help="Number of images, at least 24.")] = 1200,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal bytes.")] = 0,
) -> None:
    """Write the built-in benchmark: drawn scenes with exact truth and simulated raters."""
    from tokenfocus_ray import write_benchmark

    counts = write_benchmark(out, samples, seed)
    typer.echo(f"train={counts['train']} test={counts['test']} out={out}")


def import_(
    format: Annotated[
        str,
        typer.Argument(
            help="evalmuse (.json), pickapic (pairs, Parquet), hf-parquet (Hugging Face), "
            "img2dataset (folder of shards), webdataset (tar shards), diffusiondb (table and a "
            "folder of images); or prompts with questions: tifa (.json), dsg (.csv), geneval2 "
            "(.jsonl), oneig (.csv and files of questions).",
        ),
    ],
    src: Annotated[str, typer.Argument(help="File, folder or prefix, local or s3://.")],
    out: Annotated[
        str, typer.Option(help="Folder for the manifest, local or s3://; launch again to go on.")
    ],
    images: Annotated[
        str | None,
        typer.Option(
            help="Folder of the images; of prompts with questions, your own images by their names: "
            "FOLDER/{id}.png, FOLDER/{id}/{n}.png, FOLDER/{generator}/{index}.png, or a .json of "
            "prompts and paths."
        ),
    ] = None,
    map_: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            help="ROLE=COLUMN. Roles: prompt, image, image_uri, elements, prompt_type, sample_id, "
            "generator.",
        ),
    ] = None,
    encoding: Annotated[
        str | None,
        typer.Option(help="Of text, such as latin-1.", show_default="utf-8"),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete an earlier import in --out first.")
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Make a manifest of another data set that `tokenfocus score` takes."""
    from tokenfocus_ray import import_manifest

    with Terminal(out, quiet=quiet, verbose=verbose) as terminal:
        with terminal.showing("starting"):
            summary = import_manifest(
                format,
                src,
                out,
                images=images,
                mapping=pairs(map_ or [], "--map"),
                encoding=encoding,
                overwrite=overwrite,
                say=terminal.say,
                progress=terminal.watch,
            )
        terminal.last(summary.line())
