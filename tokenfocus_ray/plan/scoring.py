"""The verb: what scoring a manifest would take, from a sample of it and the backbone's shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tokenfocus_ray.backbones import loading, registry
from tokenfocus_ray.backbones.base import Source as BackboneSource
from tokenfocus_ray.backbones.lora import check_adapters, check_training_records, local_adapters
from tokenfocus_ray.config import JobConfig, ScoringConfig
from tokenfocus_ray.datasets.sources import plan_source
from tokenfocus_ray.datasets.units import Source
from tokenfocus_ray.errors import ConfigError
from tokenfocus_ray.plan.cost import (
    EFFICIENCY,
    GIGA,
    VALUE_BYTES,
    Work,
    busy_share,
    cores_to_feed,
    device_seconds,
)
from tokenfocus_ray.plan.gpus import Gpu, gpu_at_hand, gpu_of
from tokenfocus_ray.plan.measure import Measured, measure_feeding, measure_scoring
from tokenfocus_ray.plan.outcome import BackbonePlan, OnGpu, ScoringPlan
from tokenfocus_ray.plan.sample import Sample, draw
from tokenfocus_ray.plan.workload import Members, memory_of, workload
from tokenfocus_ray.say import Say
from tokenfocus_ray.scoring.prompt import question_settings
from tokenfocus_ray.scoring.scorer import TOKEN_BUDGET
from tokenfocus_ray.storage import Store
from tokenfocus_ray.tables.text import TextOptions

#: Rows that are looked at.
SAMPLES = 256
#: With fewer values in a backbone, a card waits for Python rather than for arithmetic.
SMALL = 500_000_000


def plan_scoring(
    manifest: str | Sequence[str],
    config: ScoringConfig | Mapping[str, ScoringConfig],
    *,
    gpu: str | None = None,
    gpus: int = 1,
    price: float | None = None,
    efficiency: float | None = None,
    cpus: float | None = None,
    images: str | None = None,
    mapping: Mapping[str, str] | None = None,
    encoding: str | None = None,
    quotes: bool = True,
    job: JobConfig | None = None,
    samples: int = SAMPLES,
    measure: bool = False,
    say: Say = print,
) -> ScoringPlan:
    """Estimates what scoring a manifest takes; starts no job and writes nothing.

    Weights are loaded only by ``measure``.

    Args:
        manifest: See :func:`~tokenfocus_ray.distributed.score.job.score_manifest`.
        config: Likewise.
        gpu: A card, see :func:`~tokenfocus_ray.plan.gpus.gpu_of`.
        gpus: How many of them.
        price: Of one for an hour, in any currency.
        efficiency: Share of its peak that is reached; None: what is measured, where it is the card
            at hand, else :data:`~tokenfocus_ray.plan.cost.EFFICIENCY`.
        cpus: CPU cores for each card; None: as many as it takes.
        images: See :func:`~tokenfocus_ray.distributed.score.job.score_manifest`.
        mapping: Likewise.
        encoding: Likewise.
        quotes: Likewise.
        job: Rows of a piece, and scorers, as the job would have them.
        samples: Rows to look at.
        measure: Whether to load each backbone and score rows of the sample on this machine.
        say: Takes lines of what happens.

    Raises:
        ConfigError: there is nothing to plan for, or a number is out of range.
        ManifestError: a manifest cannot be read or lacks columns.
        BackboneError, AdapterError, LevelError: the scorer could not be built.
    """
    _check(gpus=gpus, price=price, efficiency=efficiency, cpus=cpus, samples=samples)
    if gpu is None and not measure:
        raise ConfigError(
            "nothing to plan for: give --gpu with the name of a card, or --measure for the machine "
            "at hand"
        )
    card = None if gpu is None else gpu_of(gpu)
    job = job or JobConfig()
    given = {config.backbone: config} if isinstance(config, ScoringConfig) else dict(config)
    manifests = [manifest] if isinstance(manifest, str) else manifest
    text = TextOptions(encoding, quotes)
    source = plan_source(manifests, images, mapping or {}, Store.of("planned"), text, say)
    resolved = {n: registry.resolve(one.backbone, one.revision) for n, one in given.items()}
    say(f"looking at {min(samples, source.n_rows or samples):,} rows")
    sample = draw(source, samples)
    notes = list(sample.notes)
    plans = []
    for name, one in given.items():
        plan, found = _of_backbone(name, one, resolved[name], source, sample, job, measure, say)
        if card is None and plan.measured is not None:
            card = _card_here(plan.measured)
        plans.append(plan)
        notes += found
    if card is not None:
        plans = [_on(plan, card, efficiency, cpus, sample.n_rows) for plan in plans]
        notes += _notes_of(card, plans)
    return ScoringPlan(
        round(sample.n_rows), sample.is_estimate, len(sample.rows), sample.n_units, sample.n_read,
        sample.n_opened, tuple(plans), card, gpus, cpus, price, tuple(notes),
    )  # fmt: skip


def _check(**numbers: float | None) -> None:
    for name, value in numbers.items():
        if value is None:
            continue
        if name == "efficiency" and not 0 < value <= 1:
            raise ConfigError(f"--efficiency {value:g}: wanted a share of the peak, above 0, to 1")
        if not value > 0:
            raise ConfigError(f"--{name} {value:g}: wanted a number above 0")


def _of_backbone(
    name: str,
    config: ScoringConfig,
    found: BackboneSource,
    source: Source,
    sample: Sample,
    job: JobConfig,
    measure: bool,
    say: Say,
) -> tuple[BackbonePlan, list[str]]:
    """A pass of one backbone, without a card; and what to know of it."""
    with local_adapters(config.adapters) as folders:
        check_adapters(folders, found)
        check_training_records(folders, config.backbone, question_settings(config))
        members = Members.of(folders)
    backbone = loading.skeleton(found)
    spec = loading.image_spec(found, config.max_visual_tokens)
    backbone.image_spec = spec
    feeding = measure_feeding(spec, sample.rows)  # first: it finds images that are damaged
    load = workload(backbone, config, sample.rows, source.columns, members, job.commit_rows)
    dtype = "bfloat16" if config.dtype == "auto" else config.dtype
    memory = None if load.work is None else memory_of(backbone, dtype, members, load)
    notes = []
    if getattr(backbone.model.config, "quantization_config", None):
        notes.append(f"{name}: its weights are quantised; memory here is that of {dtype} weights")
    measured = None
    if measure and load.work is not None:
        measured = measure_scoring(
            config, found, spec, sample.rows, source.columns, job.pool(name), job.commit_rows, say
        )
    parameters = sum(p.numel() for p in backbone.model.parameters())
    return BackbonePlan(
        name, parameters, dtype, members.count, load, memory, feeding, None, measured
    ), notes


def _card_here(measured: Measured) -> Gpu | None:
    """The card that was measured on, where it is one of the list."""
    if measured.device == "cpu":
        return None
    return gpu_at_hand(measured.device, measured.device_bytes)


def _on(
    plan: BackbonePlan, card: Gpu, given: float | None, cpus: float | None, n_rows: float
) -> BackbonePlan:
    """The plan with its estimate on a card."""
    work, memory = plan.load.work, plan.memory
    if work is None or memory is None:
        return plan
    peak = card.peak(plan.dtype)
    efficiency, source = EFFICIENCY, "assumed"
    if given is not None:
        efficiency, source = (given, given), "given"
    elif plan.measured is not None and _card_here(plan.measured) == card:
        each = [work.flops / seconds / peak for seconds in plan.measured.score_seconds]
        efficiency, source = (min(each), max(each)), "measured"
    low, high = (_rate(plan, work, card, peak, one) for one in efficiency)
    fed = (low, high)
    cores = busy = None
    if plan.feeding is not None:
        cores = (
            cores_to_feed(low, plan.feeding.seconds),
            cores_to_feed(high, plan.feeding.seconds),
        )
        if cpus is not None:
            busy = (busy_share(cpus, cores[1]), busy_share(cpus, cores[0]))
            fed = (low * busy[1], high * busy[0])
    images = n_rows * plan.load.scored
    hours = (images / fed[1] / 3600, images / fed[0] / 3600)
    fits = memory.fits(card.memory_gib)
    on_gpu = OnGpu(efficiency, source, (low, high), cores, busy, hours, fits)
    return replace(plan, on_gpu=on_gpu)


def _rate(plan: BackbonePlan, work: Work, card: Gpu, peak: float, efficiency: float) -> float:
    """Images/s of one card that never waits for them."""
    weights = plan.parameters * VALUE_BYTES[plan.dtype] * plan.members
    moved = weights * min(1.0, work.tokens / TOKEN_BUDGET)
    bandwidth = None if card.bandwidth_gb_s is None else card.bandwidth_gb_s * GIGA
    return 1 / device_seconds(work.flops, peak, efficiency, moved, bandwidth)


def _notes_of(card: Gpu, plans: Sequence[BackbonePlan]) -> list[str]:
    notes = []
    for plan in plans:
        if plan.on_gpu is None:
            notes.append(f"{plan.name}: no row of the sample can be scored, so nothing is planned")
            continue
        if plan.parameters < SMALL and plan.on_gpu.source == "assumed":
            notes.append(
                f"{plan.name}: so small a backbone ({plan.parameters:,} values) makes a "
                f"{card.name} wait for Python, far below the efficiency that is assumed; use "
                f"--measure there"
            )
        if plan.dtype == "bfloat16" and not card.has_bfloat16:
            notes.append(
                f"{plan.name}: {card.name} has no bfloat16, in which a GPU scores by default; this "
                f"plan holds with dtype: float16 in --config"
            )
    return notes
