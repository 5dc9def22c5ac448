from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers.image_processing_utils import BaseImageProcessor

from tokenfocus_ray.backbones import files, loading, registry
from tokenfocus_ray.backbones.base import Source
from tokenfocus_ray.errors import BackboneError


@pytest.fixture(params=registry.BUILT_IN)
def copy(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A built-in backbone's folder, to be changed."""
    folder: Path = tmp_path / "backbone"
    shutil.copytree(registry.WEIGHTS / request.param, folder)
    return folder


def test_processor_config_of_transformers_5_is_read(copy: Path) -> None:
    """``processor.save_pretrained`` nests what preprocessor_config.json used to hold."""
    expected = loading.image_spec(registry.resolve(str(copy)))
    nested = json.loads((copy / "preprocessor_config.json").read_text())
    (copy / "preprocessor_config.json").unlink()
    (copy / "processor_config.json").write_text(json.dumps({"image_processor": nested}))
    assert loading.image_spec(registry.resolve(str(copy))) == expected


def test_the_nested_image_processor_wins_as_in_transformers(copy: Path) -> None:
    source = registry.resolve(str(copy))
    nested = json.loads((copy / "preprocessor_config.json").read_text()) | {"resample": 2}
    (copy / "processor_config.json").write_text(json.dumps({"image_processor": nested}))
    theirs, _ = BaseImageProcessor.get_image_processor_dict(copy)
    assert files.read_preprocessor(source) == ("processor_config.json", theirs)
    (copy / "processor_config.json").write_text(json.dumps({"processor_class": "Some"}))
    theirs, _ = BaseImageProcessor.get_image_processor_dict(copy)
    assert files.read_preprocessor(source) == ("preprocessor_config.json", theirs)


def test_a_folder_that_does_not_say_how_images_are_prepared_is_refused(copy: Path) -> None:
    (copy / "preprocessor_config.json").unlink()
    with pytest.raises(BackboneError) as caught:
        loading.image_spec(registry.resolve(str(copy)))
    assert str(caught.value) == (
        f"backbone {str(copy)!r} does not say how its images are prepared: {str(copy)!r} has no "
        f"preprocessor_config.json, nor a processor_config.json with an image_processor; copy it "
        f"from the checkpoint that this one was made from (its processor's save_pretrained writes "
        f"one of them)"
    )


def test_a_cached_hub_id_that_does_not_say_it_is_refused(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers answers None for a file that is not in the cache."""

    def cached(repository: str, name: str, **_: Any) -> str | None:
        return str(copy / "config.json") if name == "config.json" else None

    monkeypatch.setattr("transformers.utils.hub.cached_file", cached)
    family = json.loads((copy / "config.json").read_text())["model_type"]
    with pytest.raises(BackboneError, match=r"^backbone 'owner/model' does not say how its images"):
        loading.image_spec(Source("owner/model", "owner/model", family, "0123abcd"))


def test_a_key_that_is_not_followed_names_backbone_and_file(copy: Path) -> None:
    path = copy / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"do_resize": False}))
    with pytest.raises(BackboneError) as caught:
        loading.image_spec(registry.resolve(str(copy)))
    assert str(caught.value) == (
        f"backbone {str(copy)!r}: preprocessor_config.json says do_resize = false, but only true "
        f"is followed here; use a checkpoint of the family's usual form, or put the file right if "
        f"it is wrong"
    )


def test_json_files_of_a_folder(copy: Path) -> None:
    source = registry.resolve(str(copy))
    config = json.loads((copy / "config.json").read_text())
    assert files.read_json(source, "config.json", True) == config
    assert files.read_json(source, "processor_config.json", False) == {}
    (copy / "processor_config.json").write_text("[]")
    with pytest.raises(BackboneError) as caught:
        files.read_json(source, "processor_config.json", False)
    assert str(caught.value) == (
        f"{str(copy / 'processor_config.json')!r} must hold an object, got list"
    )
