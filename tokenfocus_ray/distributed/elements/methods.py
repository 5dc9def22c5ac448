"""The ways to make elements, each with what Ray runs it on."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa
import ray

from tokenfocus_ray.backbones import loading, registry
from tokenfocus_ray.backbones.base import Source
from tokenfocus_ray.distributed.elements.tasks import MakeElements, MakeInActor
from tokenfocus_ray.distributed.lease import Lease
from tokenfocus_ray.distributed.session import cluster_gpus
from tokenfocus_ray.elements.rules import decompose_by_rules, rules_identity
from tokenfocus_ray.elements.usage import Usage
from tokenfocus_ray.elements.wording import MAX_LISTED, wording
from tokenfocus_ray.errors import ConfigError, did_you_mean
from tokenfocus_ray.storage.copies import cache_folder

if TYPE_CHECKING:
    from tokenfocus_ray.elements.endpoint import Endpoint

METHODS = ("rules", "backbone", "endpoint")
#: File of answers that are kept between jobs.
_CACHE = "elements.sqlite"
#: Files of prompts that a job is cut into, as long as each is of a fair size.
_FILES = 64


@dataclass(slots=True)
class Pool:
    """What decomposes, as Ray Data takes it.

    Attributes:
        stage: Function or class over files of prompts.
        options: Of ``map_batches``.
        price_in: Money for a million tokens in, of a server; None: unknown.
        price_out: Likewise of tokens out.
        usage: What the stage reported until now.
    """

    stage: Any
    options: Mapping[str, Any] = field(default_factory=dict)
    price_in: float | None = None
    price_out: float | None = None
    usage: Usage = field(default_factory=Usage)

    def account(self, batch: pa.Table) -> None:
        """Takes what the stage reports of a file."""
        for name in Usage.__slots__:
            if name in batch.column_names:
                values: list[Any] = batch[name].to_pylist()
                setattr(self.usage, name, getattr(self.usage, name) + sum(values))

    def used(self) -> str:
        """What was used until now, in words; empty where no server was asked."""
        return self.usage.words(self.price_in, self.price_out) if self.usage.requests else ""


class Method(Protocol):
    """One way."""

    def identity(self) -> dict[str, Any]:
        """What the elements depend on, flat."""
        ...

    def chunk_of(self, prompts: int) -> int:
        """Prompts of a file: what a killed process loses, and what is read at once."""
        ...

    def pool(self, lease: Lease) -> Pool:
        """What decomposes, within a session of Ray."""
        ...


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules over a parse, in tasks."""

    def identity(self) -> dict[str, Any]:
        """See :class:`Method`."""
        return {"method": "rules", **rules_identity()}

    def chunk_of(self, prompts: int) -> int:
        """See :class:`Method`."""
        return chunk_size(prompts, 128, 4096)

    def pool(self, lease: Lease) -> Pool:
        """See :class:`Method`."""
        return Pool(MakeElements(lease, decompose_by_rules), {"num_cpus": 1})


@dataclass(frozen=True, slots=True)
class FromBackbone:
    """A backbone as a text model, in a pool of actors.

    Attributes:
        source: The backbone, resolved.
        workers: Actors; None: one a GPU, or one.
        most: Elements of a prompt.
    """

    source: Source
    workers: int | None = None
    most: int = MAX_LISTED

    def identity(self) -> dict[str, Any]:
        """See :class:`Method`."""
        return {
            "method": "backbone", "weights": self.source.revision, "wording": wording(),
            "most": self.most,
        }  # fmt: skip

    def chunk_of(self, prompts: int) -> int:
        """See :class:`Method`."""
        return chunk_size(prompts, 16, 128)

    def pool(self, lease: Lease) -> Pool:
        """See :class:`Method`.

        Raises:
            ConfigError: the session has no room for the actors.
        """
        gpus = cluster_gpus()
        cpus = int(ray.cluster_resources().get("CPU", 0))
        workers = self.workers or max(1, gpus)
        if workers > (gpus or cpus - 1):
            raise ConfigError(
                f"--workers {workers}: each takes a {'GPU' if gpus else 'logical CPU'}, and the "
                f"session has {gpus or cpus}"
                + ("" if gpus else ", of which one feeds them")
                + "; use fewer, or a larger session"
            )
        threads = None if gpus else max(1, (os.cpu_count() or 1) // workers)
        make = functools.partial(_language_model, self.source, threads, self.most)
        return _in_actors(lease, make, workers, 1.0 if not gpus else 0.5, 1.0 if gpus else 0.0)


def _language_model(source: Source, threads: int | None, most: int) -> Any:
    from tokenfocus_ray.elements.language_model import LanguageModel

    return LanguageModel(source, cache_folder() / _CACHE, threads=threads, most=most)


@dataclass(frozen=True, slots=True)
class FromEndpoint:
    """A server, asked by one actor.

    Attributes:
        endpoint: Which.
    """

    endpoint: Endpoint

    def identity(self) -> dict[str, Any]:
        """See :class:`Method`."""
        asked = {"url": self.endpoint.url, "model": self.endpoint.model}
        return {"method": "endpoint", "wording": wording(), **asked}

    def chunk_of(self, prompts: int) -> int:
        """See :class:`Method`."""
        return chunk_size(prompts, 64, 512)

    def pool(self, lease: Lease) -> Pool:
        """See :class:`Method`; one actor, which keeps to the rate."""
        pool = _in_actors(lease, functools.partial(_client, self.endpoint), 1, 0.5, 0.0)
        return replace(pool, price_in=self.endpoint.price_in, price_out=self.endpoint.price_out)


def _client(endpoint: Endpoint) -> Any:
    from tokenfocus_ray.elements.endpoint import EndpointClient

    return EndpointClient(endpoint, cache_folder() / _CACHE)


def _in_actors(
    lease: Lease, make: Callable[[], Any], workers: int, cpus: float, gpus: float
) -> Pool:
    options = {
        "fn_constructor_args": (lease, make),
        "compute": ray.data.ActorPoolStrategy(size=workers),
        "num_cpus": cpus,
        "num_gpus": gpus,
    }
    return Pool(MakeInActor, options)


def chunk_size(prompts: int, fewest: int, most: int) -> int:
    """Prompts of a file.

    >>> chunk_size(100, 128, 4096), chunk_size(64_000, 128, 4096), chunk_size(10**7, 128, 4096)
    (128, 1000, 4096)
    """
    return max(fewest, min(most, prompts // _FILES))


def method_of(
    name: str, backbone: str | None, workers: int | None, endpoint: Endpoint | None
) -> Method:
    """The way of that name.

    Args:
        name: ``rules``, ``backbone`` or ``endpoint``.
        backbone: For the second.
        workers: Likewise.
        endpoint: For the third.

    Raises:
        ConfigError: there is none, or what it needs is not given, or what another needs is.
        BackboneError: the backbone is not there.
    """
    if name not in METHODS:
        raise ConfigError(f"--with {name!r}: no such way. {did_you_mean(name, METHODS)}")
    given = {"--backbone": backbone, "--workers": workers, "--model": endpoint}
    own = {"backbone": ("--backbone", "--workers"), "endpoint": ("--model",)}.get(name, ())
    if foreign := [option for option, value in given.items() if value and option not in own]:
        raise ConfigError(f"{foreign[0]} is not for --with {name}; leave one of them out")
    if name == "backbone":
        if not backbone:
            raise ConfigError("--with backbone: give --backbone NAME, a folder, or a hub id")
        if backbone not in registry.BUILT_IN and os.path.isdir(backbone):
            backbone = os.path.abspath(backbone)
        source = registry.resolve(backbone)
        loading.load_text(source)
        return FromBackbone(source, workers)
    if name == "endpoint":
        if endpoint is None:
            raise ConfigError("--with endpoint: give --model NAME, as the server names it")
        return FromEndpoint(endpoint)
    return Rules()
