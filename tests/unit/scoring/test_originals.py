"""The images of rows that were scored are found again, and never those of other rows."""

from __future__ import annotations

import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.selecting import scored_manifest
from tokenfocus_ray.datasets.scored import ScoredTable
from tokenfocus_ray.errors import ManifestError, RowError
from tokenfocus_ray.scoring.originals import ROW, Originals


def read(scored: ScoredTable, *numbers: int) -> dict[int, bytes | str]:
    """Row -> image, or the code of why there is none; each row once."""
    originals = Originals.of(scored)
    rows = pa.concat_tables(scored.read(originals.needed or ["score"]))
    rows = rows.append_column(ROW, pa.array(range(scored.n_rows))).take(list(numbers))
    found = list(originals.read(rows))
    assert len({n for n, _ in found}) == len(found) == len(numbers)
    return {n: one.code if isinstance(one, RowError) else one for n, one in found}


def listed(folder: Path, numbers: range) -> str:
    """A list of paths beside its images."""
    (folder / "i").mkdir(parents=True)
    for n in numbers:
        (folder / "i" / f"{n}.png").write_bytes(b"image %d" % n)
    lines = [f"i/{n}.png,p{n}\n" for n in numbers]
    (folder / "m.csv").write_text("image_path,prompt\n" + "".join(lines))
    return str(folder / "m.csv")


def with_bytes(folder: Path, prompts: str = "p") -> str:
    """Two files with the images themselves, in groups of two rows."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, numbers in (("0", range(3)), ("1", range(3, 8))):
        rows = [{"jpg": b"image %d" % n, "caption": f"{prompts}{n}"} for n in numbers]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet", row_group_size=2)
    return str(folder)


def test_paths(tmp_path: Path) -> None:
    manifest = listed(tmp_path / "m", range(4))
    scored = ScoredTable.open(scored_manifest([manifest], str(tmp_path / "s")))
    (tmp_path / "m" / "i" / "2.png").unlink()
    assert Originals.of(scored).needed == ("image_path",)
    assert read(scored, 0, 2, 3) == {0: b"image 0", 2: "image_missing", 3: b"image 3"}


def test_paths_from_several_folders(tmp_path: Path) -> None:
    """Each row's path starts from its own manifest."""
    manifests = [listed(tmp_path / "a", range(3)), listed(tmp_path / "b", range(3, 5))]
    scored = ScoredTable.open(scored_manifest(manifests, str(tmp_path / "s")))
    assert read(scored, 1, 2, 3, 4) == {n: b"image %d" % n for n in (1, 2, 3, 4)}


def test_another_folder_of_images(tmp_path: Path) -> None:
    manifest = listed(tmp_path / "m", range(2))
    scores = scored_manifest([manifest], str(tmp_path / "s"))
    (tmp_path / "m" / "i").rename(tmp_path / "i")
    assert read(ScoredTable.open(scores), 0) == {0: "image_missing"}
    assert read(ScoredTable.open(scores, images=str(tmp_path)), 0) == {0: b"image 0"}


def test_only_images_of_the_folder_where_that_was_asked(tmp_path: Path) -> None:
    manifest = listed(tmp_path / "m", range(2))
    (tmp_path / "m" / "m.csv").write_text("image_path,prompt\n/etc/passwd,p\ni/1.png,q\n")
    scores = scored_manifest([manifest], str(tmp_path / "s"), images_only=True)
    assert read(ScoredTable.open(scores), 0, 1) == {0: "image_outside", 1: b"image 1"}


def test_bytes_in_parquet(tmp_path: Path) -> None:
    scored = ScoredTable.open(scored_manifest([with_bytes(tmp_path / "m")], str(tmp_path / "s")))
    assert read(scored, 1, 2, 3, 7) == {n: b"image %d" % n for n in (1, 2, 3, 7)}
    assert read(scored, 6) == {6: b"image 6"}


def test_a_manifest_of_other_rows_is_refused(tmp_path: Path) -> None:
    """As many rows, but other ones: their images would go by wrong scores."""
    scores = scored_manifest([with_bytes(tmp_path / "m")], str(tmp_path / "s"))
    other = with_bytes(tmp_path / "other", prompts="q")
    scored = ScoredTable.open(scores, manifests=[other])
    with pytest.raises(ManifestError) as caught:
        read(scored, 4)
    assert str(caught.value) == (
        f"row 4 of {other} has the prompt 'q4', and that of {scores} 'p4'; name the manifest that "
        f"was scored, as it was then, with --manifest"
    )
    (tmp_path / "other" / "1.parquet").unlink()
    with pytest.raises(ManifestError) as caught:
        read(scored, 0)
    assert str(caught.value) == (
        f"{scores} has 8 rows, and {other} 3; name the manifest that was scored, as it was then, "
        f"with --manifest"
    )


def test_rows_that_know_their_number(tmp_path: Path) -> None:
    """A selection has some of the rows, and says which."""
    manifest = with_bytes(tmp_path / "m")
    scores = scored_manifest([manifest], str(tmp_path / "s"), numbers="own")
    table = pq.read_table(tmp_path / "s" / "part-00000.parquet")
    some = table.append_column("own", pa.array(range(8))).take([1, 5, 7])
    pq.write_table(some, tmp_path / "s" / "part-00000.parquet")
    assert read(ScoredTable.open(scores), 0, 2) == {0: b"image 1", 2: b"image 7"}


def shards(folder: Path, names: tuple[str, ...] = ("0.tar", "1.tar")) -> str:
    for at, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w") as tar:
            for n in range(at * 3, at * 3 + 3):
                for ending, data in (("png", b"image %d" % n), ("txt", b"p%d" % n)):
                    member = tarfile.TarInfo(f"k{n}.{ending}")
                    member.size = len(data)
                    tar.addfile(member, BytesIO(data))
    return str(folder)


def test_tar_shards(tmp_path: Path) -> None:
    scores = scored_manifest([shards(tmp_path / "m")], str(tmp_path / "s"))
    scored = ScoredTable.open(scores)
    assert Originals.of(scored).needed == ("shard", "key")
    assert read(scored, 0, 2, 4) == {n: b"image %d" % n for n in (0, 2, 4)}
    (tmp_path / "m" / "1.tar").write_bytes(b"")
    assert read(scored, 2, 4) == {2: b"image 2", 4: "image_missing"}


def test_shards_of_one_name_cannot_be_told_apart(tmp_path: Path) -> None:
    manifest = shards(tmp_path / "m", ("a/0.tar", "b/0.tar"))
    scored = ScoredTable.open(scored_manifest([manifest], str(tmp_path / "s")))
    with pytest.raises(ManifestError) as caught:
        Originals.of(scored)
    assert str(caught.value) == (
        f"{manifest}: 2 shards are called '0.tar', so their images cannot be told apart; score "
        f"folders with shards of equal names one at a time"
    )


def test_nothing_leads_to_the_images(tmp_path: Path) -> None:
    scores = scored_manifest([with_bytes(tmp_path / "m")], str(tmp_path / "s"))
    (tmp_path / "s" / "__job" / "run.json").unlink()
    for options, message in (
        (
            {},
            f"{scores}: nothing says which images were scored: there is neither a column of paths "
            f"nor __job/run.json beside the scores; name the manifest that was scored with "
            f"--manifest",
        ),
        (
            {"images": str(tmp_path)},
            f"{scores}: has no column of paths, so --images does not lead to the images; name the "
            f"manifest that was scored with --manifest",
        ),
    ):
        given: Any = options
        with pytest.raises(ManifestError) as caught:
            Originals.of(ScoredTable.open(scores, **given))
        assert str(caught.value) == message
    found = ScoredTable.open(scores, manifests=[str(tmp_path / "m")])
    assert read(found, 5) == {5: b"image 5"}


def test_relative_paths_do_not_start_from_where_the_process_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of scores whose job wrote nothing down: an image of that name may be another one."""
    scores = scored_manifest([listed(tmp_path / "m", range(2))], str(tmp_path / "s"))
    (Path(scores) / "__job" / "run.json").unlink()
    monkeypatch.chdir(tmp_path / "m")
    scored = ScoredTable.open(scores)
    rows = pa.concat_tables(scored.read(["image_path"])).slice(0, 1)
    ((_, found),) = Originals.of(scored).read(rows.append_column(ROW, pa.array([0])))
    assert isinstance(found, RowError)
    assert (found.code, found.message) == (
        "image_missing",
        "image 'i/0.png' has a relative path, and nothing says where it starts; name the folder "
        "with --images",
    )
    assert read(ScoredTable.open(scores, images=str(tmp_path / "m")), 0) == {0: b"image 0"}
