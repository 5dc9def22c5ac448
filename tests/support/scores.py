"""Score tables for tests, as scoring jobs write them, without scoring anything."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from tokenfocus_ray.config import ScoringConfig
from tokenfocus_ray.schema import ELEMENT_TYPE, SCORE_SCHEMA, backbone_label
from tokenfocus_ray.tables.members import KEY, BackboneInfo, ScoreTableInfo

NAN = math.nan


def metadata(backbones: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """What a job says of its backbones and their members."""
    return info(backbones).to_metadata()


def info(backbones: Mapping[str, Sequence[str]], **config: Any) -> ScoreTableInfo:
    """Likewise, as a value; with some fields of the configurations."""
    each = [
        BackboneInfo(
            name=backbone_label(name) if len(backbones) == 1 else name,
            source=name,
            revision=f"revision of {name}",
            package="0.1.0",
            template="0123456789abcdef",
            members=tuple(members),
            config=ScoringConfig(
                backbone=name,
                adapters={m: f"adapters/{m}" for m in members if m != "base"},
                **config,
            ).model_dump(mode="json"),
        )
        for name, members in backbones.items()
    ]
    return ScoreTableInfo(backbones=tuple(each))


def older_metadata(backbones: Mapping[str, Sequence[str]], **more: str) -> dict[str, str]:
    """What a job of before said of the same."""
    found = info(backbones).to_metadata() | {f"tokenfocus.{key}": v for key, v in more.items()}
    return {key: text for key, text in found.items() if key != KEY}


def score_table(
    backbones: Mapping[str, Sequence[str]], rows: Sequence[Mapping[str, Any]], **more: Any
) -> pa.Table:
    """A table of ``id, scores [M], elements [M][E]``; without scores a row is unscored."""
    names = [f"claim {i}" for i in range(9)]
    made: list[dict[str, Any]] = []
    for row in rows:
        scores, elements = row.get("scores"), row.get("elements", [])
        n_elements = row.get("n", len(elements[0]) if elements else 0)
        made.append(
            {
                "sample_id": row["id"],
                "prompt": row.get("prompt", f"prompt {row['id']}"),
                "elements": [{"text": t, "type": "object"} for t in names[:n_elements]],
                "status": "ok" if scores else "unscored",
                "error_code": None if scores else "image_missing",
                "error_message": None if scores else "no image",
                "score": float(np.mean(scores)) if scores else NAN,
                "member_scores": scores or [],
                "element_scores": np.mean(elements, axis=0).tolist()
                if scores and elements
                else [NAN] * n_elements,
                "member_element_scores": elements if scores else [],
            }
        )
    schema = pa.schema(
        [("prompt", pa.string()), ("elements", pa.list_(ELEMENT_TYPE)), *SCORE_SCHEMA]
    )
    table = pa.Table.from_pylist(made, schema=schema)
    for name, values in more.items():
        table = table.append_column(name, pa.array(values))
    return table.replace_schema_metadata(metadata(backbones))


def random_scores(
    backbones: Mapping[str, Sequence[str]], n: int, seed: int = 0, unscored: Sequence[int] = ()
) -> tuple[pa.Table, pa.Table]:
    """Scores of ``n`` samples with one to three elements each, four a prompt; and their labels."""
    generator = np.random.default_rng(seed)
    n_members = sum(map(len, backbones.values()))
    rows, labels = [], []
    for i in range(n):
        truth = generator.random(1 + i % 3) < 0.6
        total = 1 + 4 * truth.mean() + generator.normal(scale=0.3)
        scores = (total + generator.normal(scale=0.8, size=n_members)).tolist()
        noise = generator.normal(scale=0.25, size=(n_members, len(truth)))
        elements = np.clip(0.2 + 0.6 * truth + noise, 0, 1).tolist()
        row = {"id": f"s{i:05d}", "prompt": f"prompt {i // 4}", "n": len(truth)}
        rows.append(row if i in unscored else {**row, "scores": scores, "elements": elements})
        labels.append(
            {
                "sample_id": f"s{i:05d}",
                "prompt": f"prompt {i // 4}",
                "elements": [{"text": f"claim {e}", "type": "object"} for e in range(len(truth))],
                "total_scores": [int(np.clip(round(total), 1, 5))],
                "element_labels": [[int(t)] for t in truth],
            }
        )
    return score_table(backbones, rows), pa.Table.from_pylist(labels)


def with_text_as(table: pa.Table, kind: Any) -> pa.Table:
    """The table with its columns of text as another kind of text."""
    for index, field in enumerate(table.schema):
        if pa.types.is_string(field.type):
            text: Any = table[field.name].combine_chunks()
            text = text.dictionary_encode() if pa.types.is_dictionary(kind) else text.cast(kind)
            table = table.set_column(index, field.with_type(text.type), text)
    return table
