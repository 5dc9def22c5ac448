"""The keys of before of a score table's metadata: ``tokenfocus.members``, ``.backbone``, ...

Members are joined by commas; of several backbones the other values are JSON of name -> value. They
are written for tools that know them, and read where a table has no others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tokenfocus_ray.errors import ManifestError, shown
from tokenfocus_ray.schema import backbone_label

#: Field of a backbone's record -> the key that it had.
_FIELDS = {
    "package": "version",
    "source": "backbone",
    "revision": "backbone_revision",
    "template": "template",
}
_REMEDY = "give the output of `tokenfocus score` as it was written"


def is_older_key(key: str) -> bool:
    """Whether a key of the metadata is one of these."""
    names = (*_FIELDS.values(), "config", "members", "ensemble", "coverage", "element_threshold")
    return key in {f"tokenfocus.{name}" for name in names}


def to_older_keys(
    backbones: Mapping[str, Mapping[str, Any]],
    members: tuple[str, ...],
    ensemble: Mapping[str, Any] | None,
) -> dict[str, str]:
    """The metadata by these keys.

    Args:
        backbones: Name -> its record.
        members: All names, as they stand in the table.
        ensemble: What made one score of the members'; None for none.
    """
    each = {
        name: {key: own[field] for field, key in _FIELDS.items()}
        | {"config": json.dumps(own["config"])}
        for name, own in backbones.items()
    }
    found = dict(next(iter(each.values())))
    if len(each) > 1:
        found = {key: json.dumps({n: own[key] for n, own in each.items()}) for key in found}
    found["members"] = ",".join(members)
    if ensemble is not None:
        found |= {"ensemble": ensemble["fingerprint"], "coverage": f"{ensemble['coverage']:g}"}
        if (threshold := ensemble["element_threshold"]) is not None:
            found["element_threshold"] = f"{threshold:.17g}"
    return {f"tokenfocus.{key}": value for key, value in found.items()}


def from_older_keys(metadata: Mapping[str, str], where: str) -> dict[str, Any] | None:
    """The inverse, as plain values; None where no member or no backbone is named.

    Raises:
        ManifestError: what the keys hold is not what a job writes.
    """
    own = {k.removeprefix("tokenfocus."): v for k, v in metadata.items() if is_older_key(k)}
    backbone, members = own.get("backbone", ""), own.get("members", "")
    if not backbone or not members:
        return None
    keys = (*_FIELDS.values(), "config")
    if backbone.startswith("{"):  # which is all that tells several from one
        if (names := _mapping(backbone)) is None:
            raise ManifestError(
                f"{where}: the table's metadata names its backbones as {shown(backbone)}; {_REMEDY}"
            )
        if "config" in own and _mapping(own["config"]) is None:
            raise _bad_config(own["config"], where)
        columns = {key: _mapping(own.get(key, "")) or {} for key in keys}
    else:
        names = {backbone_label(backbone): backbone}
        columns = {key: dict.fromkeys(names, own.get(key)) for key in keys}
    configs = {name: _config(columns["config"].get(name), where) for name in names}
    named = _members(members, configs)
    backbones = [
        {"name": name, "members": named[name], "config": configs[name]}
        | {field: columns[key].get(name) or "" for field, key in _FIELDS.items()}
        for name in names
    ]
    ensemble = None
    if "ensemble" in own:
        ensemble = {
            "fingerprint": own["ensemble"],
            "coverage": own.get("coverage"),
            "element_threshold": own.get("element_threshold"),
        }
    return {"backbones": backbones, "ensemble": ensemble}


def _mapping(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _config(text: Any, where: str) -> dict[str, Any]:
    if text is None:
        return {}
    if not isinstance(text, str) or (found := _mapping(text)) is None:
        raise _bad_config(text, where)
    return found


def _bad_config(text: Any, where: str) -> ManifestError:
    return ManifestError(
        f"{where}: the table's metadata says {shown(text)} of how it was scored; {_REMEDY}"
    )


def _members(text: str, configs: Mapping[str, dict[str, Any]]) -> dict[str, tuple[str, ...]]:
    """Backbone -> its members; the configurations know which names have commas in them."""
    prefixes = {name: f"{name}/" if len(configs) > 1 else "" for name in configs}
    known = {name: tuple(one.get("adapters") or ("base",)) for name, one in configs.items()}
    if text == ",".join(f"{prefixes[n]}{m}" for n, own in known.items() for m in own):
        return known
    names = [name for name in text.split(",") if name]
    return {
        backbone: tuple(n.removeprefix(prefix) for n in names if n.startswith(prefix))
        for backbone, prefix in prefixes.items()
    }
