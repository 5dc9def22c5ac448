"""What users and files give, checked: YAML within bounds, and pydantic's findings in words.

Nothing here follows an alias or a nested value further than a message has room for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from tokenfocus_ray.errors import ConfigError, did_you_mean, shown

#: Of a YAML file: levels of nesting, and values with every alias written out.
_DEPTH, _VALUES = 32, 10_000
#: Problems of one file that are told.
_PROBLEMS = 10


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Keys and values of a YAML file, unchecked.

    Raises:
        ConfigError: the file is missing, or is no YAML mapping of bounded size, or a key in it
            stands twice.
    """
    try:
        loader = yaml.SafeLoader(Path(path).read_text(encoding="utf-8"))
        node = loader.get_single_node()
        if node is None:
            return {}
        _check(node, str(path))
        values = loader.construct_document(node)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except RecursionError:
        raise ConfigError(_too_deep(str(path))) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not YAML: {error}") from error
    except ConfigError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError) as error:  # a date of month 13
        raise ConfigError(
            f"{path}: holds a value that YAML cannot make ({type(error).__name__}: {error!s:.80}); "
            f"put quotes around it"
        ) from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: must hold keys and values, got {type(values).__name__}")
    return values


def _check(root: yaml.Node, where: str) -> None:
    """Bounds of the graph of nodes, in which an alias is one more way to a node."""
    sizes: dict[int, int] = {}

    def size(node: yaml.Node, depth: int) -> int:
        if depth > _DEPTH:  # also of a node that holds itself
            raise ConfigError(_too_deep(where))
        if id(node) in sizes:
            return sizes[id(node)]
        below: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            _check_keys(node, where)
            below = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            below = node.value
        total = 1 + sum(size(part, depth + 1) for part in below)
        if total > _VALUES:
            raise ConfigError(
                f"{where}: holds more than {_VALUES:,} values, aliases written out; a "
                f"configuration needs a few dozen: give another file"
            )
        sizes[id(node)] = total
        return total

    size(root, 0)


def _check_keys(node: yaml.MappingNode, where: str) -> None:
    seen: set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
            continue
        if key.value in seen:
            raise ConfigError(
                f"{where}: key {shown(key.value)} stands twice, the second time in line "
                f"{key.start_mark.line + 1}; keep one of them"
            )
        seen.add(key.value)


def _too_deep(where: str) -> str:
    return f"{where}: is nested deeper than {_DEPTH} levels; a configuration needs a few"


def problems(error: ValidationError, model: type[BaseModel]) -> str:
    """What pydantic found, in one line.

    Args:
        error: Of a validation by the model.
        model: Whose known keys are named.

    Returns:
        Every wrong key with the value seen, unknown keys with the nearest known.
    """
    found = error.errors(include_url=False)
    told = [_problem(item, model) for item in found[:_PROBLEMS]]
    if len(found) > _PROBLEMS:
        told.append(f"and {len(found) - _PROBLEMS} more")
    return "; ".join(told)


def _problem(item: Any, model: type[BaseModel]) -> str:
    *above, last = item["loc"] or [""]
    key = ".".join(_short(str(part)) for part in item["loc"])
    match item["type"]:
        case "extra_forbidden":
            hint = did_you_mean(_short(str(last)), _known_keys(model, above))
            return f"unknown key {key!r}. {hint}"
        case "missing":
            return f"{key}: {item['msg']}"
        case "value_error":  # a validator of ours, which names what it saw
            return ": ".join(filter(None, [key, str(item["ctx"]["error"])]))
        case _:
            return f"{key} = {shown(item['input'])}: {item['msg']}"


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."


def _known_keys(annotation: Any, path: Sequence[str | int]) -> Iterable[str]:
    """The keys of the model at a path below an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = annotation.model_fields
        return fields if not path else _known_keys(fields[str(path[0])].annotation, path[1:])
    inner = get_args(annotation)
    if get_origin(annotation) is dict:
        return _known_keys(inner[1], path[1:])
    return _known_keys(inner[0], path)  # X | None
