"""A resolved backbone from its files: weights, tokenizer, configuration, image spec."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from tokenfocus_ray.backbones.base import Backbone, Source
from tokenfocus_ray.backbones.checkpoint import check_config, quiet_report, tensor_faults
from tokenfocus_ray.backbones.files import (
    PREPROCESSORS,
    not_loadable,
    read_json,
    read_preprocessor,
    refuse_own_code,
)
from tokenfocus_ray.backbones.images import ImageSpec
from tokenfocus_ray.backbones.markup import template_difference, token_fault
from tokenfocus_ray.backbones.preprocessing import UnfollowedError
from tokenfocus_ray.backbones.registry import family_class
from tokenfocus_ray.errors import BackboneError

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

TOKENIZER_CONFIG = "tokenizer_config.json"
#: What loading raises; AssertionError is torch's, for a device that its build does not have.
_LOAD_ERRORS = (OSError, ValueError, RuntimeError, ImportError, AssertionError, SafetensorError)


def load(
    source: Source,
    *,
    device: torch.device | str,
    dtype: torch.dtype,
    max_visual_tokens: int | None = None,
) -> Backbone:
    """Loads the weights of a resolved backbone.

    Args:
        source: From :func:`~tokenfocus_ray.backbones.registry.resolve`.
        device: Where the weights go.
        dtype: Their floating type.
        max_visual_tokens: Most image tokens an image; the family's own limit where None.

    Raises:
        BackboneError: naming the folder or id and the cause.
    """
    import transformers

    cls = family_class(source.family)
    _, tokenizer = load_text(source)
    spec = image_spec(source, max_visual_tokens)
    try:
        with quiet_report():
            model, info = getattr(transformers, cls.auto_class).from_pretrained(
                source.location,
                **_pinned(source),
                dtype=dtype,
                attn_implementation="sdpa",
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # named below, with all else that does not fit
            )
        if faults := tensor_faults(info):
            raise BackboneError(
                f"backbone {source.name!r} is not whole in {source.location!r}: {faults}; its "
                f"scores would be those of random weights. Fetch or save it again, with the "
                f"config.json that belongs to it"
            )
        model = model.to(device)
    except BackboneError:
        raise
    except _LOAD_ERRORS as error:
        raise not_loadable(source, error) from error
    return cls(model.eval(), tokenizer, spec, source)


def skeleton(source: Source) -> Backbone:
    """The backbone without weights, on torch's meta device: its shapes, for plans.

    Raises:
        BackboneError: naming the folder or id and the cause.
    """
    import torch
    import transformers

    cls = family_class(source.family)
    config, tokenizer = load_text(source)
    try:
        with torch.device("meta"):
            model = getattr(transformers, cls.auto_class)._from_config(
                config, attn_implementation="sdpa"
            )
    except _LOAD_ERRORS as error:
        raise not_loadable(source, error) from error
    return cls(model, tokenizer, image_spec(source), source)


def load_config(source: Source) -> Any:
    """The configuration of a resolved backbone, all of which is followed here.

    Raises:
        BackboneError: it cannot be read, or says what is not done here.
    """
    from transformers import AutoConfig

    if read_json(source, "adapter_config.json", False):
        raise BackboneError(
            f"backbone {source.name!r}: {source.location!r} holds an adapter beside the weights "
            f"(adapter_config.json), which transformers would add to them; move it to a folder of "
            f"its own and give that as an adapter, or delete it if it is merged already"
        )
    try:
        config = AutoConfig.from_pretrained(source.location, **_pinned(source))
        check_config(config, family_class(source.family).decoders)
    except UnfollowedError as error:
        raise _refused(source, "config.json", error) from error
    except _LOAD_ERRORS as error:
        raise not_loadable(source, error) from error
    return config


def load_text(source: Source) -> tuple[Any, Any]:
    """The configuration and the tokenizer of a resolved backbone, checked against each other.

    Warns where the checkpoint's own chat template asks otherwise than it is asked here.

    Raises:
        BackboneError: naming the folder or id and the cause.
    """
    config, tokenizer = load_config(source), load_tokenizer(source)
    markup = family_class(source.family).markup
    if fault := token_fault(markup, tokenizer, getattr(config, "image_token_id", None)):
        raise BackboneError(f"backbone {source.name!r}: {fault}")
    template = read_json(source, PREPROCESSORS[0], False).get("chat_template")
    template = template or read_json(source, "chat_template.json", False).get("chat_template")
    if difference := template_difference(markup, tokenizer, template):
        logger.warning(
            "backbone %r: its chat template %s; a model that was tuned with its template may score "
            "worse so (docs/method.md)",
            source.name, difference,
        )  # fmt: skip
    return config, tokenizer


def load_tokenizer(source: Source) -> Any:
    """The tokenizer of a resolved backbone.

    Raises:
        BackboneError: naming the folder or id and the cause.
    """
    from transformers import AutoTokenizer

    refuse_own_code(read_json(source, TOKENIZER_CONFIG, False), TOKENIZER_CONFIG, source.name)
    try:
        return AutoTokenizer.from_pretrained(source.location, **_pinned(source))
    except _LOAD_ERRORS as error:
        raise not_loadable(source, error) from error


def _pinned(source: Source) -> dict[str, Any]:
    """What transformers is to load: this commit, and never code from the repository."""
    return {"revision": source.revision if source.on_hub else None, "trust_remote_code": False}


def _refused(source: Source, file: str, error: UnfollowedError) -> BackboneError:
    return BackboneError(
        f"backbone {source.name!r}: {error.file or file} {error}; use a checkpoint of the "
        f"family's usual form, or put the file right if it is wrong"
    )


def image_spec(source: Source, max_visual_tokens: int | None = None) -> ImageSpec:
    """The image spec of a resolved backbone, without torch and without its weights.

    Raises:
        BackboneError: the checkpoint does not say how its images are prepared, or says what is not
            done here; ``max_visual_tokens`` below 1.
    """
    file, preprocessor = read_preprocessor(source)
    try:
        spec = family_class(source.family).image_spec_from(
            read_json(source, "config.json", True), preprocessor
        )
    except UnfollowedError as error:
        raise _refused(source, file, error) from error
    except (KeyError, TypeError, ValueError) as error:
        raise BackboneError(
            f"backbone {source.name!r}: config.json or {file} does not say how "
            f"images are cut ({type(error).__name__}: {error})"
        ) from error
    if max_visual_tokens is None:
        return spec
    if max_visual_tokens < 1:
        raise BackboneError(f"max_visual_tokens must be at least 1, got {max_visual_tokens}")
    return spec.limited(max_visual_tokens)
