"""Frozen configuration models: YAML in, an error with a did-you-mean out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tokenfocus_ray.errors import ConfigError, did_you_mean


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def parse(cls, values: Mapping[str, Any], where: str = "configuration") -> Self:
        """Validates values.

        Args:
            values: Keys and values, as from YAML.
            where: Named in the error.

        Raises:
            ConfigError: every wrong key with the value seen, unknown keys with the nearest known.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            problems = []
            for item in error.errors():
                key = ".".join(str(part) for part in item["loc"])
                if item["type"] == "extra_forbidden":
                    problems.append(f"unknown key {key!r}. {did_you_mean(key, cls.model_fields)}")
                else:
                    problems.append(f"{key} = {item['input']!r}: {item['msg']}")
            raise ConfigError(f"{where}: {'; '.join(problems)}") from None

    @staticmethod
    def load_values(path: str | Path) -> dict[str, Any]:
        """Reads keys and values from a YAML file, unchecked.

        Raises:
            ConfigError: the file is missing, or is no YAML mapping.
        """
        try:
            values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: is not YAML: {error}") from error
        if values is None:
            return {}
        if not isinstance(values, dict):
            raise ConfigError(f"{path}: must hold keys and values, got {type(values).__name__}")
        return values


class ScoringConfig(_Frozen):
    """How images are scored. What changes a score is in here; what changes only the pace is not.

    Attributes:
        backbone: Built-in name, folder or hub id.
        revision: Commit, branch or tag of a hub id.
        adapters: Name -> folder of a peft adapter; each is one member. None: the backbone itself.
        dtype: ``auto`` is float32 on a CPU and bfloat16 on a GPU.
        total_levels: Words of the overall score and their values.
        element_levels: Words of an element's score and their values.
        normalization: See :func:`~tokenfocus_ray.scoring.distribution.level_distribution`.
        structure: Whether the prompt carries the elements and the prompt type.
        max_visual_tokens: Most image tokens an image; None: the backbone's own limit.
    """

    backbone: str = Field(min_length=1)
    revision: str | None = None
    adapters: dict[str, str] = Field(default_factory=dict)
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    total_levels: dict[str, float] = Field(
        default={"1": 1.0, "2": 2.0, "3": 3.0, "4": 4.0, "5": 5.0}, min_length=2
    )
    element_levels: dict[str, float] = Field(default={"No": 0.0, "Yes": 1.0}, min_length=2)
    normalization: Literal["logits", "probs"] = "logits"
    structure: bool = True
    max_visual_tokens: int | None = Field(default=None, ge=1)
