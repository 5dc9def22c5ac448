"""Folders of pairs for kohya's sd-scripts: ``w/`` and ``l/`` with equal file names.

    OUT/1_pairs/w/ID.png  ID.caption      preferred
    OUT/1_pairs/l/ID.png  ID.caption      the other one
    OUT/1_pairs/ID.json                   margin, confidence, ids, generators, seeds

Both images of a pair have the ending of the preferred one, since their names must be equal; readers
tell a format from the bytes, which stay as they are.

Source: https://github.com/kohya-ss/sd-scripts/pull/1427 (preference data sets).
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from tokenfocus_ray.exports.formats.base import Format, Row, origin

#: ``N_`` is sd-scripts' number of repeats.
FOLDER = "1_pairs"
_ENDINGS = (
    (b"\x89PNG", ".png"), (b"\xff\xd8", ".jpg"), (b"RIFF", ".webp"), (b"BM", ".bmp"),
    (b"\x00\x00\x00", ".avif"),
)  # fmt: skip


def files(pair: Row, seed: int, chosen: bytes, rejected: bytes) -> dict[str, Any]:
    """The pair's files: name below the output folder -> bytes."""
    ids = f"{pair['chosen_id']}\0{pair['rejected_id']}".encode("utf-8", "surrogatepass")
    name = hashlib.blake2b(ids, digest_size=12).hexdigest()
    ending = next((end for start, end in _ENDINGS if chosen.startswith(start)), ".png")
    caption = str(pair["prompt"]).encode()
    about = {
        "prompt": pair["prompt"],
        "margin": pair["margin"],
        "confidence": pair["confidence"],
        "chosen_id": pair["chosen_id"],
        "rejected_id": pair["rejected_id"],
        **origin(pair, "chosen"),
        **origin(pair, "rejected"),
    }
    return {
        f"{FOLDER}/w/{name}{ending}": chosen,
        f"{FOLDER}/l/{name}{ending}": rejected,
        f"{FOLDER}/w/{name}.caption": caption,
        f"{FOLDER}/l/{name}.caption": caption,
        f"{FOLDER}/{name}.json": json.dumps(about, ensure_ascii=False, default=str).encode(),
    }


FORMAT = Format("kohya", "pairs", "folder", with_images=files)
