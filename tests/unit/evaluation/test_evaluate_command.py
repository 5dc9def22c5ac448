from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.scores import info, random_scores, with_text_as
from tokenfocus_ray.cli.evaluate import evaluate_and_print
from tokenfocus_ray.ensemble.fit import read_scores
from tokenfocus_ray.errors import ConfigError, ManifestError, OutputError, did_you_mean
from tokenfocus_ray.evaluation import EvaluationReport, compare, correlations, evaluate_tables
from tokenfocus_ray.schema import sample_id
from tokenfocus_ray.tables.members import EnsembleInfo
from tokenfocus_ray.tables.parquet import read_parquet

PROMPT = "a red pig"
PATHS = [f"{generator}/{i}.png" for i in range(4) for generator in ("one", "two")]
TOTALS = [[1, 1], [2, 1], [2, 3], [3, 3], [3, 4], [4, 4], [4, 5], [5, 5]]
SCORES = [1.0, 1.75, 2.25, 3.5, 3.0, 3.75, 4.25, 4.5]


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    folder = tmp_path / "scores"
    (folder / "_temporary").mkdir(parents=True)
    for name in ("_metadata.parquet", "_temporary/1.parquet", ".hidden.parquet", "run.json"):
        (folder / name).write_text("no Parquet")
    rows = [
        {
            "sample_id": sample_id(path, PROMPT),
            "status": "ok",
            "error_code": None,
            "score": score,
            "element_scores": [0.9, 0.1],
            "image": b"\x00",
        }
        for path, score in zip(PATHS, SCORES, strict=True)
    ]
    failed = {"sample_id": "u", "status": "unscored", "error_code": "image_missing"}
    pq.write_table(pa.Table.from_pylist(rows), folder / "part-0.parquet")
    pq.write_table(pa.Table.from_pylist([failed]), folder / "part-1.parquet")
    return folder


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    records = [
        {
            "prompt": PROMPT,
            "img_path": path,
            "total_score": totals,
            "element_score": {"pig (animal)": [1, 1], "red (color)": [1, 0]},
        }
        for path, totals in zip(PATHS, TOTALS, strict=True)
    ]
    path = tmp_path / "train_list.json"
    path.write_text(json.dumps(records))
    return path


def evaluate(*paths: str | None, **given: Any) -> EvaluationReport:
    return evaluate_and_print(*paths, **given).report


def test_json_labels(scores: Path, labels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = scores.parent / "report.json"
    report = evaluate(str(scores), str(labels), str(out))
    assert (report.n_rows, report.n_scored, report.n_labelled) == (9, 8, 8)
    assert report.srcc == pytest.approx(1 - 6 * 2 / (8 * 63), abs=1e-10)
    assert list(report.by_generator) == ["one", "two"]
    assert json.loads(out.read_text()) == report.to_dict() | {"column": "score"}
    printed = capsys.readouterr().out
    assert "8 of 9 rows scored" in printed
    assert f"{report.final_official:.4f}" in printed
    for text in ("SRCC", "animal", "color", "two", "- 1 rows unscored", "image_missing: 1"):
        assert text in printed


def test_parquet_labels_give_the_same_report(scores: Path, labels: Path) -> None:
    from tokenfocus_ray.datasets import read_evalmuse

    manifest = labels.with_suffix(".parquet")
    pq.write_table(read_evalmuse(str(labels), "/data/images"), manifest)
    found = evaluate(str(scores), str(manifest)).to_dict()
    assert found == evaluate(str(scores), str(labels)).to_dict()


def test_labels_in_another_encoding(scores: Path, labels: Path) -> None:
    expected = evaluate(str(scores), str(labels)).srcc
    records = json.loads(labels.read_text())
    records += [{**records[0], "prompt": "a caf\u00e9", "img_path": "none.png"}]
    labels.write_bytes(json.dumps(records, ensure_ascii=False).encode("latin-1"))
    with pytest.raises(ManifestError, match=r"is not utf-8: byte .*; name its encoding \(`--enc"):
        evaluate(str(scores), str(labels))
    assert evaluate(str(scores), str(labels), encoding="latin-1").srcc == expected


def test_a_table_in_another_encoding(tmp_path: Path) -> None:
    rows = [f"caf\u00e9 {i},{i % 5 + 1},{i % 5 + 1.5}" for i in range(20)]
    path = tmp_path / "t.csv"
    path.write_bytes("\n".join(["prompt,label,m_a", *rows]).encode("latin-1"))
    given = {"table": str(path), "target": "label", "column": "m_a", "group": "prompt"}
    with pytest.raises(ManifestError, match=r"t.csv: line 2 is not utf-8"):
        evaluate(None, None, **given)
    assert evaluate(None, None, encoding="latin-1", **given).srcc == pytest.approx(1, abs=1e-10)
    with pytest.raises(ConfigError, match="encoding 'nope': there is no such encoding"):
        evaluate(None, None, encoding="nope", **given)


def test_missing_columns_name_all_that_were_found(tmp_path: Path, labels: Path) -> None:
    path = tmp_path / "scores.parquet"
    pq.write_table(pa.table({"id": ["a"], "rating": [1.0]}), path)
    with pytest.raises(ManifestError) as error:
        evaluate(str(path), str(labels))
    assert str(error.value) == (
        f"{path}: missing columns sample_id, status, score; wanted sample_id, status, score; "
        "found id, rating"
    )


def test_paths_without_parquet(tmp_path: Path, labels: Path) -> None:
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(ManifestError) as error:
            evaluate(str(path), str(labels))
        assert str(error.value) == f"{path}: no Parquet file there; check the path"
    with pytest.raises(ManifestError, match=r"train_list.json: cannot be read as Parquet \("):
        evaluate(str(labels), str(labels))


def test_report_that_cannot_be_written(scores: Path, labels: Path) -> None:
    out = labels / "report.json"
    with pytest.raises(OutputError) as error:
        evaluate(str(scores), str(labels), str(out))
    assert str(error.value) == (
        f"cannot write '{out}': File exists; a file stands where a folder is needed: move it, or "
        f"choose another folder"
    )


@pytest.fixture
def members(tmp_path: Path) -> Path:
    """Scores of two members, with a column that passed through, for the same images."""
    path = tmp_path / "members.parquet"
    rows = [
        {
            "sample_id": sample_id(path, PROMPT),
            "status": "ok",
            "score": score,
            "score_low": score - 1,
            "score_high": score + 1,
            "member_scores": [score + 0.5, 6 - score],
            "element_scores": [0.9, 0.1],
            "member_element_scores": [[0.9, 0.1], [0.9, 0.1]],
            "m_clip": None if i == 3 else f"{0.2 + i / 100:.2f}",
            "generator": "one" if i % 2 else "two",
        }
        for i, (path, score) in enumerate(zip(PATHS, SCORES, strict=True))
    ]
    by = EnsembleInfo(fingerprint="0f", coverage=0.9)
    about = info({"q": ["m0", "m1"]}).model_copy(update={"ensemble": by}).to_metadata()
    table = pa.Table.from_pylist(rows).replace_schema_metadata(dict(about))
    pq.write_table(table, path)
    return path


def test_column_and_members(members: Path, labels: Path) -> None:
    whole = evaluate(str(members), str(labels))
    assert (whole.n_intervals, whole.n_elements) == (8, 16)
    clip = evaluate(str(members), str(labels), column="m_clip")
    assert (clip.unscored, clip.n_labelled, clip.n_elements) == ({"no_number": 1}, 7, 0)
    known = [i for i in range(8) if i != 3]
    expected = correlations(known, [sum(TOTALS[i]) for i in known])
    assert clip.srcc == pytest.approx(expected.srcc, abs=1e-10)
    assert (clip.n_intervals, clip.to_dict()["calibration_error"]) == (0, None)
    assert clip.reasons[-2] == (
        "calibration error: the median score, 0.24, is outside the labels' range, 1 to 5; a "
        "calibration error needs scores on the labels' scale"
    )
    second = evaluate(str(members), str(labels), column="m1")
    assert (second.n_labelled, second.n_intervals) == (8, 0)
    assert second.srcc == pytest.approx(-whole.srcc, abs=1e-10)  # as it is, not turned


@pytest.mark.parametrize("against", ["m_clip", "m1", "folder"])
def test_against(
    against: str, members: Path, scores: Path, labels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = members.parent / "report.json"
    other = str(scores) if against == "folder" else against
    evaluate(str(members), str(labels), str(out), against=other)
    written = json.loads(out.read_text())
    assert (written["column"], written["against"]) == ("score", other)
    second = {
        "m_clip": [math.nan if i == 3 else i for i in range(8)],
        "m1": [-score for score in SCORES],
        "folder": SCORES,
    }[against]
    totals = [sum(total) / 2 for total in TOTALS]
    expected = compare(SCORES, second, totals, [PROMPT] * 8).to_dict()
    assert written["comparison"] == pytest.approx(expected, abs=1e-6)  # float32 in the table
    printed = capsys.readouterr().out
    assert f"score against {other}: {expected['n']} rows, 1 prompts" in printed
    assert "comparison: 1 prompt; an interval needs 2" in printed
    assert ("comparison: 1 rows left out" in printed) == (against == "m_clip")


def test_plots(members: Path, labels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = members.parent / "plots"
    evaluate(str(members), str(labels), plots=str(folder))
    names = ["calibration.png", "generators.png", "members.png", "scatter.png"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert f"- plots in {folder}: scatter.png, " in capsys.readouterr().out
    with pytest.raises(OutputError) as error:
        evaluate(str(members), str(labels), plots=str(labels))
    assert str(error.value) == (
        f"cannot write {labels}: [Errno 17] File exists: '{labels}'; choose a writable path"
    )


def test_unknown_column(members: Path, labels: Path) -> None:
    known = ", ".join(sorted([*pq.read_schema(members).names, "m0", "m1"]))
    for option in ("column", "against"):
        with pytest.raises(ManifestError) as error:
            evaluate(str(members), str(labels), **{option: "m_clp"})
        assert str(error.value) == (
            f"{members}: there is no column 'm_clp' for --{option}. Did you mean 'm_clip'? Known: "
            f"{known}."
        )
    with pytest.raises(ManifestError) as error:
        evaluate(str(members), str(labels), column="generator")
    assert str(error.value) == (
        f"{members}: column 'generator' of --column holds no number; name another column"
    )


TABLE = """prompt_id,generator,human_1,human_2,m_a,m_b
p1,one,1,2,0.1,5
p1,two,3,3,0.3,4
P1 ,three,5,4,refused,3
p2,one,2,,0.2,2
p2,two,4,99,0.4,1
p3,one,,,0.5,1
"""


def measured(tmp_path: Path, text: str = TABLE, **options: Any) -> EvaluationReport:
    path = tmp_path / "t.csv"
    path.write_text(text)
    given = {"target": "human_[12]", "column": "m_a", "group": "prompt_id", **options}
    return evaluate(None, None, str(tmp_path / "t.json"), table=str(path), **given)


def test_any_table(tmp_path: Path) -> None:
    report = measured(tmp_path, label_range=(1, 5), against="m_b")
    assert (report.n_rows, report.n_scored, report.unscored) == (6, 5, {"no_number": 1})
    assert (report.n_labelled, report.n_excluded, report.n_groups, report.n_pairs) == (4, 1, 2, 2)
    # labels 1.5 3 2 4, of which the second rating of the last is impossible; scores .1 .3 .2 .4
    assert (report.srcc, report.krcc, report.pairwise_accuracy) == (1, 1, 1)
    assert report.plcc == pytest.approx(
        correlations([0.1, 0.3, 0.2, 0.4], [1.5, 3, 2, 4]).plcc, abs=1e-10
    )
    assert {name: own.n for name, own in report.by_generator.items()} == {"one": 2, "two": 2}
    assert report.reasons == (
        "1 rows unscored",
        "1 scored rows whose total label is missing or impossible",
        "challenge score, both fits: no element has both a score and a label",
        "1 impossible ratings (99; 1..5 is usual); not used",
        "calibration error: the median score, 0.25, is outside the labels' range, 1.5 to 4; a "
        "calibration error needs scores on the labels' scale",
    )
    comparison = json.loads((tmp_path / "t.json").read_text())["comparison"]
    assert (comparison["n"], comparison["n_groups"], comparison["n_dropped"]) == (4, 2, 1)
    assert comparison["srcc_second"] == pytest.approx(
        correlations([5, 4, 2, 1], [1.5, 3, 2, 4]).srcc, abs=1e-10
    )


def test_table_without_groups(tmp_path: Path) -> None:
    report = measured(tmp_path, group=None, target="human_1")
    assert (report.n_groups, report.n_pairs) == (4, 0)
    assert "no prompts in labels or scores; every row stands for itself" in report.reasons


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "human"}, "there is no column 'human' for --target. {known}"),
        ({"column": "m"}, "there is no column 'm' for --column. {known}"),
        ({"against": "m_c"}, "there is no column 'm_c' for --against. {known}"),
        ({"group": "prompt"}, "there is no column 'prompt' for --group. {known}"),
        ({"target": "generator"}, "column 'generator' of --target holds no number; name another "
         "column"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)  # fmt: skip
def test_tables_that_cannot_be_measured(
    options: dict[str, str], message: str, tmp_path: Path
) -> None:
    known = did_you_mean(next(iter(options.values())), TABLE.partition("\n")[0].split(","))
    with pytest.raises(ManifestError) as error:
        measured(tmp_path, **options)
    assert str(error.value) == f"{tmp_path}/t.csv: {message.format(known=known)}"


@pytest.mark.parametrize(
    ("scores", "labels", "options"),
    [
        (None, None, {}),
        ("s", None, {}),
        (None, "l", {}),
        ("s", "l", {"table": "t.csv"}),
        ("s", "l", {"group": "prompt"}),
        ("s", "l", {"label_range": (1, 5)}),
        (None, None, {"table": "t.csv", "column": "c"}),
        (None, None, {"table": "t.csv", "target": "t"}),
        (None, "l", {"table": "t.csv", "target": "t", "column": "c"}),
    ],
)
def test_either_scores_or_a_table(
    scores: str | None, labels: str | None, options: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError) as error:
        evaluate(scores, labels, **options)
    assert str(error.value) == (
        "give either SCORES with --labels, or --table with --target and --column; --group and "
        "--label-range are for tables"
    )


@pytest.mark.parametrize("kind", [pa.string_view(), pa.dictionary(pa.int32(), pa.string())])
def test_text_of_every_kind_is_joined(tmp_path: Path, kind: Any) -> None:
    """Other tools write ids and status as views or dictionaries."""
    scores, labels = random_scores({"tiny-internvl": ["m0"]}, 40, unscored=[3])
    wanted = evaluate_tables(scores, labels)
    scores = with_text_as(scores, kind)
    pq.write_table(scores, tmp_path / "s.parquet")
    pq.write_table(labels, tmp_path / "l.parquet")
    found = evaluate(str(tmp_path / "s.parquet"), str(tmp_path / "l.parquet"))
    assert (found.n_scored, found.srcc) == (39, wanted.srcc)
    given = str(tmp_path / "s.parquet")
    assert read_parquet(given, None, (), ids=["s00001"])["sample_id"].to_pylist() == ["s00001"]


def test_a_column_that_only_shares_an_ensembles_name_is_not_its(tmp_path: Path) -> None:
    """What passed through a job without an ensemble says nothing of the score."""
    scores, labels = random_scores({"tiny-internvl": ["m0"]}, 40)
    for name in ("score_low", "score_high", "element_present"):
        scores = scores.append_column(name, pa.array([1.5] * 40))
    pq.write_table(scores, tmp_path / "s.parquet")
    pq.write_table(labels, tmp_path / "l.parquet")
    found = evaluate(str(tmp_path / "s.parquet"), str(tmp_path / "l.parquet"))
    assert (found.n_intervals, found.n_elements_own) == (0, 0)


def test_labels_on_the_scale_of_the_levels_are_all_used(tmp_path: Path) -> None:
    """Scores of levels 0..10 beside ratings of 0..10: by evaluate and by stack."""
    scores, labels = random_scores({"tiny-internvl": ["m0", "m1"]}, 60)
    levels = {"bad": 0.0, "good": 10.0}
    about = info({"tiny-internvl": ["m0", "m1"]}, total_levels=levels).to_metadata()
    pq.write_table(scores.replace_schema_metadata(dict(about)), tmp_path / "s.parquet")
    ratings: list[Any] = labels["total_scores"].to_pylist()
    wide = pa.array([[2 * rating for rating in own] for own in ratings])
    index = labels.column_names.index("total_scores")
    labels = labels.set_column(index, "total_scores", wide)
    pq.write_table(labels, tmp_path / "l.parquet")
    found = evaluate(str(tmp_path / "s.parquet"), str(tmp_path / "l.parquet"))
    assert (found.n_labelled, found.n_excluded) == (60, 0)
    stacked = read_scores([str(tmp_path / "s.parquet")], str(tmp_path / "l.parquet"))
    assert stacked.total["label"].to_pylist() == wide.flatten().to_pylist()
    assert evaluate_tables(scores.replace_schema_metadata(dict(about)), labels).n_labelled == 60


def test_text_that_is_not_utf8_is_refused_by_column(tmp_path: Path) -> None:
    """Arrow reads it without a look, and the first that does would end in a traceback."""
    broken = pa.array([b"caf\xe9", b"b"]).view(pa.string())
    pq.write_table(pa.table({"sample_id": ["a", "b"], "prompt": broken}), tmp_path / "t.parquet")
    with pytest.raises(ManifestError) as caught:
        read_parquet(str(tmp_path / "t.parquet"), None, ())
    assert str(caught.value) == (
        f"{tmp_path}/t.parquet: column 'prompt' holds text that is not UTF-8; write it again as "
        f"UTF-8, or leave the column out"
    )
    assert read_parquet(str(tmp_path / "t.parquet"), ["sample_id"], ()).num_rows == 2
