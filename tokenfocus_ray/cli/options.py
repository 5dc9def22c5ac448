"""What options of several commands have in common."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from tokenfocus_ray.errors import ConfigError

#: Arguments and options that are paths. Those of a configuration, ``backbone`` and ``adapter``
#: among them, are expanded there.
_PATHS = (
    "manifest", "scores", "out", "images", "config", "ensemble", "labels", "table", "against",
    "plots", "json", "src", "test_list", "readme",
)  # fmt: skip

Quiet = Annotated[bool, typer.Option("--quiet", help="Print the last line and errors only.")]
Verbose = Annotated[bool, typer.Option("--verbose", help="Print Ray's own lines too.")]
#: Of a table that no job wrote.
AnyTable = Annotated[
    str | None,
    typer.Option(help="Or any table of scores and labels: Parquet, .csv, .tsv, .jsonl."),
]
Target = Annotated[
    str | None, typer.Option(help="Its column of the label, or pattern of raters' columns.")
]
Encoding = Annotated[
    str | None,
    typer.Option(help="Of labels and tables in text, such as latin-1.", show_default="utf-8"),
]
Report = Annotated[str | None, typer.Option(help="Also write the report to this file.")]

# of manifests, and of what scores them
Backbone = Annotated[
    str | None, typer.Option(help="tiny-qwen2_5_vl, tiny-internvl, a folder, or a hub id.")
]
Adapters = Annotated[
    list[str] | None, typer.Option(help="NAME=FOLDER of a peft adapter: one member. Repeat.")
]
ManifestImages = Annotated[
    str | None,
    typer.Option(
        help="Folder that relative image paths start from.", show_default="the manifest's"
    ),
]
ManifestRoles = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        help="ROLE=COLUMN. Roles: prompt, image, image_uri, elements, prompt_type, sample_id.",
    ),
]
ManifestEncoding = Annotated[
    str | None,
    typer.Option(help="Of captions and text manifests, such as latin-1.", show_default="utf-8"),
]
NoQuotes = Annotated[
    bool, typer.Option("--no-quotes", help="Quotes in .csv and .tsv are part of the text.")
]
ScoringFile = Annotated[
    str | None, typer.Option(help="YAML of ScoringConfig, and of JobConfig under 'job'.")
]
MaxVisualTokens = Annotated[
    int | None,
    typer.Option(help="Most image tokens an image.", show_default="the backbone's own limit"),
]

# of score tables
Scored = Annotated[
    list[str] | None,
    typer.Option(
        help="What was scored, where it has moved since; may be repeated.",
        show_default="as recorded",
    ),
]
ScoredImages = Annotated[
    str | None,
    typer.Option(help="Folder that relative image paths start from.", show_default="as recorded"),
]


class Command(TyperCommand):
    """A command whose paths may begin with ``~``, also where no shell expands it (``--out=~/x``).

    Here and not where files are opened: another node, or a manifest, has no business at our home.
    """

    def invoke(self, ctx: Any) -> Any:
        """Runs the command with its paths expanded."""
        for name in _PATHS:
            match ctx.params.get(name):
                case str(path):
                    ctx.params[name] = os.path.expanduser(path)
                case list(paths):
                    ctx.params[name] = [os.path.expanduser(path) for path in paths]
        return super().invoke(ctx)


def pairs(items: Sequence[str], option: str) -> dict[str, str]:
    """``NAME=VALUE`` of a repeated option.

    Raises:
        ConfigError: one is no pair, or a name is given twice.
    """
    found: dict[str, str] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not (key and equals and value):
            raise ConfigError(f"{option} {item!r}: wanted NAME=VALUE")
        if key in found:
            raise ConfigError(f"{option} {item!r}: {key!r} is given twice")
        found[key] = value
    return found
