"""``tokenfocus plan``: options, one call, the plan as tables and one line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokenfocus_ray.cli.options import (
    Adapters,
    Backbone,
    ManifestEncoding,
    ManifestImages,
    ManifestRoles,
    MaxVisualTokens,
    NoQuotes,
    Quiet,
    Report,
    ScoringFile,
    pairs,
)
from tokenfocus_ray.cli.terminal import Terminal

if TYPE_CHECKING:
    from tokenfocus_ray import ScoringPlan
    from tokenfocus_ray.plan.outcome import BackbonePlan

_UNITS = ((1e18, "exa"), (1e15, "peta"), (1e12, "tera"), (1e9, "giga"), (1e6, "mega"))


def plan(
    manifest: Annotated[list[str], typer.Argument(help="As of `tokenfocus score`.")],
    backbone: Backbone = None,
    gpu: Annotated[
        str | None,
        typer.Option(help="H100, A100, L4, ... or NAME=TFLOPS:GIB, dense 16-bit peak and memory."),
    ] = None,
    gpus: Annotated[int, typer.Option(min=1, help="How many of them share the work.")] = 1,
    price: Annotated[float | None, typer.Option(help="Of one GPU for an hour.")] = None,
    efficiency: Annotated[
        float | None,
        typer.Option(
            help="Share of the GPU's peak that is reached.",
            show_default="0.2 to 0.5, an assumption",
        ),
    ] = None,
    cpus: Annotated[
        float | None,
        typer.Option(help="CPU cores for each GPU.", show_default="as many as it takes"),
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Score some rows on this machine, and calibrate.")
    ] = False,
    adapter: Adapters = None,
    images: ManifestImages = None,
    map_: ManifestRoles = None,
    encoding: ManifestEncoding = None,
    no_quotes: NoQuotes = False,
    config: ScoringFile = None,
    max_visual_tokens: MaxVisualTokens = None,
    ensemble: Annotated[
        str | None, typer.Option(help="Folder of `tokenfocus stack`, whose members would score.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Rows to look at.")] = 256,
    json: Report = None,
    quiet: Quiet = False,
) -> None:
    """Estimate GPU-hours, cost, memory and CPU cores of scoring a manifest, before it starts."""
    from tokenfocus_ray import Ensemble, load_score_config, plan_scoring

    given: dict[str, Any] = {"backbone": backbone, "max_visual_tokens": max_visual_tokens}
    if adapter:
        given["adapters"] = pairs(adapter, "--adapter")
    given = {name: value for name, value in given.items() if value is not None}
    with Terminal(quiet=quiet, plain=True) as terminal:
        brought = None if ensemble is None else Ensemble.load(ensemble).scoring_configs()
        scoring, job = load_score_config(config, given, brought)
        found = plan_scoring(
            manifest,
            scoring,
            gpu=gpu,
            gpus=gpus,
            price=price,
            efficiency=efficiency,
            cpus=cpus,
            images=images,
            mapping=pairs(map_ or [], "--map"),
            encoding=encoding,
            quotes=not no_quotes,
            job=job,
            samples=samples,
            measure=measure,
            say=terminal.say,
        )
        if not quiet:
            print_plan(found)
        if json is not None:
            found.write_json(json)
        terminal.last(found.line())


def print_plan(found: ScoringPlan) -> None:
    """Prints a plan as tables."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    about = "about " if found.rows_estimated else ""
    table = Table("", title=f"{about}{found.rows:,} rows")
    for one in found.backbones:
        table.add_column(one.name, justify="right", overflow="fold")
    rows: dict[str, list[str]] = {}
    for one in found.backbones:
        for name, value in _figures(found, one):
            rows.setdefault(name, []).append(value)
    for name, cells in rows.items():
        table.add_row(name, *cells)
    console.print(table)
    for line in _remarks(found):
        console.print(f"- {line}", markup=False, highlight=False, soft_wrap=True)


def _figures(found: ScoringPlan, one: BackbonePlan) -> Iterator[tuple[str, str]]:
    """What is said of a backbone; of each the same lines."""
    work, memory, on_gpu = one.load.work, one.memory, one.on_gpu
    yield "weights", f"{one.parameters:,} values, {one.dtype}"
    yield "members", f"{one.members}"
    yield "rows that can be scored", f"{one.load.scored:.1%}"
    yield (
        "image tokens, tokens an image",
        _or_dash(work and f"{work.visual_tokens:,.0f}, {work.tokens:,.0f}"),
    )
    yield (
        "operations an image",
        _or_dash(work and f"{amount(work.flops)} (± {one.load.margin:.0%} by the sample)"),
    )
    yield (
        "of these vision, language, head",
        _or_dash(
            work
            and ", ".join(
                f"{part / work.flops:.1%}"
                for part in (work.vision_flops, work.language_flops, work.head_flops)
            )
        ),
    )
    if found.gpu is not None:
        yield from _card_figures(found, one)
    elif memory is not None:
        yield "memory of a scorer", f"{gib(memory.usual)} ({gib(memory.needed)} at the least)"
    yield (
        "one CPU core prepares",
        _or_dash(one.feeding and f"{1 / one.feeding.seconds:,.0f} images/s"),
    )
    if on_gpu is not None:
        yield "CPU cores that feed a GPU", _or_dash(on_gpu.cpu_cores and span(*on_gpu.cpu_cores))
        if found.cpus is not None:
            busy = on_gpu.busy and " .. ".join(dict.fromkeys(f"{b:.0%}" for b in on_gpu.busy))
            yield f"GPU at work with {found.cpus:g} cores", _or_dash(busy)
    if one.measured is not None:
        low, likely, high = one.measured.rates()
        score = sorted(1 / s for s in one.measured.score_seconds)
        yield "measured: one scorer", f"{span(score[0], score[-1])} images/s"
        yield "measured: one core prepares", f"{1 / one.measured.prepare_seconds:,.0f} images/s"
        yield "score on this machine", f"{likely:.3g} images/s ({span(low, high)})"
        hours = found.images(one) / likely / 3600
        yield (
            "all rows on this machine",
            f"{hours:.3g} h, beside {one.measured.load_seconds:.0f} s to load",
        )


def _card_figures(found: ScoringPlan, one: BackbonePlan) -> Iterator[tuple[str, str]]:
    card, memory, on_gpu = found.gpu, one.memory, one.on_gpu
    assert card is not None
    fits = "" if on_gpu is None or on_gpu.fits else ", does not fit"
    yield (
        f"memory, {card.name} has {card.memory_gib:g} GiB",
        _or_dash(memory and f"{gib(memory.usual)} ({gib(memory.needed)} at the least){fits}"),
    )
    fitting = on_gpu if on_gpu is not None and on_gpu.fits else None
    yield (
        "efficiency",
        _or_dash(on_gpu and f"{on_gpu.source}, {span(*on_gpu.efficiency)} of the peak"),
    )
    yield "one GPU scores", _or_dash(fitting and f"{span(*fitting.images_per_s)} images/s")
    yield "GPU-hours", _or_dash(fitting and span(*fitting.gpu_hours))
    if found.gpus > 1:
        wall = fitting and span(*(hours / found.gpus for hours in fitting.gpu_hours))
        yield f"hours on {found.gpus} GPUs", _or_dash(wall)
    if found.price is not None:
        cost = fitting and span(*(hours * found.price for hours in fitting.gpu_hours))
        yield f"cost at {found.price:g} an hour", _or_dash(cost)


def _remarks(found: ScoringPlan) -> Iterator[str]:
    """What the figures rest on, and what follows from them."""
    estimate = "; the number of rows is an estimate from the shards' sizes"
    yield (
        f"from {found.sampled:,} rows, drawn by a fixed seed from {found.units_read} of "
        f"{found.units} pieces of the manifest; {found.opened:,} images were opened"
        f"{estimate if found.rows_estimated else ''}"
    )
    for one in found.backbones:
        if one.load.unscored:
            codes = ", ".join(f"{code} {n}" for code, n in sorted(one.load.unscored.items()))
            yield f"{one.name}: rows of the sample that cannot be scored: {codes}"
        if one.feeding is not None:
            yield (
                f"{one.name}: decoding and resizing was timed on {one.feeding.images} images here "
                f"({one.feeding.machine}); fetching them is not in it"
            )
    yield from _card_remarks(found)
    yield from found.notes


def _card_remarks(found: ScoringPlan) -> Iterator[str]:
    for one in found.backbones:
        card, on_gpu, memory = found.gpu, one.on_gpu, one.memory
        if card is None or on_gpu is None or memory is None:
            continue
        if not on_gpu.fits:
            yield (
                f"{one.name} does not fit: a scorer needs {gib(memory.needed)}, {card.name} has "
                f"{card.memory_gib:g}, of which 8 % are left to its driver; take a larger card, a "
                f"smaller backbone, or lower --max-visual-tokens"
            )
        if on_gpu.source == "assumed":
            yield f"{one.name}: the efficiency is an assumption, not measured: docs/planning.md"
        if on_gpu.cpu_cores is not None:
            yield f"{one.name}: {span(*on_gpu.cpu_cores)} CPU cores a GPU, or the GPU waits"


def amount(flops: float) -> str:
    """Operations in words.

    >>> amount(2.5e12)
    '2.5 teraFLOP'
    """
    for size, name in _UNITS:
        if flops >= size:
            return f"{flops / size:.3g} {name}FLOP"
    return f"{flops:.3g} FLOP"


def span(low: float, high: float) -> str:
    """Two figures, or one where they look alike.

    >>> span(0.123, 4.567), span(2, 2.0001)
    ('0.12 .. 4.6', '2')
    """
    first, second = (f"{value:,.0f}" if value >= 100 else f"{value:.2g}" for value in (low, high))
    return first if first == second else f"{first} .. {second}"


def gib(size: float) -> str:
    """A size in GiB.

    >>> gib(16.62), gib(0.0712)
    ('16.6 GiB', '0.071 GiB')
    """
    return f"{size:.1f} GiB" if size >= 1 else f"{size:.2g} GiB"


def _or_dash(text: object) -> str:
    return str(text) if text else "-"
