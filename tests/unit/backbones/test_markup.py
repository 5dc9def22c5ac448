from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from tests.support.folders import write_tokenizer
from tokenfocus_ray.backbones import loading, registry
from tokenfocus_ray.backbones.markup import token_fault
from tokenfocus_ray.errors import BackboneError

#: What the families' public templates render for one image and one text, in fewer words.
TEMPLATES = {
    "tiny-qwen2_5_vl": (
        "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are a helpful assistant."
        "<|im_end|>\n{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{% for c in m.content %}{% if c.type == 'image' %}<|vision_start|><|image_pad|>"
        "<|vision_end|>{% else %}{{ c.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
    "tiny-internvl": (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{% for c in m.content %}{% if c.type == 'image' %}<IMG_CONTEXT>\n"
        "{% else %}{{ c.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
}
#: Of a language model's tokenizer: contents are texts, which lists cannot be added to.
TEXT_ALONE = {
    "tiny-qwen2_5_vl": (
        "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}"
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
        "{% endfor %}{{ '<|im_start|>assistant\n' }}"
    ),
    "tiny-internvl": (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
        "{% endfor %}{{ '<|im_start|>assistant\n' }}"
    ),
}
PLACES = ("chat_template.jinja", "chat_template.json", "processor_config.json", "tokenizer")


@pytest.fixture(params=registry.BUILT_IN)
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def folder(name: str, tmp_path: Path) -> Path:
    """A built-in backbone's folder, to be changed."""
    path = tmp_path / "backbone"
    shutil.copytree(registry.WEIGHTS / name, path)
    return path


def write(folder: Path, template: str, place: str = "chat_template.jinja") -> None:
    if place.endswith(".jinja"):
        (folder / place).write_text(template)
    else:
        change(folder, "tokenizer_config.json" if place == "tokenizer" else place, template)


def change(folder: Path, file: str, template: str) -> None:
    path = folder / file
    values = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(values | {"chat_template": template}))


def warned(folder: Path) -> list[str]:
    with patch.object(loading.logger, "warning") as caught:
        loading.load_text(registry.resolve(str(folder)))
    return [text % tuple(values) for text, *values in (call.args for call in caught.call_args_list)]


def refusal(folder: Path) -> str:
    with pytest.raises(BackboneError) as caught:
        loading.load_text(registry.resolve(str(folder)))
    return str(caught.value)


def warning(folder: Path, difference: str) -> str:
    return (
        f"backbone {str(folder)!r}: its chat template {difference}; a model that was tuned with "
        f"its template may score worse so (docs/method.md)"
    )


def test_built_in_backbones_are_not_warned_of(folder: Path) -> None:
    assert warned(folder) == []


@pytest.mark.parametrize("place", PLACES)
def test_a_template_that_asks_alike_is_not_warned_of(folder: Path, name: str, place: str) -> None:
    write(folder, TEMPLATES[name], place)
    assert warned(folder) == []


def test_a_template_for_text_alone_is_not_warned_of(folder: Path, name: str) -> None:
    """Official Qwen2.5-VL tokenizers carry one beside the processor's."""
    write(folder, TEXT_ALONE[name])
    assert warned(folder) == []


def test_the_processors_template_wins_over_the_tokenizers(folder: Path, name: str) -> None:
    write(folder, "{{ 'nothing of the kind' }}", "tokenizer")
    write(folder, TEMPLATES[name], "chat_template.json")
    assert warned(folder) == []


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ["tiny-qwen2_5_vl"], indirect=True)
def test_another_system_prompt_is_warned_of_once(folder: Path, name: str, place: str) -> None:
    write(folder, TEMPLATES[name].replace("a helpful assistant", "Foo, a judge"), place)
    assert warned(folder) == [
        warning(folder, "writes 'Foo, a judge' where 'a helpful assistant' is written here")
    ]


@pytest.mark.parametrize(
    ("name", "found", "instead", "difference"),
    [
        (
            "tiny-internvl",
            "{% for m",
            "<|im_start|>system\nJudge.<|im_end|>\n{% for m",
            "writes 'system\\nJudge.<|im_end|>\\n<|im_start|>' where nothing is written here",
        ),
        (
            "tiny-internvl",
            "<IMG_CONTEXT>\n",
            "<image>\n",
            "writes '<image>' where '<img><IMG_CONTEXT></img>' is written here",
        ),
        (
            "tiny-qwen2_5_vl",
            "assistant\n{% endif %}",
            "assistant\n<think>\n{% endif %}",
            "writes '<think>\\n' where nothing is written here",
        ),
        (
            "tiny-qwen2_5_vl",
            "{{ c.text }}",
            "{{ raise_exception('no texts ' * 20) }}",
            f"cannot be rendered with an image and a question ('{('no texts ' * 20)[:77]}...')",
        ),
    ],
    ids=["system prompt", "image", "thinking", "error"],
    indirect=["name"],
)
def test_a_template_that_asks_otherwise_is_warned_of(
    folder: Path, name: str, found: str, instead: str, difference: str
) -> None:
    assert found in TEMPLATES[name]
    write(folder, TEMPLATES[name].replace(found, instead, 1))
    assert warned(folder) == [warning(folder, difference)]


def test_a_first_token_that_the_template_spells_is_no_difference(folder: Path, name: str) -> None:
    """Llama's templates begin with it, and their tokenizers put it before every text."""
    write_tokenizer(folder, with_bos=True)
    write(folder, "{{ bos_token }}" + TEMPLATES[name])
    assert warned(folder) == []
    write(folder, TEMPLATES[name])
    assert warned(folder) == []


def test_a_first_token_that_only_the_template_has_is_warned_of(folder: Path, name: str) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"bos_token": "<|endoftext|>"}))
    write(folder, "{{ bos_token }}" + TEMPLATES[name])
    assert warned(folder) == [
        warning(folder, "writes '<|endoftext|>' where nothing is written here")
    ]


@pytest.mark.parametrize(
    ("name", "token"),
    [("tiny-qwen2_5_vl", "<|image_pad|>"), ("tiny-qwen2_5_vl", "<|im_start|>"),
     ("tiny-internvl", "<img>"), ("tiny-internvl", "</img>"), ("tiny-internvl", "<|im_end|>")],
    indirect=["name"],
)  # fmt: skip
def test_a_markup_token_that_the_tokenizer_splits_is_refused(folder: Path, token: str) -> None:
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["added_tokens"] = [t for t in tokenizer["added_tokens"] if t["content"] != token]
    path.write_text(json.dumps(tokenizer))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    kept = {k: v for k, v in settings.items() if v != token}
    (folder / "tokenizer_config.json").write_text(json.dumps(kept))
    tokenizer_here = loading.load_tokenizer(registry.resolve(str(folder)))
    pieces = tokenizer_here(token, add_special_tokens=False)["input_ids"]
    assert len(pieces) > 1
    assert refusal(folder) == (
        f"backbone {str(folder)!r}: its tokenizer makes {pieces} of {token!r}, which must be one "
        f"token of its own: take the tokenizer of the checkpoint that this one was made from"
    )


def test_another_image_token_than_the_tokenizers_is_refused(folder: Path, name: str) -> None:
    token, known = {"tiny-qwen2_5_vl": ("<|image_pad|>", 5), "tiny-internvl": ("<IMG_CONTEXT>", 9)}[
        name
    ]
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"image_token_id": 3}))
    assert refusal(folder) == (
        f"backbone {str(folder)!r}: config.json says image_token_id = 3, but its tokenizer has "
        f"{token!r} as {known}: take both from one checkpoint"
    )


def test_a_markup_token_that_merges_with_its_neighbours_is_refused(name: str) -> None:
    """A token of the vocabulary that is not special is one token when it stands alone only."""
    markup = registry.family_class(registry.resolve(name).family).markup
    whole = {token: i for i, token in enumerate(markup.specials)}

    class Tokenizer:
        unk_token_id = None

        def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
            return {"input_ids": [whole.get(text, 99)]}

    wanted = {"tiny-qwen2_5_vl": [0, 1, 0, 2], "tiny-internvl": [0, 1]}[name]
    assert token_fault(markup, Tokenizer(), whole[markup.image_token]) == (
        f"its tokenizer finds the tokens [] in {markup.before_image!r}, where {wanted} stand: take "
        f"the tokenizer of the checkpoint that this one was made from"
    )
