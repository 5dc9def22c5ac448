"""Small data sets as other projects lay them down."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def png(seed: int, size: int = 24) -> bytes:
    """A picture of one colour, different for each seed."""
    sink = io.BytesIO()
    Image.new("RGB", (size, size), (seed * 37 % 256, seed * 91 % 256, seed % 256)).save(sink, "PNG")
    return sink.getvalue()


def put_tar(path: Path, members: Mapping[str, bytes]) -> None:
    """Writes a shard."""
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def webdataset(folder: Path, shards: int = 2, rows: int = 3) -> Path:
    """Shards of images, captions and JSON."""
    folder.mkdir(parents=True)
    for shard in range(shards):
        members = {}
        for i in range(rows):
            key, number = f"{shard:05d}{i:04d}", shard * rows + i
            members[f"{key}.png"] = png(number)
            members[f"{key}.txt"] = f"prompt {number}".encode()
            members[f"{key}.json"] = json.dumps({"model": f"m{number % 2}"}).encode()
        put_tar(folder / f"{shard:05d}.tar", members)
    return folder


#: What became of the urls of a shard, by number.
STATUS = ("success", "failed_to_download", "success", "failed_to_resize")


def img2dataset(folder: Path, form: str, shards: int = 2) -> Path:
    """One of img2dataset's forms: ``webdataset``, ``parquet`` or ``files``."""
    folder.mkdir(parents=True)
    for shard in range(shards):
        rows, members = [], {}
        for i, status in enumerate(STATUS):
            key, fine = f"{shard:05d}{i:04d}", status == "success"
            row: dict[str, Any] = {
                "url": f"http://example.org/{key}.jpg",
                "caption": f"caption {i}",
                "key": key,
                "status": status,
                "error_message": None if fine else "HTTP Error 404: Not Found",
                "width": 24 if fine else None,
                "height": 24 if fine else None,
                "exif": "{}" if fine else None,
            }
            rows.append(row)
            if form == "parquet":
                row["jpg"] = png(i + 10 * shard) if fine else None
            elif fine:
                members[f"{key}.jpg"] = png(i + 10 * shard)
                members[f"{key}.txt"] = f"caption {i}".encode()
                members[f"{key}.json"] = json.dumps(row).encode()
        stem = folder / f"{shard:05d}"
        if form == "webdataset":  # in the order in which downloads ended
            put_tar(Path(f"{stem}.tar"), dict(reversed(members.items())))
        elif form == "files":
            stem.mkdir()
            for name, data in members.items():
                (stem / name).write_bytes(data)
        pq.write_table(pa.Table.from_pylist(rows), f"{stem}.parquet")
        Path(f"{stem}_stats.json").write_text(json.dumps({"count": len(rows)}))
    return folder


def pickapic(folder: Path, pairs: Sequence[Mapping[str, Any]], group: int = 2) -> Path:
    """Pick-a-Pic's Parquet.

    Args:
        folder: Where.
        pairs: Of each row ``caption``, ``images`` (two numbers) and ``label_0``; more as given.
        group: Rows of a row group.
    """
    folder.mkdir(parents=True)
    rows = []
    for number, pair in enumerate(pairs):
        label = pair["label_0"]
        row = {
            "are_different": True,
            "best_image_uid": "",
            "caption": pair["caption"],
            "created_at": "2023-01-01",
            "has_label": label is not None,
            "label_0": label,
            "label_1": None if label is None else 1 - label,
            "num_example_per_prompt": 2,
            "ranking_id": 100 + number,
            "user_id": 7,
        }
        for side, image in enumerate(pair["images"]):
            row |= {
                f"image_{side}_uid": f"uid-{image}",
                f"image_{side}_url": f"https://example.org/{image}.png",
                f"jpg_{side}": png(image),
                f"model_{side}": f"model-{image % 2}",
            }
        rows.append(row | {k: v for k, v in pair.items() if k != "images"})
    pq.write_table(pa.Table.from_pylist(rows), folder / "train-0.parquet", row_group_size=group)
    return folder


DSG_HEAD = (
    "item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,"
    "question_natural_language"
)
#: The first questions of DSG-1k, one prompt's standing apart.
DSG = (
    'w_5,A cube,rubix cube,1,0,entity,whole,"e (rubix cube)",Is there a rubix cube?',
    'w_5,A cube,"rubix cube, purple",2,1,attribute,color,"a",Is the rubix cube purple?',
    'v_57,bench near trees,bench,1,0,entity,whole,"e (bench)",Is there a bench?',
    'v_57,bench near trees,trees,2,0,entity,whole,"e (trees)",Are there trees?',
    'v_57,bench near trees,"bench, trees, near",3,"1,2",relation,spatial,r,Is the bench near the trees?',  # noqa: E501
    'w_5,A cube,photo,3,0,global,-,"g (photo)",Is this a photo?',
)  # fmt: skip


def dsg(path: Path, rows: Sequence[str] = DSG) -> Path:
    """DSG's table of questions."""
    path.write_text("\n".join([DSG_HEAD, *rows]) + "\n")
    return path


def tifa(path: Path) -> Path:
    """TIFA's list of questions about two prompts."""
    cats, surfer = (
        "Three cats and two dogs sitting on the grass.",
        "A surfer carrying a white board.",
    )
    asked = [
        ("drawbench_52", cats, "are there cats?", ["yes", "no"], "yes", "animal/human", "cats"),
        ("drawbench_52", cats, "how many cats are there?", ["1", "3"], "3", "counting", "three"),
        ("coco_301091", surfer, "is the board white?", ["yes", "no"], "yes", "color", "white"),
        ("coco_301091", surfer, "what color is the board?", ["white"], "white", "color", "white"),
        ("coco_301091", surfer, "is there a dog?", ["yes", "no"], "no", "animal/human", "dog"),
        ("coco_301091", surfer, "who has a board?", ["surfer"], "surfer", "object", "board"),
    ]  # fmt: skip
    names = ("id", "caption", "question", "choices", "answer", "element_type", "element")
    records = [dict(zip(names, row, strict=True)) for row in asked]
    for record in records[2:]:
        record["coco_val_id"] = "380711"
    path.write_text(json.dumps(records))
    return path


#: The README's example, and one object alone.
GENEVAL2 = (
    {
        "prompt": "four white bicycles in front of three plastic cows",
        "atom_count": 7,
        "vqa_list": [
            ["How many bicycles are in the image?", "four"],
            ["Are the bicycles white?", "Yes"],
            ["Are there any bicycles in the image?", "Yes"],
            ["Are the bicycles in front of the cows?", "Yes"],
            ["How many cows are in the image?", "three"],
        ],
        "skills": ["count", "attribute", "object", "position", "count"],
    },
    {
        "prompt": "a green backpack and a pig",
        "atom_count": 3,
        "vqa_list": [
            ["How many backpacks are in the image?", "one"],
            ["Is the backpack green?", "Yes"],
        ],
        "skills": ["count", "attribute"],
    },
)  # fmt: skip


def geneval2(path: Path, lines: Sequence[Mapping[str, Any]] = GENEVAL2) -> Path:
    """GenEval 2's prompts."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def oneig(folder: Path) -> Path:
    """A check-out of OneIG-Bench: prompts, and JSON inside of JSON."""
    questions = folder / "scripts" / "alignment" / "Q_D"
    questions.mkdir(parents=True)
    (folder / "OneIG-Bench.csv").write_text(
        "category,id,prompt_en,type,prompt_length,class\n"
        'Anime_Stylization,000,"four boys, anime",T,short,None\n'
        "Portrait,000,a girl,NP,short,None\n"
        'Text_Rendering,000,"a sign ""HI""",NP,short,None\n'
    )
    asked = {
        "anime": {"1": "Are there boys?", "2": "Are there four boys?", "3": "Is this anime?"},
        "human": {"1": "Is there a girl?", "2": "Is the girl alone?"},
    }
    depends = {"anime": {"1": [0], "2": [1], "3": [0]}, "human": {"1": [0], "2": [1]}}
    for name, own in asked.items():
        entry = {"question": json.dumps(own), "dependency": json.dumps(depends[name])}
        (questions / f"{name}.json").write_text(json.dumps({"000": entry}))
    return folder


def hf_parquet(folder: Path, rows: int = 5) -> Path:
    """Hugging Face's images, the last by its path alone."""
    folder.mkdir(parents=True)
    table = [
        {
            "image": {"bytes": png(i) if i < rows - 1 else None, "path": f"{i}.png"},
            "text": f"prompt {i}",
            "model": f"m{i % 2}",
            "seed": i,
        }
        for i in range(rows)
    ]
    pq.write_table(pa.Table.from_pylist(table), folder / "0.parquet", row_group_size=2)
    (folder / f"{rows - 1}.png").write_bytes(png(rows - 1))
    return folder


def diffusiondb(folder: Path, rows: int = 4) -> Path:
    """DiffusionDB's metadata, and its images in parts."""
    (folder / "images").mkdir(parents=True)
    table = []
    for i in range(rows):
        part = folder / "images" / f"part-{i // 2 + 1:06d}"
        part.mkdir(exist_ok=True)
        (part / f"uuid-{i}.png").write_bytes(png(i))
        table.append(
            {
                "image_name": f"uuid-{i}.png",
                "prompt": f"prompt {i}",
                "part_id": i // 2 + 1,
                "seed": i,
            }
        )
    pq.write_table(pa.Table.from_pylist(table), folder / "metadata.parquet")
    return folder


def diffusiondb_parts(folder: Path, rows: int = 4) -> Path:
    """DiffusionDB as it is downloaded, two images a part."""
    for i in range(rows):
        part = f"part-{i // 2 + 1:06d}"
        (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / part / f"uuid-{i}.png").write_bytes(png(i))
        path = folder / part / f"{part}.json"
        known = json.loads(path.read_text()) if path.exists() else {}
        known[f"uuid-{i}.png"] = {"p": f"prompt {i}", "se": i, "c": 7.0, "st": 50, "sa": "k_lms"}
        path.write_text(json.dumps(known))
    return folder


def evalmuse(folder: Path) -> Path:
    """EvalMuse's labels, and its images beside."""
    (folder / "SDXL").mkdir(parents=True)
    records = []
    for i in range(3):
        (folder / "SDXL" / f"{i}.png").write_bytes(png(i))
        records.append(
            {
                "prompt_id": str(i),
                "prompt": f"{i} pigs",
                "type": "synthetic",
                "img_path": f"SDXL/{i}.png",
                "total_score": [4, 3, 3],
                "element_score": {"pigs (animal)": [1, 1, 0], f"{i} (counting)": [0, 0, 0]},
                "promt_meaningless": [0, 0, 0],
                "split_confidence": [0, 0, 0],
                "attribute_confidence": [1, 1, 1],
                "fidelity_label": ["none"],
            }
        )
    (folder / "train_list.json").write_text(json.dumps(records))
    return folder
