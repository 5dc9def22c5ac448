"""Text-to-image alignment scores from vision-language models, on Ray.

The public names load when they are first used: importing this package imports neither torch nor
ray.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenfocus_ray.errors import RowError, TokenFocusError, UserError
    from tokenfocus_ray.schema import Element, ScoreRow
    from tokenfocus_ray.scoring.scorer import AlignmentScorer

__version__ = "0.1.0"

__all__ = [
    "AlignmentScorer",
    "Element",
    "RowError",
    "ScoreRow",
    "TokenFocusError",
    "UserError",
    "__version__",
]

_HOME = {
    "AlignmentScorer": "tokenfocus_ray.scoring.scorer",
    "Element": "tokenfocus_ray.schema",
    "RowError": "tokenfocus_ray.errors",
    "ScoreRow": "tokenfocus_ray.schema",
    "TokenFocusError": "tokenfocus_ray.errors",
    "UserError": "tokenfocus_ray.errors",
}


def __getattr__(name: str) -> object:
    """Loads a public name (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value  # from now on found without this function
    return value


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted({*globals(), *__all__})
