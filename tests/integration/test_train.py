"""The training fan-out on real Ray: what a run leaves, relaunches, every form of data, refusals."""

from __future__ import annotations

import io
import json
import math
import re
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
import yaml
from typer.testing import CliRunner

from tests.support.train import (
    BACKBONE,
    MEMBERS,
    N_STEPS,
    STEPS_PER_EPOCH,
    Reference,
    adapter,
    assert_same_adapter,
    backbone_run,
    metrics,
    n_reports,
    read_scalars,
    reference_run,
    small_config,
    take_member,
    written,
)
from tokenfocus_ray import AlignmentScorer
from tokenfocus_ray.backbones import loading, registry
from tokenfocus_ray.cli.app import app
from tokenfocus_ray.config import StackConfig, TrainConfig
from tokenfocus_ray.distributed.preflight import (
    check_ensemble,
    resolve_config,
    scoring_identity,
)
from tokenfocus_ray.distributed.train.job import train_members
from tokenfocus_ray.distributed.train.manifest import read_manifest
from tokenfocus_ray.distributed.train.preparation import prepare_samples
from tokenfocus_ray.distributed.train.stream import SAMPLES_FILE, read_samples
from tokenfocus_ray.ensemble.bundle import Ensemble
from tokenfocus_ray.ensemble.fit import fit_ensemble
from tokenfocus_ray.errors import ConfigError, ManifestError, OutputError
from tokenfocus_ray.scoring.fetch import fetch
from tokenfocus_ray.storage import Store
from tokenfocus_ray.training.bags import make_bags

# trainings, on a machine that may be busy
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
FIRST, SECOND = MEMBERS


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """A run with one worker a member."""
    return reference_run(tmp_path_factory.getbasetemp())


def launch(config: TrainConfig, out: Path) -> list[str]:
    lines: list[str] = []
    train_members(config, str(out), say=lines.append)
    return lines


def held_out(out: Path, member: str) -> pd.DataFrame:
    return pd.read_parquet(out / "members" / member / "held_out.parquet")


class TestRun:
    def test_members_are_complete(self, reference: Reference) -> None:
        for number, name in enumerate(MEMBERS):
            folder = reference.out / "members" / name
            member = json.loads((folder / "member.json").read_text())
            assert (member["member"], member["backbone"]) == (name, BACKBONE)
            assert (member["bag"], member["steps"]) == (number, N_STEPS)
            assert (member["n_train"], member["n_held_out"]) == (10, 15)
            assert member["best_epoch"] * STEPS_PER_EPOCH == member["best_step"]
            files = {path.name for path in (folder / "adapter").iterdir()}
            assert files == {
                "adapter_config.json",
                "adapter_model.safetensors",
                "tokenfocus.json",
            }
            taught = json.loads((folder / "adapter" / "tokenfocus.json").read_text())
            assert (taught["backbone"], taught["member"]) == (BACKBONE, name)

    def test_best_and_latest_checkpoints_are_kept(self, reference: Reference) -> None:
        for name in MEMBERS:
            folder = reference.out / "members" / name
            best = json.loads((folder / "member.json").read_text())["best_step"]
            kept = sorted(path.name for path in folder.glob("step-*"))
            assert kept == sorted({f"step-{step:08d}" for step in (best, N_STEPS)})
            assert n_reports(reference.out, name) == N_STEPS // 2

    def test_metrics(self, reference: Reference) -> None:
        """Each recorded step once; TensorBoard's file holds the same."""
        for name in MEMBERS:
            records = metrics(reference.out, name)
            assert [r["step"] for r in records] == [1, 4, 6, 8]
            assert [r["epoch"] for r in records] == [0, 0, 1, 1]
            validated = [r["step"] for r in records if "validation_srcc" in r]
            assert validated == [STEPS_PER_EPOCH, N_STEPS]
            assert all(math.isfinite(r["loss"]) and r["grad_norm"] > 0 for r in records)
            path = reference.out / "members" / name / "tensorboard" / "events.out.tfevents.0"
            shown = {(step, tag): value for step, tag, value in read_scalars(path)}
            expected = {
                (r["step"], key): value
                for r in records
                for key, value in r.items()
                if key not in ("step", "seconds") and value is not None
            }
            assert shown == pytest.approx(expected, rel=1e-6)

    def test_out_of_fold_is_of_members_that_never_saw_the_prompt(
        self, reference: Reference
    ) -> None:
        oof = pd.read_parquet(reference.out / "oof.parquet")
        samples = read_samples(Store.of(reference.out)).to_pandas()
        assert list(oof["sample_id"]) == list(samples["sample_id"])
        assert oof["sample_id"].is_unique
        groups = list(samples["group"])
        bags = make_bags(groups, reference.config.bags)
        spoken: dict[str, list[Any]] = {name: [] for name in samples["sample_id"]}
        for bag, name in zip(bags, MEMBERS, strict=True):
            frame = held_out(reference.out, name)
            ids = list(samples["sample_id"].iloc[list(bag.held_out)])
            assert sorted(frame["sample_id"]) == sorted(ids)
            seen = {groups[i] for i in (*bag.train, *bag.validation)}
            assert not seen & {groups[i] for i in bag.held_out}
            for _, row in frame.iterrows():
                assert row["status"] == "ok"
                spoken[row["sample_id"]].append(row)
        for _, row in oof.iterrows():
            rows = spoken[row["sample_id"]]
            assert row[f"n_{BACKBONE}"] == len(rows) == 1
            assert row[f"m_{BACKBONE}"] == np.mean([r["score"] for r in rows])
            elements = np.mean([r["element_scores"] for r in rows], axis=0)
            np.testing.assert_array_equal(row[f"e_{BACKBONE}"], elements)
        labels = [np.mean(total) for total in samples["total_scores"]]
        np.testing.assert_allclose(oof["label"], labels)

    def test_summary(self, reference: Reference) -> None:
        summary = json.loads((reference.out / "summary.json").read_text())
        assert [m["member"] for m in summary["members"]] == list(MEMBERS)
        assert summary["skipped"] == 0
        assert re.fullmatch(
            rf"members=2 skipped=0 gpu_hours=0\.00 seconds=[\d.]+ out={reference.out}",
            reference.line,
        )
        assert reference.lines[0] == f"looking at 30 samples of {reference.data}"
        for name in MEMBERS:
            mine = [line for line in reference.lines if line.startswith(f"{name}: ")]
            assert mine[0] == f"{name}: starts, 8 steps at the most"
            assert re.fullmatch(
                rf"{name}: finished after 8 steps, out-of-fold SRCC -?[\d.]+", mine[-1]
            )

    def test_stacked_members_are_those_of_the_run(
        self, reference: Reference, tmp_path: Path
    ) -> None:
        """The bundle scores with what the run made, wherever the run lies."""
        run = shutil.copytree(reference.out, tmp_path / "moved")
        config = StackConfig(method="nnls", seeds=1, folds=2)
        fitted = fit_ensemble([str(run)], config=config)
        fitted.ensemble.save(str(tmp_path / "bundle"))
        report = fitted.total
        assert report.features == (f"m_{BACKBONE}", f"elements_{BACKBONE}")
        ensemble = Ensemble.load(str(tmp_path / "bundle"))
        configs = ensemble.scoring_configs()
        assert configs[BACKBONE].max_visual_tokens == 16
        assert list(configs[BACKBONE].adapters) == list(MEMBERS)
        check_ensemble(ensemble, {BACKBONE: scoring_identity(*resolve_config(configs[BACKBONE]))})
        weights = run / "members" / MEMBERS[0] / "adapter" / "adapter_model.safetensors"
        weights.write_bytes(weights.read_bytes() + b" ")
        with pytest.raises(ConfigError, match=rf"scores of '{BACKBONE}' \(adapters.{MEMBERS[0]}: "):
            check_ensemble(
                ensemble, {BACKBONE: scoring_identity(*resolve_config(configs[BACKBONE]))}
            )

    def test_adapters_score_as_in_training(self, reference: Reference) -> None:
        folders = {m: str(reference.out / "members" / m / "adapter") for m in MEMBERS}
        scorer = AlignmentScorer.from_pretrained(
            BACKBONE, adapters=folders, max_visual_tokens=16, device="cpu"
        )
        table = pd.read_parquet(reference.data).set_index("sample_id")
        for number, name in enumerate(MEMBERS):
            frame = held_out(reference.out, name)
            asked = table.loc[frame["sample_id"]]
            rows = scorer.score(
                [reference.data.parent / uri for uri in asked["image_uri"]],
                list(asked["prompt"]),
                [list(elements) for elements in asked["elements"]],
                list(asked["prompt_type"]),
            )
            mine = [row.member_scores[number] for row in rows]
            np.testing.assert_allclose(mine, frame["score"], atol=1e-5, rtol=0)
            for row, expected in zip(rows, frame["element_scores"], strict=True):
                elements = row.member_element_scores[number]
                np.testing.assert_allclose(elements, expected, atol=1e-5, rtol=0)


class TestRelaunch:
    def test_finished_members_are_left_alone(self, reference: Reference, tmp_path: Path) -> None:
        """By the command too."""
        before = {name: written(reference.out, name) for name in MEMBERS}
        path = tmp_path / "train.yaml"
        path.write_text(yaml.safe_dump(reference.config.model_dump(mode="json")))
        arguments = ["train", "--config", str(path), "--out", str(reference.out)]
        done = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert done.exit_code == 0
        lines = done.output.splitlines()
        assert lines[:2] == [f"{name}: finished before, left as it is" for name in MEMBERS]
        assert "Members, scored on what each held out" in done.output
        assert lines[-1].startswith("members=2 skipped=0 ")
        assert {name: written(reference.out, name) for name in MEMBERS} == before

    def test_resources_may_change(self, reference: Reference) -> None:
        """Nor does it matter where the data lies."""
        moved = reference.data.with_name("moved.parquet")
        shutil.copy(reference.data, moved)
        config = small_config(
            moved,
            backbones={BACKBONE: backbone_run(workers=2, cpus=0.25, token_budget=700)},
            parallel=1,
            checkpoint_steps=7,
            max_failures=0,
        )
        lines = launch(config, reference.out)
        assert lines == [f"{name}: finished before, left as it is" for name in MEMBERS]

    def test_another_configuration_is_refused(self, reference: Reference) -> None:
        config = small_config(reference.data, optimizer={"learning_rate": 2e-3})
        with pytest.raises(ConfigError) as caught:
            train_members(config, str(reference.out))
        assert str(caught.value) == (
            f"{reference.out} was begun with another configuration (optimizer.learning_rate: "
            f"0.001 there, 0.002 now); set it back to go on, or choose another --out"
        )

    def test_other_labels_are_refused(self, reference: Reference) -> None:
        table = pq.read_table(reference.data)
        ratings: list[Any] = table["total_scores"].to_pylist()
        ratings[7] = [6 - rating for rating in ratings[7]]
        index = table.schema.get_field_index("total_scores")
        changed = table.set_column(index, "total_scores", pa.array(ratings))
        path = reference.data.with_name("changed.parquet")
        pq.write_table(changed, path)
        with pytest.raises(ConfigError) as caught:
            train_members(small_config(path), str(reference.out))
        there = json.loads((reference.out / "config.json").read_text())["data"]
        now = read_manifest(str(path), small_config()).fingerprint
        assert now != there
        assert str(caught.value) == (
            f"{reference.out} was begun with another configuration (data: {there!r} there, "
            f"{now!r} now); set it back to go on, or choose another --out"
        )


def as_struct(data: bytes, uri: str) -> dict[str, Any]:
    return {"bytes": data, "path": uri}


def with_images(path: Path, make: Callable[[bytes, str], Any]) -> pa.Table:
    """The manifest with images in a column in place of their paths."""
    table = pq.read_table(path)
    uris: list[Any] = table["image_uri"].to_pylist()
    images = [make((path.parent / uri).read_bytes(), uri) for uri in uris]
    return table.drop_columns(["image_uri", "img_path"]).append_column("image", pa.array(images))


def write_csv(reference: Reference, folder: Path) -> Path:
    """The reference's samples with lists as JSON."""
    rows = pq.read_table(reference.data).to_pylist()
    cells = [
        {k: json.dumps(v) if isinstance(v, list) else v for k, v in row.items()} for row in rows
    ]
    pd.DataFrame(cells).to_csv(folder / "list.csv", index=False)
    return folder / "list.csv"


def write_shards(reference: Reference, folder: Path) -> Path:
    """The reference's samples in two shards, with labels in ``KEY.json``."""
    folder.mkdir()
    rows = pq.read_table(reference.data).to_pylist()
    for number, some in enumerate((rows[:20], rows[20:])):
        with tarfile.open(folder / f"{number}.tar", "w") as tar:
            for row in some:
                image = reference.data.parent / row.pop("image_uri")
                tar.add(image, f"{row['sample_id']}{image.suffix}")
                for ending, text in (("txt", row.pop("prompt")), ("json", json.dumps(row))):
                    info = tarfile.TarInfo(f"{row['sample_id']}.{ending}")
                    info.size = len(text.encode())
                    tar.addfile(info, io.BytesIO(text.encode()))
    return folder


def write_awkward(reference: Reference, folder: Path) -> None:
    """The reference's samples as structs of bytes, in files and row groups, and four bad rows."""
    table = with_images(reference.data, as_struct)
    rows = table.to_pylist()
    path = reference.data.parent / rows[4]["image"]["path"]
    rows[4]["image"] = {"bytes": None, "path": str(path)}
    bad: dict[str, dict[str, Any]] = {
        "cut": {"image": as_struct(rows[0]["image"]["bytes"][:200], "x.png")},
        "gone": {"image": {"bytes": None, "path": "nowhere/gone.png"}},
        "high": {"total_scores": [4.0, 9.0, 3.0]},
        "nan": {"total_scores": [math.nan] * 3, "element_labels": None},
    }
    for number, (name, values) in enumerate(bad.items()):
        rows.insert(5 * number + 2, rows[5 * number] | {"sample_id": name} | values)
    index = table.schema.get_field_index("total_scores")
    schema = table.schema.set(index, pa.field("total_scores", pa.list_(pa.float64())))
    folder.mkdir()
    for number, part in enumerate((rows[:13], rows[13:])):
        table = pa.Table.from_pylist(part, schema=schema)
        pq.write_table(table, folder / f"{number}.parquet", row_group_size=5)


@dataclass(frozen=True)
class Other:
    """A run on the same samples in another form, with two workers a member.

    Attributes:
        out: Its folder.
        data: Its manifest.
        members: DDP's and FSDP's; both are of the reference's second bag.
        lines: What it said.
    """

    out: Path
    data: Path
    members: tuple[str, str]
    lines: tuple[str, ...]


@pytest.fixture(scope="module")
def other(reference: Reference, tmp_path_factory: pytest.TempPathFactory) -> Other:
    """Two members at once; those of the first bag are taken from the reference, to save time."""
    folder = tmp_path_factory.mktemp("other")
    out, data, sharded = folder / "run", folder / "manifest", folder / "sharded"
    write_awkward(reference, data)
    shutil.copytree(registry.WEIGHTS / BACKBONE, sharded)
    take_member(reference.out, out, FIRST)
    take_member(reference.out, out, FIRST, member="sharded-bag0", backbone=str(sharded))
    backbones = {
        BACKBONE: backbone_run(workers=2),
        str(sharded): backbone_run(workers=2, strategy="fsdp", token_budget=900),
    }
    lines = launch(small_config(data, backbones=backbones, checkpoint_steps=3), out)
    return Other(out, data, (SECOND, "sharded-bag1"), tuple(lines))


@pytest.mark.parametrize("which", [0, 1], ids=["ddp", "fsdp"])
class TestWorkers:
    """More workers change the pace, not the members.

    The last batch of an epoch leaves one of two workers without rows.
    """

    def test_members_train_at_once(self, other: Other, which: int) -> None:
        starts = [other.lines.index(f"{m}: starts, 8 steps at the most") for m in other.members]
        ends = [i for i, line in enumerate(other.lines) if "finished after" in line]
        assert max(starts) < min(ends)
        member = other.members[which]
        assert [r["step"] for r in metrics(other.out, member)] == [1, 4, 6, 8]

    def test_weights_are_those_of_one_worker(
        self, reference: Reference, other: Other, which: int
    ) -> None:
        mine = adapter(other.out, other.members[which])
        assert_same_adapter(mine, adapter(reference.out, SECOND), relative=1e-4, strays=1e-3)

    def test_out_of_fold_scores_are_those_of_one_worker(
        self, reference: Reference, other: Other, which: int
    ) -> None:
        oof, expected = (pd.read_parquet(o / "oof.parquet") for o in (other.out, reference.out))
        assert list(oof["sample_id"]) == list(expected["sample_id"])
        label = (BACKBONE, "sharded")[which]
        scores = oof[f"m_{label}"]
        np.testing.assert_allclose(scores, expected[f"m_{BACKBONE}"], atol=1e-3, rtol=0)
        mine = held_out(other.out, other.members[which])
        assert sorted(mine["sample_id"]) == sorted(held_out(reference.out, SECOND)["sample_id"])


class TestData:
    def test_bad_rows_are_left_out_counted_and_explained(self, other: Other) -> None:
        """And training goes on with the rest."""
        skipped = pd.read_parquet(other.out / "skipped.parquet").set_index("sample_id")
        assert dict(skipped["code"]) == {
            "high": "label_out_of_range",
            "nan": "label_missing",
            "cut": "image_corrupt",
            "gone": "image_missing",
        }
        assert dict(skipped["row"]) == {"cut": 2, "gone": 7, "high": 12, "nan": 17}
        messages = dict(skipped["message"])
        assert messages["high"] == "rating 9 is outside 1..5; correct or drop the row"
        assert messages["nan"] == "neither the total nor an element has a rating"
        assert messages["cut"].startswith("row 2 ")
        assert messages["gone"] == (
            f"image 'nowhere/gone.png' does not exist (looked for "
            f"'{other.data}/nowhere/gone.png'); check the path and the folder that relative paths "
            f"start from"
        )
        assert (
            f"4 rows left out (image_corrupt 1, image_missing 1, label_missing 1, "
            f"label_out_of_range 1); {other.out}/skipped.parquet says why"
        ) in other.lines
        assert json.loads((other.out / "summary.json").read_text())["skipped"] == 4

    def test_image_bytes_are_trained_on_as_files_are(
        self, reference: Reference, other: Other
    ) -> None:
        samples, expected = (read_samples(Store.of(o)) for o in (other.out, reference.out))
        same = [n for n in samples.column_names if n not in ("row", "image_uri")]
        assert samples.select(same).equals(expected.select(same))
        for mine, theirs in zip(samples["image_uri"], expected["image_uri"], strict=True):
            data = fetch(theirs.as_py(), reference.data.parent)
            assert fetch(mine.as_py(), other.data) == data

    @pytest.mark.parametrize("form", ["binary", "evalmuse", "jsonl", "csv", "tar"])
    def test_each_form_gives_the_same_samples(
        self, reference: Reference, tmp_path: Path, form: str
    ) -> None:
        """All that training reads: the rest of it is the same."""
        folder, images = reference.data.parent, None
        options: dict[str, Any] = {}
        if form == "binary":
            manifest = tmp_path / "binary.parquet"
            table = with_images(reference.data, lambda data, uri: data)
            pq.write_table(table, manifest, row_group_size=7)
        elif form == "jsonl":
            manifest = tmp_path / "list.jsonl"
            lines = [json.dumps(row) for row in pq.read_table(reference.data).to_pylist()]
            manifest.write_text("\n".join(lines))
            images = str(folder)
        elif form == "csv":
            manifest = write_csv(reference, tmp_path)
            images = str(folder)
        elif form == "tar":
            manifest = write_shards(reference, tmp_path / "shards")
            options = {"map": {"sample_id": "key", "prompt_type": "prompt_type"}}
        else:
            manifest = tmp_path / "list.json"
            wanted = {row["img_path"] for row in pq.read_table(reference.data).to_pylist()}
            records = json.loads((folder / "train_list.json").read_text())
            manifest.write_text(json.dumps([r for r in records if r["img_path"] in wanted]))
            images = str(folder / "images")
        config = small_config(manifest, images=images, **options)
        sources = {BACKBONE: registry.resolve(BACKBONE)}
        specs = {BACKBONE: loading.image_spec(sources[BACKBONE], 16)}
        opened = read_manifest(config.data, config)
        run = Store.of(tmp_path / "run")
        samples, skipped = prepare_samples(opened, config, sources, specs, run)
        assert skipped.num_rows == 0
        expected = read_samples(Store.of(reference.out))
        same = [name for name in samples.column_names if name != "image_uri"]
        assert samples.select(same).equals(expected.select(same))
        for mine, theirs in zip(samples["image_uri"], expected["image_uri"], strict=True):
            assert fetch(mine.as_py(), opened.base) == fetch(theirs.as_py(), folder)

    def test_more_bad_rows_than_good_are_no_accident(
        self, reference: Reference, tmp_path: Path
    ) -> None:
        table = pq.read_table(reference.data)
        uris = [
            f"gone/{i}.png" if i >= 12 else uri.as_py() for i, uri in enumerate(table["image_uri"])
        ]
        index = table.schema.get_field_index("image_uri")
        path = reference.data.with_name("gone.parquet")
        pq.write_table(table.set_column(index, "image_uri", pa.array(uris)), path)
        with pytest.raises(ManifestError) as caught:
            train_members(small_config(path), str(tmp_path / "run"))
        assert str(caught.value) == (
            f"{path}: 18 of 30 rows cannot be trained on; the first, row 12: image_missing: image "
            f"'gone/12.png' does not exist (looked for '{path.parent}/gone/12.png'); check the "
            f"path and the folder that relative paths start from"
        )

    def test_a_prompt_of_the_test_data_is_refused(
        self, reference: Reference, tmp_path: Path
    ) -> None:
        """However it is spelled; the test split itself is let through."""
        table = pq.read_table(reference.data)
        prompt = table["prompt"][11].as_py()
        test = pq.read_table(reference.data.with_name("test.parquet"))
        prompts = [f"  {prompt.upper()} ", *test["prompt"].to_pylist()[1:]]
        index = test.schema.get_field_index("prompt")
        path = tmp_path / "test.parquet"
        pq.write_table(test.set_column(index, "prompt", pa.array(prompts)), path)
        with pytest.raises(ManifestError) as caught:
            train_members(small_config(reference.data, test=str(path)), str(tmp_path / "run"))
        assert str(caught.value) == (
            f"1 prompts are in both {reference.data} and {path}, such as {prompt[:80]!r}: scores "
            f"on the test data would flatter the members; remove them from one of the two"
        )
        clean = small_config(reference.data, test=str(reference.data.with_name("test.parquet")))
        lines = launch(clean, reference.out)
        assert lines[-1] == f"{SECOND}: finished before, left as it is"


class TestRefusals:
    def test_output_in_the_way(
        self, reference: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Before Ray is asked for anything."""

        def no_session() -> None:
            pytest.fail("Ray was started")

        monkeypatch.setattr("tokenfocus_ray.distributed.train.job.ray_session", no_session)
        (tmp_path / "file").write_text("precious")
        with pytest.raises(OutputError) as caught:
            train_members(small_config(reference.data), str(tmp_path / "file" / "run"))
        assert str(caught.value) == (
            f"cannot write to '{tmp_path}/file/run': Not a directory; a file stands where a "
            f"folder is needed: move it, or choose another folder"
        )
        (tmp_path / "mine.txt").write_text("precious")
        with pytest.raises(OutputError) as caught:
            train_members(small_config(reference.data), str(tmp_path))
        assert str(caught.value) == (
            f"output folder '{tmp_path}' holds 'file', which no training wrote; choose another"
        )
        assert (tmp_path / "file").read_text() == (tmp_path / "mine.txt").read_text()

    @pytest.mark.parametrize(
        ("options", "resource", "each", "total"),
        [
            ({"workers": 3, "cpus": 20.0}, "CPU", "20", "61"),
            ({"workers": 2, "gpus": 1.0}, "GPU", "1", "2"),
        ],
    )
    def test_needs_beyond_the_session(
        self,
        reference: Reference,
        tmp_path: Path,
        options: dict[str, Any],
        resource: str,
        each: str,
        total: str,
    ) -> None:
        config = small_config(reference.data, backbones={BACKBONE: backbone_run(**options)})
        with pytest.raises(ConfigError) as caught:
            train_members(config, str(tmp_path / "run"))
        there = ray.cluster_resources().get(resource, 0)
        assert str(caught.value) == (
            f"backbone {BACKBONE}: a member needs {total} {resource} "
            f"({options.get('workers', 1)} workers of {each}, 1 CPU to feed them), but the "
            f"session has {there:g}; lower workers, cpus, gpus or memory_gib, or set 'parallel' "
            f"where the cluster grows on demand"
        )
        assert not (tmp_path / "run" / SAMPLES_FILE).exists()
