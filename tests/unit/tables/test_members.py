"""What a table says of who scored it: one key, and those of before."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest

from tests.support.scores import info, older_metadata
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.tables.members import KEY, VERSION, EnsembleInfo, ScoreTableInfo

ONE: dict[str, Any] = {"Qwen/Qwen2.5-VL-7B": ["m0", "m1"]}
TWO: dict[str, Any] = {"q": ["m0", "m1"], "i": ["base"]}
ODD: dict[str, Any] = {"x,y": ["a,b", 'say "c"'], "{": ["base"]}
BY = EnsembleInfo(fingerprint="0f", coverage=0.9, element_threshold=1 / 3)


def schema(metadata: dict[str, str] | None) -> pa.Schema:
    return pa.schema([]).with_metadata(metadata or {})


@pytest.mark.parametrize("by", [None, BY])
@pytest.mark.parametrize("backbones", [ONE, TWO, ODD, {"{odd": ["[", "a,b"]}], ids=str)
def test_what_is_written_is_read(backbones: dict[str, Any], by: EnsembleInfo | None) -> None:
    written = info(backbones).model_copy(update={"ensemble": by})
    assert ScoreTableInfo.of(schema(written.to_metadata()), "t") == written


@pytest.mark.parametrize("by", [None, BY])
@pytest.mark.parametrize("backbones", [ONE, TWO, ODD], ids=str)
def test_tables_of_before_say_the_same(backbones: dict[str, Any], by: EnsembleInfo | None) -> None:
    """Names with commas too: the configurations beside them know the adapters."""
    written = info(backbones).model_copy(update={"ensemble": by})
    older = {key: text for key, text in written.to_metadata().items() if key != KEY}
    assert ScoreTableInfo.of(schema(older), "t") == written


def test_older_keys_are_those_that_jobs_wrote() -> None:
    """For tools that know them; members are joined by commas, values of several are JSON."""
    one = older_metadata(ONE)
    assert (one["tokenfocus.members"], one["tokenfocus.backbone"]) == ("m0,m1", *ONE)
    two = older_metadata(TWO)
    assert two["tokenfocus.members"] == "q/m0,q/m1,i/base"
    assert json.loads(two["tokenfocus.backbone"]) == {"q": "q", "i": "i"}
    assert json.loads(json.loads(two["tokenfocus.config"])["i"])["backbone"] == "i"
    assert two.keys() == one.keys() == {
        f"tokenfocus.{name}"
        for name in ("version", "backbone", "backbone_revision", "template", "config", "members")
    }  # fmt: skip


def test_members_of_before_without_a_configuration() -> None:
    older = {key: text for key, text in older_metadata(TWO).items() if not key.endswith("config")}
    found = ScoreTableInfo.of(schema(older), "t")
    assert found.members == ("q/m0", "q/m1", "i/base")
    assert found.bags == {"q": [0, 1], "i": [2]}
    lone = ScoreTableInfo.of(
        schema({"tokenfocus.backbone": "/a/b.c", "tokenfocus.members": "m"}), "t"
    )
    assert lone.bags == {"b_c": [0]}
    assert lone.scale is None


def test_names_that_can_be_asked_for() -> None:
    assert info(ONE).places() == {"m0": [0], "m1": [1], "Qwen2_5-VL-7B": [0, 1]}
    assert info(ONE).stacked() == ["m0", "m1"]
    assert info(TWO).places() == {"q/m0": [0], "q/m1": [1], "i/base": [2], "q": [0, 1], "i": [2]}
    assert info(TWO).stacked() == ["q", "i"]


def test_what_is_there_of_others_is_kept_and_of_ours_replaced() -> None:
    with_ensemble = info(TWO).model_copy(update={"ensemble": BY}).to_metadata()
    before = schema({**with_ensemble, "pandas": "{}"}).metadata
    assert info(ONE).to_metadata(before) == {"pandas": "{}", **info(ONE).to_metadata()}


def test_a_table_that_no_job_wrote() -> None:
    for metadata in (None, {}, {"pandas": "{}"}, {"tokenfocus.members": "m0"}):
        assert ScoreTableInfo.find(schema(metadata), "t") is None


def test_a_table_of_a_later_release_is_refused() -> None:
    values = json.loads(info(ONE).to_metadata()[KEY])
    later = info(ONE).to_metadata() | {KEY: json.dumps(values | {"version": VERSION + 1})}
    with pytest.raises(ManifestError) as caught:
        ScoreTableInfo.find(schema(later), "t")
    assert str(caught.value) == (
        "t: the table's metadata has version 2, and this release of tokenfocus-ray reads 1; "
        "install a later one, or score again"
    )
    more = info(ONE).to_metadata() | {KEY: json.dumps(values | {"device": "H100"})}
    assert ScoreTableInfo.of(schema(more), "t") == info(ONE)


REMEDY = "; give the output of `tokenfocus score` as it was written"


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({KEY: "{"}, "holds '{' under 'tokenfocus'"),
        ({KEY: "[1]"}, "holds '[1]' under 'tokenfocus'"),
        ({KEY: "[" * 100_000}, f"holds '{'[' * 76}... under 'tokenfocus'"),
        ({KEY: '{"version": 1}'}, "says backbones: Field required"),
        (
            {KEY: '{"version": 1, "backbones": []}'},
            "says backbones = []: Tuple should have at least 1 item after validation, not 0",
        ),
        (older_metadata(TWO, config="7"), "says '7' of how it was scored"),
        (older_metadata(TWO, config='{"q": 7}'), "says 7 of how it was scored"),
        (
            older_metadata(TWO, members="q/m0"),
            "says backbones.1.members = (): Tuple should have at least 1 item after validation, "
            "not 0",
        ),
        (
            older_metadata(ONE, ensemble="0f", coverage="most"),
            "says ensemble.coverage = 'most': Input should be a valid number, unable to parse "
            "string as a number",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_metadata_is_not_trusted(metadata: dict[str, str], said: str) -> None:
    with pytest.raises(ManifestError) as caught:
        ScoreTableInfo.of(schema(metadata), "t")
    assert str(caught.value) == f"t: the table's metadata {said}{REMEDY}"
