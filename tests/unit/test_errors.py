from __future__ import annotations

import copy
import pickle

import pytest

from tokenfocus_ray import errors
from tokenfocus_ray.errors import RowError, TokenFocusError, UserError, did_you_mean


def below(cls: type[TokenFocusError]) -> list[type[TokenFocusError]]:
    """The class and all that are derived from it."""
    return [cls, *(c for child in cls.__subclasses__() for c in below(child))]


TREE = [cls for cls in below(TokenFocusError) if cls.__module__ == errors.__name__]
ROW = [cls for cls in TREE if issubclass(cls, RowError)]
OTHERS = [cls for cls in TREE if not issubclass(cls, RowError)]


def test_the_tree() -> None:
    """Users catch these names: a change is seen here."""
    assert {cls.__name__: cls.__bases__[0].__name__ for cls in TREE} == {
        "TokenFocusError": "Exception",
        "UserError": "TokenFocusError",
        "ConfigError": "UserError",
        "ManifestError": "UserError",
        "BackboneError": "UserError",
        "AdapterError": "UserError",
        "LevelError": "UserError",
        "OutputError": "UserError",
        "TrainingError": "UserError",
        "DivergedError": "UserError",
        "JobError": "UserError",
        "RowError": "TokenFocusError",
        "ImageDecodeError": "RowError",
        "PromptError": "RowError",
    }


@pytest.mark.parametrize("cls", [UserError, RowError])
def test_both_branches_are_value_errors(cls: type[TokenFocusError]) -> None:
    assert issubclass(cls, ValueError)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("cls", OTHERS)
def test_errors_survive_pickling(cls: type[TokenFocusError], protocol: int) -> None:
    back = pickle.loads(pickle.dumps(cls("what, where, value, remedy"), protocol))
    assert (type(back), str(back)) == (cls, "what, where, value, remedy")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("cls", ROW)
def test_row_errors_survive_pickling(cls: type[RowError], protocol: int) -> None:
    back = pickle.loads(pickle.dumps(cls("prompt_empty", "give a prompt"), protocol))
    assert (type(back), back.code, back.message) == (cls, "prompt_empty", "give a prompt")


@pytest.mark.parametrize("cls", ROW)
def test_row_errors_survive_copying(cls: type[RowError]) -> None:
    back = copy.deepcopy(cls("prompt_empty", "give a prompt"))
    assert (type(back), back.code, str(back)) == (cls, "prompt_empty", "give a prompt")


def test_row_error_prints_its_message_only() -> None:
    assert str(RowError("prompt_empty", "give a prompt")) == "give a prompt"


def test_did_you_mean_names_the_nearest() -> None:
    assert did_you_mean("promt", ["prompt", "image"]) == (
        "Did you mean 'prompt'? Known: image, prompt."
    )


def test_did_you_mean_lists_all_where_none_is_near() -> None:
    assert did_you_mean("xyz", ["prompt", "image"]) == "Known: image, prompt."
