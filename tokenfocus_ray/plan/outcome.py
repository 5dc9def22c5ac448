"""What comes out of planning: what each backbone takes, and their sums."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from tokenfocus_ray.plan.cost import Memory
from tokenfocus_ray.plan.gpus import Gpu
from tokenfocus_ray.plan.measure import Feeding, Measured
from tokenfocus_ray.plan.workload import Workload
from tokenfocus_ray.storage import Store


@dataclass(frozen=True, slots=True)
class OnGpu:
    """A pass of one backbone on the chosen card; pairs are the lowest and highest estimate.

    Attributes:
        efficiency: Share of the card's peak that is reached.
        source: Where that comes from: ``assumed``, ``given`` or ``measured``.
        images_per_s: Of one card that never waits for its images.
        cpu_cores: Cores that prepare as many; None where no image was prepared.
        busy: Share of the time in which the card has work with the cores that were stated; None
            where none were.
        gpu_hours: Over all rows, with the cores that were stated, if any.
        fits: Whether the card's memory is enough.
    """

    efficiency: tuple[float, float]
    source: str
    images_per_s: tuple[float, float]
    cpu_cores: tuple[float, float] | None
    busy: tuple[float, float] | None
    gpu_hours: tuple[float, float]
    fits: bool


@dataclass(frozen=True, slots=True)
class BackbonePlan:
    """What a pass of one backbone takes.

    Attributes:
        name: Of the backbone.
        parameters: Values of its weights.
        dtype: Of the weights.
        members: Passes of the language model.
        load: What the sample says of the manifest.
        memory: Of a scoring actor; None where nothing can be scored.
        feeding: One core's pace here; None where no image can be read.
        on_gpu: On the chosen card; None without one.
        measured: Of this machine; None without ``measure``.
    """

    name: str
    parameters: int
    dtype: str
    members: int
    load: Workload
    memory: Memory | None
    feeding: Feeding | None
    on_gpu: OnGpu | None
    measured: Measured | None


@dataclass(frozen=True, slots=True)
class ScoringPlan:
    """What scoring a manifest would take.

    Attributes:
        rows: Of the manifest.
        rows_estimated: Whether their number is an estimate.
        sampled: Rows that were looked at.
        units: Runs of rows of the manifest; ``units_read`` of them were looked into.
        units_read: See there.
        opened: Images that were opened; the sizes of the others stand in the manifest.
        backbones: What each takes, one after another.
        gpu: The card; None without one.
        gpus: How many of them.
        cpus: CPU cores for each, as stated; None: as many as it takes.
        price: Of one card for an hour; None where none was given.
        notes: What to know, a line each.
    """

    rows: int
    rows_estimated: bool
    sampled: int
    units: int
    units_read: int
    opened: int
    backbones: tuple[BackbonePlan, ...]
    gpu: Gpu | None
    gpus: int
    cpus: float | None
    price: float | None
    notes: tuple[str, ...]

    @property
    def flops(self) -> float:
        """Operations of all passes over all rows."""
        return sum(b.load.work.flops * self.images(b) for b in self.backbones if b.load.work)

    @property
    def tokens(self) -> float:
        """Tokens that language models see in all passes over all rows, padding included."""
        return sum(
            b.load.work.tokens * b.members * self.images(b) for b in self.backbones if b.load.work
        )

    @property
    def gpu_hours(self) -> tuple[float, float] | None:
        """Of all passes: lowest and highest; None without a card, or where one does not fit."""
        found = [b.on_gpu for b in self.backbones]
        if not all(one is not None and one.fits for one in found):
            return None
        hours = [one.gpu_hours for one in found if one is not None]
        return sum(low for low, _ in hours), sum(high for _, high in hours)

    def images(self, one: BackbonePlan) -> float:
        """Rows that a backbone can score."""
        return self.rows * one.load.scored

    def line(self) -> str:
        """The final line, which a script can read."""
        words = [f"rows={self.rows}", f"tokens={self.tokens:.4g}", f"flops={self.flops:.4g}"]
        if self.gpu is not None:
            words += [f"gpu={self.gpu.name}", f"fits={'yes' if self.fits else 'no'}"]
            needed = [b.memory.needed for b in self.backbones if b.memory]
            words += [f"memory_gib={max(needed, default=0.0):.3g}"]
        if (hours := self.gpu_hours) is not None:
            words += [f"gpu_hours={_range(hours)}"]
            words += [f"wall_hours={_range((hours[0] / self.gpus, hours[1] / self.gpus))}"]
            if self.price is not None:
                words += [f"cost={_range((hours[0] * self.price, hours[1] * self.price))}"]
        cores = [b.on_gpu.cpu_cores for b in self.backbones if b.on_gpu and b.on_gpu.cpu_cores]
        if cores:
            pair = (max(low for low, _ in cores), max(high for _, high in cores))
            words += [f"cpus_per_gpu={_range(pair)}"]
        if (rates := self.rates_here) is not None:
            low, likely, high = rates
            words += [f"images_per_s={likely:.3g}", f"images_per_s_range={_range((low, high))}"]
        return " ".join(words)

    @property
    def rates_here(self) -> tuple[float, float, float] | None:
        """Images/s of a job on this machine, all passes: lowest, likely, highest; None unmeasured.

        Passes follow one another, so their times add up.
        """
        found = [b.measured.rates() for b in self.backbones if b.measured is not None]
        if not found or len(found) < len(self.backbones):
            return None
        low, likely, high = (
            1 / sum(1 / rate for rate in rates) for rates in zip(*found, strict=True)
        )
        return low, likely, high

    @property
    def fits(self) -> bool:
        """Whether the card holds each of the backbones."""
        return all(b.on_gpu is None or b.on_gpu.fits for b in self.backbones)

    def write_json(self, path: str) -> None:
        """Writes all of it, with the totals.

        Args:
            path: A file, local or in a store.

        Raises:
            OutputError: it cannot be written.
        """
        totals = {
            "flops": self.flops,
            "tokens": self.tokens,
            "gpu_hours": self.gpu_hours,
            "images_per_s_here": self.rates_here,
        }
        Store.of(path).write_json("", asdict(self) | {"totals": totals})


def _range(pair: tuple[float, float]) -> str:
    """Three figures of both, or of one where they are equal.

    >>> _range((0.12345, 12.345)), _range((2.0, 2.0))
    ('0.123..12.3', '2')
    """
    low, high = (f"{value:.3g}" for value in pair)
    return low if low == high else f"{low}..{high}"
