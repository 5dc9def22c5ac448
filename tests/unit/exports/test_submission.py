from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from tests.support.pairs import written
from tests.support.scores import info, score_table
from tokenfocus_ray.cli.app import app
from tokenfocus_ray.errors import ManifestError, OutputError
from tokenfocus_ray.exports.submission import at_half, write_submission
from tokenfocus_ray.schema import Element, sample_id
from tokenfocus_ray.tables.members import EnsembleInfo

#: The list's images: file, prompt, elements as written there.
IMAGES = [
    ("SD/2.png", "two pigs", ["two (counting)", "pigs (animal)"]),
    ("SD/1.png", "a pig", ["a pig (animal)"]),
    ("XL/1.png", "a pig", ["a pig (animal)"]),
    ("XL/9.png", "mist", []),
]


@pytest.fixture
def test_list(tmp_path: Path) -> str:
    path = tmp_path / "test.json"
    records = [
        {
            "prompt_id": str(i),
            "prompt": prompt,
            "type": "real",
            "img_path": image,
            "total_score": None,
            "element_score": dict.fromkeys(elements),
        }
        for i, (image, prompt, elements) in enumerate(IMAGES)
    ]
    path.write_text(json.dumps(records))
    return str(path)


def scores_of(images: list[tuple[str, str, list[str]]], **more: Any) -> pa.Table:
    """As `tokenfocus score` gives them, of one member; the last one is unscored if asked."""
    unscored = more.get("unscored", ())
    rows = [
        {
            "id": sample_id(image, prompt),
            "prompt": prompt,
            "n": len(elements),
            **({} if i in unscored else {"scores": [1.5 + i]}),
            "elements": [[0.25 + 0.25 * e for e in range(len(elements))]],
        }
        for i, (image, prompt, elements) in enumerate(images)
    ]
    table = score_table({"q": ["m0"]}, rows)
    parsed = [[Element.parse(e) for e in own] for _, _, own in images]
    structs = [[{"text": e.text, "type": e.type} for e in own] for own in parsed]
    at = table.schema.get_field_index("elements")
    field = table.schema.field("elements")
    return table.set_column(at, field, pa.array(structs, field.type))


def opened(path: Path) -> tuple[list[dict[str, Any]], str]:
    with zipfile.ZipFile(path) as file:
        assert file.namelist() == ["output.json", "readme.txt"]
        return json.loads(file.read("output.json")), file.read("readme.txt").decode()


def test_archive(test_list: str, tmp_path: Path) -> None:
    """In the order of the list, whatever that of the scores; elements by their labels."""
    shuffled = [IMAGES[i] for i in (3, 1, 0, 2)]
    scores = written(scores_of(shuffled), tmp_path / "scores", 2)
    out = tmp_path / "submission.zip"
    command = ["submission", scores, "--out", str(out), "--test-list", test_list]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert result.output == f"images=4 elements=4 filled=0 out={out}\n"
    records, readme = opened(out)
    assert records == [
        {
            "prompt": "two pigs",
            "img_path": "SD/2.png",
            "total_score": 3.5,
            "element_score": {"two (counting)": 0.25, "pigs (animal)": 0.5},
        },
        {
            "prompt": "a pig",
            "img_path": "SD/1.png",
            "total_score": 2.5,
            "element_score": {"a pig (animal)": 0.25},
        },
        {
            "prompt": "a pig",
            "img_path": "XL/1.png",
            "total_score": 4.5,
            "element_score": {"a pig (animal)": 0.25},
        },
        {"prompt": "mist", "img_path": "XL/9.png", "total_score": 1.5, "element_score": {}},
    ]
    assert "Backbone q: q, revision of q; members m0." in readme
    first = out.read_bytes()
    assert CliRunner().invoke(app, command).exit_code == 0
    assert out.read_bytes() == first


def test_scores_with_paths_of_the_list(test_list: str, tmp_path: Path) -> None:
    """Ids of its own do not matter where ``img_path`` came along."""
    table = scores_of(IMAGES)
    ids = pa.array([f"own-{i}" for i in range(4)])
    table = table.set_column(table.schema.get_field_index("sample_id"), "sample_id", ids)
    table = table.append_column("img_path", pa.array([image for image, _, _ in IMAGES]))
    scores = written(table, tmp_path / "scores")
    out = tmp_path / "s.zip"
    (tmp_path / "mine.txt").write_text("runtime: 1 s\n")
    write_submission(scores, str(out), test_list=test_list, readme=str(tmp_path / "mine.txt"))
    records, readme = opened(out)
    assert [record["total_score"] for record in records] == [1.5, 2.5, 3.5, 4.5]
    assert readme == "runtime: 1 s\n"


def test_an_ensembles_threshold_lies_at_half(test_list: str, tmp_path: Path) -> None:
    table = scores_of(IMAGES)
    ensemble = EnsembleInfo(fingerprint="f", coverage=0.9, element_threshold=0.25)
    made = info({"q": ["m0"]}).model_copy(update={"ensemble": ensemble})
    scores = written(table.replace_schema_metadata(made.to_metadata()), tmp_path / "scores")
    lines: list[str] = []
    write_submission(scores, str(tmp_path / "s.zip"), test_list=test_list, say=lines.append)
    records, readme = opened(tmp_path / "s.zip")
    assert list(records[0]["element_score"].values()) == [0.5, 0.5 + 0.5 * 0.25 / 0.75]
    assert lines == [
        "elements are present from 0.25 on by the ensemble, and from 0.5 on by the challenge: "
        "scores of elements are mapped so that these agree"
    ]
    assert "Ensemble f." in readme


@pytest.mark.parametrize("threshold", [0.1, 0.52, 0.9])
def test_mapping_keeps_order_and_decisions(threshold: float) -> None:
    scores = [*np.linspace(0, 1, 101).tolist(), threshold]
    mapped = [at_half(score, threshold) for score in scores]
    assert [m >= 0.5 for m in mapped] == [s >= threshold for s in scores]
    assert np.argsort(mapped).tolist() == np.argsort(scores).tolist()
    assert (mapped[0], mapped[100]) == (0.0, 1.0)


def test_unscored_rows_are_filled_only_if_asked(test_list: str, tmp_path: Path) -> None:
    scores = written(scores_of(IMAGES, unscored=(0,)), tmp_path / "scores")
    out = tmp_path / "s.zip"
    with pytest.raises(ManifestError) as caught:
        write_submission(scores, str(out), test_list=test_list)
    assert str(caught.value) == (
        f"{scores}, compared with {test_list}: 1 images have no score (--fill-unscored gives them "
        f"the mean) (such as 'SD/2.png'). A submission holds each image of the list once, with its "
        f"elements: score the list as it was imported by `tokenfocus data import evalmuse`"
    )
    assert not out.exists()
    lines: list[str] = []
    summary = write_submission(
        scores, str(out), test_list=test_list, fill_unscored=True, say=lines.append
    )
    records, readme = opened(out)
    assert records[0]["total_score"] == pytest.approx(np.mean([2.5, 3.5, 4.5]))
    assert list(records[0]["element_score"].values()) == [0.25, 0.25]
    assert summary.filled == 1
    assert lines == ["1 images without a score got the mean of the others (--fill-unscored)"]
    assert readme.endswith("1 images without a score got the mean of the others.\n")


@pytest.mark.parametrize(
    ("images", "told"),
    [
        (IMAGES[1:], "1 images of the list have no row (such as 'SD/2.png')"),
        (
            [*IMAGES, ("SD/7.png", "a pig", [])],
            "1 rows of the scores are of no image of the list (such as '",
        ),
        ([*IMAGES, IMAGES[0]], "1 images of the list have several rows (such as '"),
        (
            [("SD/2.png", "two pigs", ["two (counting)"]), *IMAGES[1:]],
            "1 images have other elements in the scores than in the list (such as 'SD/2.png')",
        ),
    ],
)
def test_what_does_not_fit(
    images: list[tuple[str, str, list[str]]], told: str, test_list: str, tmp_path: Path
) -> None:
    scores = written(scores_of(images), tmp_path / "scores")
    with pytest.raises(ManifestError) as caught:
        write_submission(scores, str(tmp_path / "s.zip"), test_list=test_list)
    assert str(caught.value).startswith(f"{scores}, compared with {test_list}: {told}")
    assert not (tmp_path / "s.zip").exists()


def test_an_image_twice_in_the_list(test_list: str, tmp_path: Path) -> None:
    records = json.loads(Path(test_list).read_text())
    Path(test_list).write_text(json.dumps([*records, records[0]]))
    scores = written(scores_of(IMAGES), tmp_path / "scores")
    with pytest.raises(ManifestError, match=r"1 images stand twice in the list \(such as 'SD/2"):
        write_submission(scores, str(tmp_path / "s.zip"), test_list=test_list)


def test_a_folder_is_no_archive(test_list: str, tmp_path: Path) -> None:
    scores = written(scores_of(IMAGES), tmp_path / "scores")
    with pytest.raises(OutputError) as caught:
        write_submission(scores, str(tmp_path), test_list=test_list)
    assert str(caught.value) == (
        f"{str(tmp_path)!r} is a folder; name the archive, such as {tmp_path}/submission.zip"
    )
