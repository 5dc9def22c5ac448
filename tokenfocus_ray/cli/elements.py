"""``tokenfocus data elements``: options, one call, the last line."""

from __future__ import annotations

from typing import Annotated

import typer

from tokenfocus_ray.cli.options import (
    ManifestEncoding,
    ManifestRoles,
    NoQuotes,
    Quiet,
    Verbose,
    pairs,
)
from tokenfocus_ray.cli.terminal import Terminal


def elements(
    manifest: Annotated[
        list[str],
        typer.Argument(help="All that `tokenfocus score` takes, and tables without images."),
    ],
    out: Annotated[str, typer.Option(help="Folder for the new manifest; launch again to go on.")],
    method: Annotated[str, typer.Option("--with", help="rules, backbone or endpoint.")] = "rules",
    map_: ManifestRoles = None,
    encoding: ManifestEncoding = None,
    no_quotes: NoQuotes = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Make new elements for rows that bring some, too.")
    ] = False,
    backbone: Annotated[
        str | None,
        typer.Option(help="Of --with backbone: tiny-qwen2_5_vl, tiny-internvl, folder or hub id."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Likewise: actors.", show_default="one a GPU; one without GPU"),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Of --with endpoint: the model, as the server names it.")
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            help="Likewise: an OpenAI-compatible server, up to /v1.", show_default="OpenAI's"
        ),
    ] = None,
    key_env: Annotated[
        str | None,
        typer.Option(
            help="Likewise: environment variable that holds the key.",
            show_default="OPENAI_API_KEY",
        ),
    ] = None,
    rpm: Annotated[
        float | None, typer.Option(help="Likewise: most requests a minute.", show_default="60")
    ] = None,
    price_in: Annotated[
        float | None,
        typer.Option(help="Likewise: money for a million tokens in, to show what it costs."),
    ] = None,
    price_out: Annotated[
        float | None, typer.Option(help="Likewise: for a million tokens out.")
    ] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write a manifest again with elements for every prompt that brings none."""
    from tokenfocus_ray import ConfigError, Endpoint, make_elements

    options = {
        "--model": model, "--url": url, "--key-env": key_env, "--rpm": rpm,
        "--price-in": price_in, "--price-out": price_out,
    }  # fmt: skip
    given = [name for name, value in options.items() if value is not None]
    if given and method != "endpoint":
        raise ConfigError(f"{given[0]} is not for --with {method}; leave one of them out")
    asked = None
    if method == "endpoint":
        rate = {} if rpm is None else {"requests_per_minute": rpm}
        asked = Endpoint.of(url, model, key_env, price_in=price_in, price_out=price_out, **rate)
    with Terminal(out, quiet=quiet, verbose=verbose) as terminal:
        with terminal.showing("starting"):
            summary = make_elements(
                manifest,
                out,
                method=method,
                backbone=backbone,
                workers=workers,
                endpoint=asked,
                mapping=pairs(map_ or [], "--map"),
                encoding=encoding,
                quotes=not no_quotes,
                replace=replace,
                say=terminal.say,
                progress=terminal.watch,
            )
        terminal.last(summary.line())
