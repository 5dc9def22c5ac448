"""Text is encoded as it stands in the whole request, whatever kind of tokenizer there is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tokenfocus_ray.backbones.base import Backbone
from tokenfocus_ray.errors import BackboneError


def sentencepiece(merges: list[tuple[str, str]]) -> Any:
    """A tokenizer that puts a space before every text, as Llama's and InternLM2's do."""
    characters = [*"\u2581\nTextHowdoes", "<unk>"]
    names = [*dict.fromkeys(characters), *("".join(pair) for pair in merges)]
    vocabulary = {name: i for i, name in enumerate(names)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    return SimpleNamespace(tokenizer=fast, source=SimpleNamespace(name="toy"))


def test_no_space_is_put_before_a_text_inside_a_request() -> None:
    backbone = sentencepiece([("T", "e"), ("Te", "x")])
    ids = Backbone.encode_text(backbone, "Text")
    assert backbone.tokenizer.convert_ids_to_tokens(ids) == ["Tex", "t"]
    alone = backbone.tokenizer("Text", add_special_tokens=False)["input_ids"]
    assert backbone.tokenizer.convert_ids_to_tokens(alone)[0] == "\u2581"


def test_a_tokenizer_that_merges_line_breaks_is_refused() -> None:
    with pytest.raises(BackboneError) as caught:
        Backbone.encode_text(sentencepiece([("\n", "T")]), "Text")
    assert str(caught.value) == (
        "toy's tokenizer merges a line break with the text after it ('Text'), so questions cannot "
        "share a prefix; use another tokenizer"
    )
