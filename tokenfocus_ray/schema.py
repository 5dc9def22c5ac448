"""What crosses every border: samples in, score rows out, and their Arrow schemas.

Shape suffixes used in this package: B batch, Q questions, K levels, M members, N samples,
T tokens, E elements of a sample.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa

Status = Literal["ok", "unscored"]

#: Every reason why a row can be unscored, with what it means.
ERROR_CODES: dict[str, str] = {
    "image_missing": "no image is given, or the file is not there",
    "image_not_a_file": "the image's path is a directory or another special file",
    "image_unreadable": "the file cannot be opened (permissions, I/O error)",
    "storage": "the object store did not answer after several attempts",
    "image_corrupt": "the bytes are no image, or are cut off",
    "image_too_large": "the image has more pixels or bytes than the limit",
    "image_outside": "the image's path leads out of the folder of images (--images-only)",
    "image_aspect_ratio": "the image is too long and thin for the backbone",
    "prompt_empty": "the prompt is null, is no text, or has no visible character",
    "text_invalid": "the prompt or an element is not valid Unicode",
    "type_invalid": "the prompt, id or image is no single text or image, such as a list of two",
    "prompt_too_long": "image, prompt and questions exceed the backbone's context",
    "prompt_type_invalid": "the prompt type is neither real nor synthetic",
    "elements_invalid": "the elements cannot be read, or one of them is empty",
    "score_not_finite": "a member or the ensemble answered with NaN or infinity",
    "scoring_failed": "the scorer raised an error with this row alone",
    "process_died": "the process that worked on the row died, several times",
    "duplicate_id": "an earlier row has the same sample_id",
    "source_corrupt": "the tar shard is cut off or damaged from here on",
    "member_duplicate": "the tar shard has files of this key earlier, apart from these",
    "member_ambiguous": "the tar shard has several images of this key, or none that is meant",
    "member_invalid": "a file of the tar shard is a link or sparse, or its JSON cannot be read",
    "member_too_large": "a file of the tar shard is larger than the limit, or claims to be",
}

#: Most bytes of an encoded image: 8192 x 8192 pixels of 16-bit RGBA, not packed, are as many.
MAX_IMAGE_BYTES = 512 * 2**20

#: A few wrong ratings are errors of their own; of more than this share of the rated rows, and of
#: more rows than this, the ratings are on another scale than the levels'.
_MOST_OUTSIDE, _FEW_ROWS = 0.03, 2


def is_other_scale(n_outside: int, n_rated: int) -> bool:
    """Whether ratings out of range mean another scale, rather than a few mistakes.

    >>> is_other_scale(2, 10), is_other_scale(3, 100), is_other_scale(4, 100)
    (False, False, True)

    Args:
        n_outside: Rows with a rating out of range.
        n_rated: Rows with any rating.
    """
    return n_outside > max(_FEW_ROWS, _MOST_OUTSIDE * n_rated)


@dataclass(frozen=True, slots=True)
class Element:
    """One claim of the prompt that is scored for itself.

    Attributes:
        text: For example ``"pig giants"``.
        type: For example ``"animal"``; empty when unknown.
    """

    text: str
    type: str = ""

    @classmethod
    def parse(cls, label: str) -> Element:
        """Splits EvalMuse's ``"pig giants (animal)"`` at the parenthesis that its end closes.

        >>> Element.parse("a (small) pig (animal)")
        Element(text='a (small) pig', type='animal')
        >>> Element.parse("a dog (pet (animal))")
        Element(text='a dog', type='pet (animal)')
        >>> Element.parse("a pig")
        Element(text='a pig', type='')
        """
        label = label.strip()
        at = _opening(label)
        if at is not None and label[:at].strip():
            return cls(label[:at].strip(), label[at + 1 : -1].strip())
        return cls(label, "")

    def label(self) -> str:
        """The inverse of :meth:`parse`.

        >>> Element("pig giants", "animal").label()
        'pig giants (animal)'
        """
        return f"{self.text} ({self.type})" if self.type else self.text


def _opening(label: str) -> int | None:
    """Where the parenthesis opens that the last character closes."""
    if not label.endswith(")"):
        return None
    depth = 0
    for at in range(len(label) - 1, -1, -1):
        depth += (label[at] == ")") - (label[at] == "(")
        if not depth:
            return at
    last = label.rfind("(")  # one more is closed than opened
    return None if last < 0 else last


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """The result for one sample; one row out for each row in.

    ``score`` is NaN and ``error_code`` is set where ``status`` is ``"unscored"``; never 0, never a
    dropped row. Lists are over members (M) first.

    Attributes:
        sample_id: Given, or :func:`sample_id`.
        status: ``"ok"`` or ``"unscored"``.
        error_code: A key of :data:`ERROR_CODES`, or None.
        error_message: What, where, value seen, remedy; or None.
        score: Expected alignment score, mean of the members, on the scale of the total levels
            (1..5 by default).
        member_scores: [M] expected scores.
        level_probs: [M][K] closed-set probabilities of the total question.
        level_mass: [M] probability of all K level tokens together in the full vocabulary.
        entropy: [M] entropy of ``level_probs`` in nats.
        element_scores: [E] expected element scores in 0..1, mean of the members, aligned with the
            sample's elements; NaN where unscored.
        member_element_scores: [M][E].
        width: Width of the source image in pixels, 0 when unknown.
        height: Height of the source image in pixels, 0 when unknown.
        n_visual_tokens: Number of image tokens that the language model saw.
    """

    sample_id: str
    status: Status
    error_code: str | None = None
    error_message: str | None = None
    score: float = math.nan
    member_scores: list[float] = field(default_factory=list)
    level_probs: list[list[float]] = field(default_factory=list)
    level_mass: list[float] = field(default_factory=list)
    entropy: list[float] = field(default_factory=list)
    element_scores: list[float] = field(default_factory=list)
    member_element_scores: list[list[float]] = field(default_factory=list)
    width: int = 0
    height: int = 0
    n_visual_tokens: int = 0


_F, _LF = pa.float32(), pa.list_(pa.float32())

ELEMENT_TYPE = pa.struct([("text", pa.string()), ("type", pa.string())])

_SCORE_COLUMNS: dict[str, pa.DataType] = {
    "sample_id": pa.string(),
    "status": pa.string(),
    "error_code": pa.string(),
    "error_message": pa.string(),
    "score": _F,
    "member_scores": _LF,
    "level_probs": pa.list_(_LF),
    "level_mass": _LF,
    "entropy": _LF,
    "element_scores": _LF,
    "member_element_scores": pa.list_(_LF),
    "width": pa.int32(),
    "height": pa.int32(),
    "n_visual_tokens": pa.int32(),
}
#: The columns that scoring adds; everything else in the input passes through.
SCORE_SCHEMA = pa.schema(_SCORE_COLUMNS)

#: The columns that an ensemble adds, and fills ``score`` and ``element_scores`` anew.
ENSEMBLE_COLUMNS: dict[str, pa.DataType] = {
    "score_low": _F,
    "score_high": _F,
    "element_low": _LF,
    "element_high": _LF,
    "element_present": pa.list_(pa.bool_()),
}


def sample_id(image_ref: str | bytes, prompt: str) -> str:
    """Stable id of a sample that brings none: 128 bits of SHA-256 over image reference and prompt.

    Args:
        image_ref: The image's URI, or its encoded bytes when it has no URI.
        prompt: The text prompt.

    Returns:
        32 hexadecimal digits.
    """
    # surrogatepass: an id must exist for broken text too, whose row is then unscored
    ref = image_ref.encode("utf-8", "surrogatepass") if isinstance(image_ref, str) else image_ref
    text = prompt.encode("utf-8", "surrogatepass")
    return hashlib.sha256(len(ref).to_bytes(8, "big") + ref + text).hexdigest()[:32]


def backbone_label(backbone: str) -> str:
    """A backbone's name as part of file names and columns.

    >>> backbone_label("Qwen/Qwen2.5-VL-7B-Instruct"), backbone_label("/models/mine/")
    ('Qwen2_5-VL-7B-Instruct', 'mine')
    """
    return backbone.rstrip("/").rpartition("/")[2].replace(".", "_")


def parse_elements(value: Any) -> list[Element] | None:
    """Elements from any of the shapes in which manifests carry them.

    Args:
        value: None, a list of strings (``"pig (animal)"``), of mappings (``text``, ``type``) or of
            :class:`Element`, a mapping whose keys are EvalMuse labels (a struct column gives every
            row the keys of all rows, so keys without a value are left out), or a JSON string of
            one of these.

    Returns:
        The elements in their order, duplicates kept; None where there are none.

    Raises:
        ValueError: when the value has another shape or an element's text is empty.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str):
        if not value.strip():
            return None
        try:
            value = json.loads(value)
        except (json.JSONDecodeError, RecursionError) as error:  # deeply nested
            raise ValueError(f"elements are not JSON ({error}): {value[:80]!r}") from None
        if value is None:
            return None
    if isinstance(value, Mapping):
        given = [key for key, item in value.items() if item is not None]
        value = given or list(value)
    elif hasattr(value, "tolist"):  # numpy, as pandas hands lists out
        value = value.tolist()
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
        raise ValueError(f"elements must be a list, got {type(value).__name__}: {value!r:.80}")
    elements = [_one_element(item) for item in value]
    return elements or None


def _one_element(item: Any) -> Element:
    if isinstance(item, Element):
        element = item
    elif isinstance(item, str):
        element = Element.parse(item)
    elif isinstance(item, Mapping) and isinstance(item.get("text"), str):
        kind = item.get("type")
        element = Element(item["text"].strip(), kind.strip() if isinstance(kind, str) else "")
    else:
        raise ValueError(f"an element must be a string or have a 'text', got {item!r:.80}")
    if not element.text.strip():
        raise ValueError(f"an element's text is empty: {item!r:.80}")
    return element
