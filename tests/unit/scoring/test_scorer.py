from __future__ import annotations

import dataclasses
import io
import math
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from tokenfocus_ray.config import ScoringConfig
from tokenfocus_ray.errors import BackboneError, ConfigError, UserError
from tokenfocus_ray.schema import ScoreRow, sample_id
from tokenfocus_ray.scoring import scorer as module
from tokenfocus_ray.scoring.scorer import AlignmentScorer
from tokenfocus_ray.tables.members import ScoreTableInfo

_RNG = np.random.default_rng(0)
PICTURE = _RNG.integers(0, 256, size=(48, 64, 3), dtype=np.uint8)
OTHER = np.full((32, 32, 3), 200, dtype=np.uint8)
PROMPT, ELEMENTS = "one red circle on snow", ["circle (object)", "red circle (color)"]
KNOWN_OPTIONS = (
    "Known: adapters, backbone, dtype, element_levels, max_visual_tokens, normalization, "
    "revision, structure, total_levels."
)


def png(image: np.ndarray[Any, Any] = PICTURE) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that claims a size; nobody should get as far as its pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def one(
    scorer: AlignmentScorer, image: Any = PICTURE, prompt: Any = PROMPT, *rest: Any
) -> ScoreRow:
    (row,) = scorer.score([image], [prompt], *([value] for value in rest))
    return row


BAD_IMAGES: dict[str, tuple[Any, str]] = {
    "none": (None, "image_missing"),
    "nan": (math.nan, "image_missing"),
    "empty path": ("", "image_missing"),
    "no such file": ("no/such/file.png", "image_missing"),
    "struct of nothing": ({"bytes": None, "path": None}, "image_missing"),
    "folder": ("/", "image_not_a_file"),
    "scheme": ("gopher://host/a.png", "image_unreadable"),
    "null character": ("a\0b.png", "image_unreadable"),
    "no bytes": (b"", "image_corrupt"),
    "text": (b"hello, I am no image", "image_corrupt"),
    "cut off": (png()[:500], "image_corrupt"),
    "header only": (png()[:40], "image_corrupt"),
    "shape": (np.zeros((2, 4, 4, 3), np.uint8), "image_corrupt"),
    "type": (np.zeros((4, 4, 3), np.int64), "image_corrupt"),
    "out of range": (np.full((4, 4, 3), 2.0), "image_corrupt"),
    "nan pixels": (torch.full((3, 4, 4), math.nan), "image_corrupt"),
    "no pixels": (np.zeros((0, 4, 3), np.uint8), "image_corrupt"),
    "object": (object(), "image_corrupt"),
    "bomb": (png_of_size(60_000, 60_000), "image_too_large"),
    "thin": (np.zeros((1, 201, 3), np.uint8), "image_aspect_ratio"),
}


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_bad_image_marks_its_row_only(name: str, scorer: AlignmentScorer) -> None:
    bad, code = BAD_IMAGES[name]
    before, row, after = scorer.score([PICTURE, bad, OTHER], [PROMPT] * 3, [ELEMENTS] * 3)
    assert (before.status, row.status, after.status) == ("ok", "unscored", "ok")
    assert row.error_code == code
    assert row.error_message


def test_unscored_row_is_nan_and_aligned(scorer: AlignmentScorer) -> None:
    row = one(scorer, b"", PROMPT, ELEMENTS)
    assert math.isnan(row.score)
    assert [math.isnan(score) for score in row.element_scores] == [True, True]
    assert (row.member_scores, row.level_probs, row.member_element_scores) == ([], [], [])


def test_message_names_the_file(scorer: AlignmentScorer) -> None:
    assert "'no/such/file.png'" in (one(scorer, "no/such/file.png").error_message or "")


@pytest.mark.parametrize("prompt", ["", "  \n\t", None], ids=repr)
def test_empty_prompt(prompt: str | None, scorer: AlignmentScorer) -> None:
    row = one(scorer, PICTURE, prompt, ELEMENTS)
    assert (row.status, row.error_code) == ("unscored", "prompt_empty")
    assert row.error_message == (
        f"the prompt is empty (got {prompt!r}); give the text the image was made from"
    )


def test_empty_prompt_keeps_the_size_of_its_image(scorer: AlignmentScorer) -> None:
    row = one(scorer, PICTURE, "")
    assert (row.width, row.height) == (64, 48)
    assert row.n_visual_tokens > 0


def test_prompt_longer_than_the_context(scorer: AlignmentScorer) -> None:
    """Never cut in silence."""
    row = one(scorer, PICTURE, "circle " * 5000, ELEMENTS)
    assert (row.status, row.error_code) == ("unscored", "prompt_too_long")
    message = re.fullmatch(
        r"image, prompt and longest question need (\d+) tokens \((\d+) of them for the image\), "
        r"but tiny-qwen2_5_vl takes 2048; shorten the prompt or lower max_visual_tokens",
        row.error_message or "",
    )
    assert message is not None
    assert int(message[1]) > 2048
    assert int(message[2]) == row.n_visual_tokens


def test_one_element_longer_than_the_context(scorer: AlignmentScorer) -> None:
    row = one(scorer, PICTURE, PROMPT, ["circle", "circle " * 5000])
    assert (row.status, row.error_code) == ("unscored", "prompt_too_long")


def test_many_elements_are_no_long_prompt_without_structure(
    scorer: AlignmentScorer,
) -> None:
    """Each question stands alone behind the prefix: their sum may exceed the context."""
    bare = AlignmentScorer(
        scorer.backbone, scorer.config.model_copy(update={"structure": False}), token_budget=2048
    )
    row = one(bare, PICTURE, PROMPT, [f"thing {i}" for i in range(150)])
    assert row.status == "ok"
    assert len(row.element_scores) == 150


@pytest.mark.parametrize(
    "prompt",
    [
        "\U0001f437\U0001f680 pigs \U0001f469\u200d\U0001f680",
        "\u05e2\u05d9\u05d2\u05d5\u05dc \u05d0\u05d3\u05d5\u05dd",
        "\u062f\u0627\u0626\u0631\u0629 \u062d\u0645\u0631\u0627\u0621",
        "\u4e00\u4e2a\u7ea2\u8272\u7684\u5706",
        "e\u0301\u0302\u0303 zalgo",
        "\0 control \x1b[31m",
        "{x} {prompt} %s",
        "<|im_end|><|image_pad|><|endoftext|>",
        "a\nb\r\nc",
    ],
    ids=ascii,
)
def test_any_text_scores(prompt: str, scorer: AlignmentScorer) -> None:
    row = one(scorer, PICTURE, prompt, [prompt])
    assert (row.status, row.error_message) == ("ok", None)
    assert 1.0 <= row.score <= 5.0


def test_duplicate_elements_are_both_scored(scorer: AlignmentScorer) -> None:
    row = one(scorer, PICTURE, PROMPT, ["circle", "star", "circle"])
    first, _, last = row.element_scores
    assert first == pytest.approx(last, abs=1e-6)


@pytest.mark.parametrize("elements", [None, [], "", "[]"], ids=repr)
def test_no_elements(elements: Any, scorer: AlignmentScorer) -> None:
    row = one(scorer, PICTURE, PROMPT, elements)
    assert (row.status, row.element_scores, row.member_element_scores) == ("ok", [], [[]])


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        (7, "elements must be a list, got int: 7"),
        (["a", ""], "an element's text is empty: ''"),
        ("[1", "elements are not JSON (Expecting ',' delimiter: line 1 column 3 (char 2)): '[1'"),
    ],
    ids=repr,
)
def test_bad_elements(elements: Any, message: str, scorer: AlignmentScorer) -> None:
    row = one(scorer, PICTURE, PROMPT, elements)
    assert (row.status, row.error_code) == ("unscored", "elements_invalid")
    assert row.error_message == message


def test_structure_reaches_the_model(scorer: AlignmentScorer) -> None:
    """The prompt type is in the prefix, so the answer moves with it."""
    real, synthetic = scorer.score([PICTURE] * 2, [PROMPT] * 2, None, ["real", "synthetic"])
    assert real.score != synthetic.score


def test_what_a_row_says_of_its_answer(scorer: AlignmentScorer) -> None:
    row = one(scorer, PICTURE, PROMPT, ELEMENTS)
    (probs,) = row.level_probs
    assert sum(probs) == pytest.approx(1.0, abs=1e-6)
    assert row.score == pytest.approx(sum(v * p for v, p in zip(range(1, 6), probs, strict=True)))
    assert row.entropy == pytest.approx([-sum(p * math.log(p) for p in probs)], abs=1e-5)
    assert 0 < row.level_mass[0] <= 1
    assert all(0 <= score <= 1 for score in row.element_scores)


def test_one_member_is_the_mean(scorer: AlignmentScorer) -> None:
    row = one(scorer, PICTURE, PROMPT, ELEMENTS)
    assert row.member_scores == [row.score]
    assert row.member_element_scores == [row.element_scores]


@pytest.fixture
def broken_weights(scorer: AlignmentScorer) -> Iterator[None]:
    weight = scorer.backbone.language_model.norm.weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight.fill_(math.nan)
    yield
    with torch.no_grad():
        weight.copy_(kept)


@pytest.mark.usefixtures("broken_weights")
def test_nan_in_weights(scorer: AlignmentScorer) -> None:
    row = one(scorer, PICTURE, PROMPT, ELEMENTS)
    assert (row.status, row.error_code) == ("unscored", "score_not_finite")
    assert row.error_message == (
        "members ['base'] answered with NaN or infinity; try dtype=float32, and check that the "
        "adapter was trained without divergence"
    )
    assert math.isnan(row.score)
    assert [math.isnan(score) for score in row.element_scores] == [True, True]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("prompts", ([PROMPT],)),
        ("elements", ([PROMPT] * 2, [ELEMENTS])),
        ("prompt_types", ([PROMPT] * 2, None, ["real"])),
    ],
)
def test_lists_of_different_lengths(
    name: str, arguments: tuple[Any, ...], scorer: AlignmentScorer
) -> None:
    message = f"2 images but 1 {name}; give one for each image"
    with pytest.raises(ValueError, match=f"^{message}$"):
        scorer.score([PICTURE, OTHER], *arguments)


def test_no_images(scorer: AlignmentScorer) -> None:
    assert scorer.score([], []) == []


def test_rows_come_in_order_over_windows(
    scorer: AlignmentScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WINDOW", 2)
    images: list[Any] = [PICTURE, b"", OTHER, PICTURE, None]
    prompts = ["one", "two", "a very much longer prompt than the others", "four", "five"]
    rows = scorer.score(images, prompts)
    assert [row.error_code for row in rows] == [None, "image_corrupt", None, None, "image_missing"]
    for i in (0, 2, 3):
        alone = one(scorer, images[i], prompts[i])
        assert rows[i].sample_id == alone.sample_id
        assert rows[i].score == pytest.approx(alone.score, abs=1e-5)


def test_every_pair_of_a_call(scorer: AlignmentScorer) -> None:
    texts = [PROMPT, "", "two blue stars"]
    scores = scorer([PICTURE, b"no image", OTHER], texts)
    assert (scores.dtype, scores.shape) == (torch.float32, (3, 3))
    expected = [
        [one(scorer, image, text).score for text in texts] for image in (PICTURE, b"", OTHER)
    ]
    torch.testing.assert_close(scores, torch.tensor(expected), equal_nan=True, atol=1e-5, rtol=0.0)
    assert scores[1].isnan().all()
    assert scores[:, 1].isnan().all()


@pytest.mark.parametrize(("m", "n"), [(0, 2), (2, 0)])
def test_call_with_nothing(m: int, n: int, scorer: AlignmentScorer) -> None:
    assert scorer([PICTURE] * m, [PROMPT] * n).shape == (m, n)


def test_every_kind_of_source_scores_the_same(scorer: AlignmentScorer, tmp_path: Path) -> None:
    path = tmp_path / "a picture.png"
    path.write_bytes(png())
    chw = torch.from_numpy(PICTURE.copy()).permute(2, 0, 1)
    sources: dict[str, Any] = {
        "path": path,
        "str": str(path),
        "uri": path.as_uri(),
        "bytes": png(),
        "bytearray": bytearray(png()),
        "pil": Image.fromarray(PICTURE),
        "numpy": PICTURE,
        "numpy float": PICTURE / 255,
        "torch": chw,
        "torch float": chw.float() / 255,
        "struct of bytes": {"bytes": png(), "path": None},
        "struct of path": {"bytes": None, "path": str(path)},
    }
    rows = scorer.score(list(sources.values()), [PROMPT] * len(sources))
    scores = {name: row.score for name, row in zip(sources, rows, strict=True)}
    assert scores == pytest.approx(dict.fromkeys(sources, rows[0].score), abs=1e-5)


def test_sizes_are_those_of_the_source(scorer: AlignmentScorer) -> None:
    row = one(scorer, PICTURE)
    assert (row.width, row.height) == (64, 48)


def test_sample_id_of_a_path(scorer: AlignmentScorer, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png())
    assert one(scorer, path).sample_id == sample_id(str(path), PROMPT)


def test_sample_id_of_equal_pixels_is_equal(scorer: AlignmentScorer) -> None:
    assert one(scorer, PICTURE).sample_id == one(scorer, PICTURE.copy()).sample_id


def test_sample_id_of_other_pixels_differs(scorer: AlignmentScorer) -> None:
    assert one(scorer, PICTURE).sample_id != one(scorer, OTHER).sample_id


def test_rows_hold_plain_numbers(scorer: AlignmentScorer) -> None:
    """No NumPy scalar or tensor: rows go to JSON and Arrow."""
    values = dataclasses.asdict(one(scorer, PICTURE, PROMPT, ELEMENTS))

    def leaves(value: Any) -> Iterator[Any]:
        if isinstance(value, list):
            for item in value:
                yield from leaves(item)
        else:
            yield value

    kinds = {type(leaf) for value in values.values() for leaf in leaves(value)}
    assert kinds <= {str, float, int, type(None)}


def test_unknown_option() -> None:
    with pytest.raises(ConfigError) as caught:
        AlignmentScorer.from_pretrained("tiny-qwen2_5_vl", max_visual_token=3)
    assert str(caught.value) == (
        "AlignmentScorer.from_pretrained: unknown key 'max_visual_token'. "
        f"Did you mean 'max_visual_tokens'? {KNOWN_OPTIONS}"
    )


def test_unknown_backbone() -> None:
    with pytest.raises(BackboneError) as caught:
        AlignmentScorer.from_pretrained("tiny-qwen")
    assert str(caught.value) == (
        "unknown backbone 'tiny-qwen': neither built in, nor a folder, nor a hub id (owner/name). "
        "Did you mean 'tiny-qwen2_5_vl'? Known: tiny-internvl, tiny-qwen2_5_vl."
    )


def test_unknown_dtype() -> None:
    with pytest.raises(ConfigError) as caught:
        AlignmentScorer.from_pretrained("tiny-qwen2_5_vl", dtype=torch.int8)
    assert str(caught.value) == (
        "AlignmentScorer.from_pretrained: dtype = 'int8': Input should be 'auto', 'float32', "
        "'bfloat16' or 'float16'"
    )


def test_token_budget_below_one(scorer: AlignmentScorer) -> None:
    with pytest.raises(ConfigError) as caught:
        AlignmentScorer(scorer.backbone, scorer.config, token_budget=0)
    assert str(caught.value) == "token_budget must be at least 1, got 0"


def test_metadata_is_what_a_score_depends_on(scorer: AlignmentScorer) -> None:
    metadata = scorer.metadata
    assert metadata["tokenfocus.backbone"] == "tiny-qwen2_5_vl"
    assert metadata["tokenfocus.members"] == "base"
    assert metadata["tokenfocus.template"] == scorer.template.fingerprint()
    info = ScoreTableInfo.of(pa.schema([]).with_metadata(metadata), "t")
    (own,) = info.backbones
    assert ScoringConfig.parse(own.config) == scorer.config
    assert (info.members, info.scale, info.ensemble) == (("base",), (1, 5), None)
    assert sorted(metadata) == [
        "tokenfocus",
        "tokenfocus.backbone",
        "tokenfocus.backbone_revision",
        "tokenfocus.config",
        "tokenfocus.members",
        "tokenfocus.template",
        "tokenfocus.version",
    ]


@pytest.mark.parametrize("prompt", [math.nan, 5, b"circle"], ids=repr)
def test_prompt_that_is_no_text_marks_its_row_only(prompt: Any, scorer: AlignmentScorer) -> None:
    """NaN is what pandas has for a missing text."""
    bad, good = scorer.score([PICTURE, PICTURE], [prompt, PROMPT])
    assert (bad.status, good.status) == ("unscored", "ok")


@pytest.mark.parametrize("where", ["prompt", "element", "prompt_type"])
def test_text_that_is_no_unicode_marks_its_row_only(where: str, scorer: AlignmentScorer) -> None:
    """json.loads makes such text of a cut escape."""
    sample = {"prompt": PROMPT, "element": "circle", "prompt_type": "real", where: "\ud83d"}
    prompt, element, prompt_type = sample.values()
    bad, good = scorer.score(
        [PICTURE, PICTURE], [prompt, PROMPT], [[element], []], [prompt_type, None]
    )
    assert (bad.status, good.status) == ("unscored", "ok")
    codes = {"prompt": "prompt_empty", "prompt_type": "prompt_type_invalid"}
    assert bad.error_code == codes.get(where, "text_invalid")


def test_adapter_folders_of_one_name_are_both_seen(tmp_path: Path) -> None:
    """Neither is there: whichever error comes, it must know of the first one."""
    folders = [tmp_path / bag / "adapter" for bag in ("bag0", "bag1")]
    with pytest.raises(UserError, match="bag0"):
        AlignmentScorer.from_pretrained("tiny-qwen2_5_vl", adapters=folders)
