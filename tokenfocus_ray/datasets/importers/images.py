"""Images that a user made of a benchmark's prompts: which is of which, by its name.

images/{id}.png              id: the prompt's
images/{id}/{n}.png          n: which of several of a prompt
images/{index}.png           index: number of the prompt in the file, from 0, zeros before it or not
images/{generator}/{id}.*    generator: becomes a column
paths.json                   {"the prompt, or its id": "path" or ["path", ...]}
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from tokenfocus_ray.datasets.folders import find_input
from tokenfocus_ray.datasets.importers.rows import absolute, spoiled
from tokenfocus_ray.datasets.names import is_image
from tokenfocus_ray.errors import ConfigError, ManifestError, did_you_mean
from tokenfocus_ray.say import Say
from tokenfocus_ray.schema import sample_id
from tokenfocus_ray.storage import Store, public
from tokenfocus_ray.tables.text import ERROR_CODE, ERROR_MESSAGE

#: Field of a pattern -> column that it is looked up in.
_KEYS = {"id": "prompt_id", "index": "prompt_index"}
#: Fields that tell images of one prompt apart.
_APART = ("generator", "n")
_FIELD = re.compile(r"\{(\w+)(?::\w*)?\}|(\*)")
_NO_FIELDS = ("sample_id", "prompt", "image_uri", "prompt_id", ERROR_CODE, ERROR_MESSAGE)
#: Tried in this order where a folder is given and no pattern.
_USUAL = ("{id}.*", "{id}/{n}.*")


@dataclass(frozen=True, slots=True)
class Image:
    """An image of a prompt.

    Attributes:
        row: Of the prompt.
        path: From where relative paths start.
        fields: What its name says beside.
    """

    row: int
    path: str
    fields: Mapping[str, str]


def join_images(table: pa.Table, images: str, say: Say) -> pa.Table:
    """A row for each image of each prompt; a prompt without one keeps its row, with the reason.

    Args:
        table: Prompts, with an empty ``image_uri``.
        images: Folder, pattern of names below a folder, or a ``.json`` of paths.
        say: Takes lines about images that are of no prompt.

    Raises:
        ConfigError: the pattern has unknown fields, or does not tell prompts apart.
        ManifestError: there is no such folder, or no image is of any prompt.
    """
    if images.lower().endswith(".json"):
        base, found, passed = _listed(table, images)
        how = "the prompts and ids in it"
    else:
        base, pattern = split_pattern(images)
        base, found, passed, how = _named(table, base, pattern)
    if not found:
        first = f"; the first is {passed[0]!r}" if passed else ""
        raise ManifestError(
            f"{public(images)}: none of {len(passed):,} images is of any of {table.num_rows:,} "
            f"prompts by {how}{first}. Give the pattern of their names, such as FOLDER/{{id}}.png, "
            f"FOLDER/{{id}}/{{n}}.png or FOLDER/{{index}}.png"
        )
    if passed:
        say(
            f"{public(images)}: images of no prompt by {how}: {len(passed):,}, such as "
            f"{passed[0]!r}"
        )
    return _rows(table, found, base, f"{public(images)} has no image of it by {how}")


def split_pattern(images: str) -> tuple[str, str]:
    """Folder, and pattern below it; the pattern is empty where there is none.

    >>> split_pattern("s3://bucket/a/{id}/{n}.png"), split_pattern("images")
    (('s3://bucket/a', '{id}/{n}.png'), ('images', ''))
    """
    first = _FIELD.search(images)
    if first is None:
        return images, ""
    folder, _, _ = images[: first.start()].rpartition("/")
    root = "/" if images.startswith("/") and not folder else "."
    return folder or root, images[len(folder) + 1 if folder or root == "/" else 0 :]


def matcher(pattern: str, columns: Sequence[str]) -> re.Pattern[str]:
    """Matches the names that a pattern means.

    Args:
        pattern: Names in braces are fields; ``*`` is anything but a slash.
        columns: Of the table, which may be fields too.

    Raises:
        ConfigError: an unknown field, or none that tells prompts apart.
    """
    known = [*_KEYS, *_APART, *columns]
    out, at, seen = "", 0, set[str]()
    for found in _FIELD.finditer(pattern):
        out += re.escape(pattern[at : found.start()])
        at, name = found.end(), found[1]
        if name is None:
            out += "[^/]*"
        elif name not in known:
            raise ConfigError(
                f"--images {pattern}: no such field {{{name}}}. {did_you_mean(name, known)}"
            )
        elif name in seen:
            out += f"(?P={name})"
        else:
            ends = pattern[at : at + 1]
            alone = out.endswith("/") or not out
            number = name == "index" or (name == "n" and not (alone and ends in ("/", ".", "")))
            out += f"(?P<{name}>{'[0-9]+' if number else '[^/]+'})"
            seen.add(name)
    if not seen - set(_APART):
        raise ConfigError(
            f"--images {pattern}: nothing in it says which prompt an image is of; use {{id}} or "
            f"{{index}}"
        )
    return re.compile(out + re.escape(pattern[at:]), re.IGNORECASE | re.DOTALL)


def _named(table: pa.Table, folder: str, pattern: str) -> tuple[str, list[Image], list[str], str]:
    store = Store.of(folder)
    if not store.is_folder():
        raise ManifestError(f"image folder {public(folder)!r} is not a directory")
    names = [name for name in sorted(find_input(store).sizes) if is_image(name)]
    tried = [pattern] if pattern else list(_USUAL)
    every = [(one, *_match(table, names, one)) for one in tried]
    fits = [one for one in every if one[1]]
    if len(fits) > 1:
        raise ConfigError(
            f"--images {folder}: images there are named by {fits[0][0]} and by {fits[1][0]}; name "
            f"one: --images {folder}/{fits[0][0]}"
        )
    one, found, passed = fits[0] if fits else every[0]
    return store.absolute, found, passed, one if fits or pattern else " or ".join(tried)


def _match(table: pa.Table, names: Sequence[str], pattern: str) -> tuple[list[Image], list[str]]:
    own = [f.name for f in table.schema if pa.types.is_string(f.type) and f.name not in _NO_FIELDS]
    rule = matcher(pattern, own)
    fields = [name for name in rule.groupindex if name not in _APART]
    rows = _keys(table, [_KEYS.get(name, name) for name in fields], pattern)
    found: list[Image] = []
    passed: list[str] = []
    for name in names:
        match = rule.fullmatch(name)
        key = tuple(_key(f, match[f]) for f in fields) if match else ()
        if match is None or key not in rows:
            passed.append(name)
        else:
            beside = {f: match[f] for f in _APART if f in rule.groupindex}
            found.append(Image(rows[key], name, beside))
    return found, passed


def _key(field: str, value: str) -> Any:
    return int(value) if field == "index" else value


def _keys(table: pa.Table, columns: Sequence[str], pattern: str) -> dict[tuple[Any, ...], int]:
    rows: dict[tuple[Any, ...], int] = {}
    for row, key in enumerate(zip(*(table[c].to_pylist() for c in columns), strict=True)):
        if key in rows:
            raise ConfigError(
                f"--images {pattern}: it does not tell prompts {rows[key]} and {row} apart, both "
                f"are {', '.join(map(repr, key))}; put {{index}} or another column into it"
            )
        rows[key] = row
    return rows


def _listed(table: pa.Table, uri: str) -> tuple[str, list[Image], list[str]]:
    """Of a JSON object of prompts, or their ids, and paths."""
    store, where = Store.of(uri), public(uri)
    try:
        paths = json.loads(store.read_bytes())
    except FileNotFoundError:
        raise ManifestError(f"{where!r} does not exist; check the path") from None
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{where}: not JSON ({error}); give an object of paths") from None
    if not isinstance(paths, dict):
        raise ManifestError(f"{where}: holds a {type(paths).__name__}; give an object of paths")
    rows: dict[str, list[int]] = {}
    for name in ("prompt", "prompt_id"):  # an id wins over a prompt of the same text
        own: dict[str, list[int]] = {}
        values: list[Any] = table[name].to_pylist()
        for row, value in enumerate(values):
            own.setdefault(value, []).append(row)
        rows |= own
    found: list[Image] = []
    passed: list[str] = []
    for key, value in paths.items():
        several = value if isinstance(value, list) else [value]
        if not all(isinstance(path, str) and path for path in several):
            raise ManifestError(f"{where}: {key!r:.80} is {value!r:.80}; give a path, or a list")
        if key not in rows:
            passed += several
        for row in rows.get(key, ()):
            beside = [{"n": str(i)} if len(several) > 1 else {} for i in range(len(several))]
            found += [Image(row, p, f) for p, f in zip(several, beside, strict=True)]
    return store.absolute.rpartition("/")[0], found, passed


def _rows(table: pa.Table, found: Sequence[Image], base: str, missing: str) -> pa.Table:
    """The prompts in their order, each with its images in the order of their names."""
    by_row: dict[int, list[Image]] = {}
    for image in found:
        by_row.setdefault(image.row, []).append(image)
    order: list[tuple[int, Image | None]] = [
        (row, image)
        for row in range(table.num_rows)
        for image in (
            *sorted(by_row.get(row, ()), key=_order),
            *([] if row in by_row else [None]),
        )
    ]
    prompts: list[Any] = table["prompt"].to_pylist()
    ids: list[Any] = table["sample_id"].to_pylist()
    own: list[Any] = table["prompt_id"].to_pylist()
    made = table.take(pa.array([row for row, _ in order], pa.int64()))
    columns: dict[str, Any] = {
        "sample_id": [
            sample_id(f"{own[row]}/{image.path}", prompts[row] or "") if image else ids[row]
            for row, image in order
        ],
        "image_uri": [image and absolute(image.path, base) for _, image in order],
    }
    for name, field in (("generator", "generator"), ("image_n", "n")):
        if any(field in image.fields for image in found):
            columns[name] = [image and image.fields.get(field) for _, image in order]
    for name, values in columns.items():
        column = pa.array(values, pa.string())
        if name in made.column_names:
            made = made.set_column(made.column_names.index(name), name, column)
        else:
            made = made.add_column(made.num_columns - 2, name, column)
    reasons = [None if image else ("image_missing", missing) for _, image in order]
    return spoiled(made, reasons)


def _order(image: Image) -> Any:
    """By generator, number and path; numbers in names by their size."""
    fields = (image.fields.get("generator", ""), image.fields.get("n", ""), image.path)
    return [_natural(text) for text in fields]


def _natural(text: str) -> list[tuple[int, str]]:
    parts = re.split(r"([0-9]+)", text)
    return [(int(part), part) if i % 2 else (0, part) for i, part in enumerate(parts)]
