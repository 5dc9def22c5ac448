"""An output folder belongs to one configuration: another launch must agree, or is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from tokenfocus_ray.errors import ConfigError, OutputError
from tokenfocus_ray.storage import Store


def check_identity(
    store: Store, file: str, identity: Mapping[str, Any], is_ours: Callable[[str], bool], maker: str
) -> bool:
    """Whether the folder holds an earlier launch of the same configuration.

    Args:
        store: The output folder.
        file: Name of the record in it.
        identity: What makes the output what it is, flat.
        is_ours: Whether a name may stand in the folder without the record.
        maker: Who else would have written it, for messages: "no training".

    Raises:
        ConfigError: it holds one of another, with what differs.
        OutputError: it holds something else.
    """
    if not store.exists(file):
        foreign = [name for name in store.names() if not is_ours(name)]
        if foreign:
            raise OutputError(
                f"output folder {store.uri!r} holds {foreign[0]!r}, which {maker} wrote; "
                f"choose another"
            )
        return False
    earlier = store.read_json(file)
    plain = json.loads(json.dumps(identity))
    keys = [k for k in sorted({*earlier, *plain}) if earlier.get(k) != plain.get(k)]
    if keys:
        shown = "; ".join(f"{k}: {earlier.get(k)!r} there, {plain.get(k)!r} now" for k in keys)
        raise ConfigError(
            f"{store.uri} was begun with another configuration ({shown}); set it back to go on, "
            f"or choose another --out"
        )
    return True
