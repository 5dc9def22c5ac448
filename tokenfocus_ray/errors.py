"""The exception tree: every message says what failed, where, the value seen and the remedy.

Two branches, because they end differently:

- ``UserError``: the run cannot go on (a wrong manifest, an unknown backbone, ...). The CLI prints
  the message without a traceback and exits with 2.
- ``RowError``: one row cannot be scored. The row leaves with ``status="unscored"``, the error's
  ``code`` and its message; the run goes on.

All of them survive pickling, since they cross process borders.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable


class TokenFocusError(Exception):
    """Base of every error that this package raises on purpose."""


class UserError(TokenFocusError, ValueError):
    """Something that the user can put right; the run stops before work is lost."""


class ConfigError(UserError):
    """A configuration value is unknown, missing or out of range."""


class ManifestError(UserError):
    """A manifest, label file or score table cannot be read or lacks needed columns."""


class BackboneError(UserError):
    """A backbone is unknown, cannot be loaded or does not fit its configuration."""


class AdapterError(UserError):
    """An adapter cannot be loaded onto the chosen backbone."""


class LevelError(UserError):
    """A level word is not exactly one token of the backbone's tokenizer."""


class OutputError(UserError):
    """The output location is unusable: not empty, not writable, ..."""


class TrainingError(UserError):
    """Some members could not be trained; those that could are kept."""


class DivergedError(UserError, FloatingPointError):
    """Training left the finite numbers; the same steps would leave them again."""


class JobError(UserError):
    """A scoring job ended before all rows were scored; what is committed is kept."""


class RowError(TokenFocusError, ValueError):
    """One row cannot be scored.

    Args:
        code: Stable machine-readable reason, one of ``schema.ERROR_CODES``.
        message: What, where, the value seen, the remedy.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)  # both in args: pickling rebuilds from args
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return self.message


class ImageDecodeError(RowError):
    """The image of a row cannot be fetched or decoded."""


class PromptError(RowError):
    """The prompt or the elements of a row cannot be asked."""


def shown(value: object, length: int = 80) -> str:
    """The value for a message, cut; what it holds is looked at no further than there is room.

    >>> shown(["a", [1, [2, [3, [4]]]]]), len(shown("x" * 999))
    ("['a', [1, [2, [...]]]]", 80)
    """
    try:
        text = _REPR.repr(value)
    except ValueError:  # a number of more digits than Python writes
        text = f"<{type(value).__name__}>"
    return text if len(text) <= length else f"{text[: length - 3]}..."


_REPR = reprlib.Repr()
_REPR.maxlevel, _REPR.maxdict, _REPR.maxlist, _REPR.maxtuple, _REPR.maxset = 3, 6, 6, 6, 6
_REPR.maxstring = _REPR.maxlong = _REPR.maxother = 200


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence that names the nearest known names, or all of them.

    >>> did_you_mean("tiny-qwen", ["tiny-qwen2_5_vl", "tiny-internvl"])
    "Did you mean 'tiny-qwen2_5_vl'? Known: tiny-internvl, tiny-qwen2_5_vl."
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return f"{hint}Known: {', '.join(names)}."
