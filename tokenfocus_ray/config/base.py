"""What every configuration is: frozen, closed, and read from YAML."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from tokenfocus_ray.errors import ConfigError, shown
from tokenfocus_ray.parsing import problems, read_yaml

#: A path or URI as the user gives it; ``~`` is the home folder.
UserPath = Annotated[str, AfterValidator(os.path.expanduser)]


class Frozen(BaseModel):
    """A configuration that cannot change, and takes no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

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
            raise ConfigError(f"{where}: {problems(error, cls)}") from None

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads and validates a YAML file.

        Raises:
            ConfigError: as :func:`~tokenfocus_ray.parsing.read_yaml` and :meth:`parse`, with the
                file's name.
        """
        return cls.parse(read_yaml(path), str(path))


def mapping_in(value: Any, where: str) -> dict[str, Any]:
    """Keys and values below a key of YAML; none where it is empty.

    Raises:
        ConfigError: it holds something else.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where} must hold keys and values, got {shown(value)}")
    return dict(value)
