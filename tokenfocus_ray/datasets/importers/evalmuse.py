"""EvalMuse: ``train_list.json`` or ``test.json``.

:mod:`~tokenfocus_ray.datasets.evalmuse` reads it.
"""

from __future__ import annotations

from tokenfocus_ray.datasets.importers.base import Format, Plan, Request
from tokenfocus_ray.datasets.importers.rows import FromSource
from tokenfocus_ray.datasets.sources import plan_source
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.storage import public


def plan(request: Request) -> Plan:
    """Reads the records.

    Raises:
        ManifestError: it is no such file.
    """
    request.refuse("evalmuse", mapping="since its fields are known")
    if not request.src.lower().endswith(".json"):
        raise ManifestError(
            f"{public(request.src)}: wanted EvalMuse's train_list.json or test.json; name the file"
        )
    source = plan_source([request.src], request.images, {}, request.keep, request.text, request.say)
    return Plan(source.units, FromSource.of(source), dict(source.fingerprint), dict(source.inputs))


EVALMUSE = Format("EvalMuse's .json, with --images", plan)
