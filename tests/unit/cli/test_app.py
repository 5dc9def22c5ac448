from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import tokenfocus_ray
from tokenfocus_ray.cli.app import app, main
from tokenfocus_ray.config import load_score_config

#: How much is shown: of commands that take their time.
SHOWN = ("--quiet", "--verbose")
#: Every command with all its arguments and options, so that each new one is seen here.
COMMANDS = {
    "": ["--version"],
    "score": [
        "MANIFEST",
        "--out",
        "--backbone",
        "--adapter",
        "--images",
        "--images-only",
        "--map",
        "--encoding",
        "--no-quotes",
        "--config",
        "--max-visual-tokens",
        "--ensemble",
        "--workers",
        "--overwrite",
        "--retry-unscored",
        *SHOWN,
    ],
    "train": ["--config", "--out", "--plan", *SHOWN],
    "evaluate": [
        "SCORES",
        "--labels",
        "--table",
        "--target",
        "--group",
        "--column",
        "--against",
        "--label-range",
        "--encoding",
        "--plots",
        "--json",
    ],
    "stack": [
        "SCORES",
        "--labels",
        "--table",
        "--target",
        "--features",
        "--group",
        "--encoding",
        "--out",
        "--json",
        "--method",
        "--metric",
        "--label-range",
        "--coverage",
        "--folds",
        "--seeds",
        *SHOWN,
    ],
    "merge": ["SCORES", "--ensemble", "--out", *SHOWN],
    "select": [
        "SCORES",
        "--out",
        "--min-score",
        "--min-low",
        "--max-spread",
        "--min-agreement",
        "--elements-present",
        "--element-type",
        "--element",
        "--element-threshold",
        "--dependencies",
        "--best-of",
        "--top",
        "--balance",
        "--budget",
        "--npy",
        "--uid",
        "--copy-images",
        "--shard-size",
        "--dry-run",
        "--manifest",
        "--images",
        "--map",
        *SHOWN,
    ],
    "plan": [
        "MANIFEST",
        "--backbone",
        "--gpu",
        "--gpus",
        "--price",
        "--efficiency",
        "--cpus",
        "--measure",
        "--adapter",
        "--images",
        "--map",
        "--encoding",
        "--no-quotes",
        "--config",
        "--max-visual-tokens",
        "--ensemble",
        "--samples",
        "--json",
        "--quiet",
    ],
    "report": [
        "SCORES",
        "--out",
        "--labels",
        "--against",
        "--manifest",
        "--images",
        "--map",
        "--dependencies",
        *SHOWN,
    ],
    "pairs": [
        "SCORES",
        "--out",
        "--format",
        "--min-margin",
        "--min-confidence",
        "--majority",
        "--per-prompt",
        "--limit",
        "--seed",
        "--map",
        "--manifest",
        "--images",
        *SHOWN,
    ],
    "submission": [
        "SCORES",
        "--out",
        "--test-list",
        "--fill-unscored",
        "--readme",
        "--encoding",
    ],
    "demo": ["--out", "--samples", "--seed", *SHOWN],
    "data": [],
    "data import": [
        "FORMAT",
        "SRC",
        "--out",
        "--images",
        "--map",
        "--encoding",
        "--overwrite",
        *SHOWN,
    ],
    "data synthetic": ["--out", "--samples", "--seed"],
    "data elements": [
        "MANIFEST",
        "--out",
        "--with",
        "--map",
        "--encoding",
        "--no-quotes",
        "--replace",
        "--backbone",
        "--workers",
        "--model",
        "--url",
        "--key-env",
        "--rpm",
        "--price-in",
        "--price-out",
        *SHOWN,
    ],
}


def parameters(command: Any, name: str = "") -> dict[str, list[str]]:
    def shown(parameter: Any) -> str:
        if parameter.param_type_name == "argument":
            return str(parameter.name).upper()
        return "/".join([*parameter.opts, *parameter.secondary_opts])

    found = {name: [shown(p) for p in command.params]}
    for child, below in getattr(command, "commands", {}).items():
        found |= parameters(below, f"{name} {child}".strip())
    return found


def plain(text: str) -> str:
    """Without colours, which some CI systems force."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_every_command_and_option() -> None:
    assert parameters(typer.main.get_command(app)) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str) -> None:
    result = CliRunner().invoke(app, [*command.split(), "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    for name in COMMANDS[command]:
        assert name.partition("/")[0].lower() in plain(result.output).lower()


@pytest.mark.parametrize("command", ["", "data"])
def test_group_without_a_command_shows_its_help(command: str) -> None:
    result = CliRunner().invoke(app, command.split())
    assert result.exit_code == 2
    assert "Usage" in plain(result.output)


def test_version() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.output) == (
        0,
        f"tokenfocus-ray {tokenfocus_ray.__version__}\n",
    )


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["tokenfocus", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_success_ends_with_0(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = str(tmp_path / "out")
    assert run_main(monkeypatch, "data", "synthetic", "--out", out, "--samples", "24") == 0
    assert capsys.readouterr() == (f"train=18 test=6 out={out}\n", "")


def test_paths_may_begin_at_home(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """No shell expands ``--out=~/x``, and none reads the configuration."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert run_main(monkeypatch, "data", "synthetic", "--out=~/out", "--samples", "24") == 0
    assert capsys.readouterr().out == f"train=18 test=6 out={tmp_path}/out\n"
    (tmp_path / "c.yaml").write_text("backbone: ~/model\nadapters: {a: ~/a}\n")
    for command in (
        ["score", "~/m.csv", "--out=~/out", "--config=~/c.yaml"],
        ["evaluate", "~/scores", "--labels=~/out/train.parquet"],
        ["stack", "~/scores", "--labels=~/out/train.parquet"],
        ["stack", "--table=~/t.csv", "--target=human", "--features=m"],
        ["merge", "~/scores", "--ensemble=~/bundle", "--out=~/out"],
        ["select", "~/scores", "--out=~/out"],
        ["submission", "~/scores", "--test-list=~/t.json", "--readme=~/r", "--out=~/out"],
        ["pairs", "~/scores", "--format=trl", "--manifest=~/m.csv", "--images=~/i", "--out=~/out"],
    ):
        assert run_main(monkeypatch, *command) == 2
        assert "~" not in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir() if "~" in path.name] == []
    brought = load_score_config("c.yaml")[0]
    assert brought[f"{tmp_path}/model"].adapters == {"a": f"{tmp_path}/a"}


SCORE = ("score", "m.csv", "--out", "out")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("data", "synthetic", "--out", "out", "--samples", "3"),
            "samples must be at least 24 (six generators, four prompts), got 3",
        ),
        (("data", "synthetic", "--out", "out", "--seed", "-1"), "seed must be 0 or more, got -1"),
        (SCORE, "no backbone: give --backbone NAME, or 'backbone' in --config"),
        ((*SCORE, "--adapter", "a"), "--adapter 'a': wanted NAME=VALUE"),
        ((*SCORE, "--adapter", "=a"), "--adapter '=a': wanted NAME=VALUE"),
        ((*SCORE, "--adapter", "a="), "--adapter 'a=': wanted NAME=VALUE"),
        (
            (*SCORE, "--adapter", "a=b", "--adapter", "a=c"),
            "--adapter 'a=c': 'a' is given twice",
        ),
        (
            (*SCORE, "--backbone", "tiny-internvl", "--map", "prompt"),
            "--map 'prompt': wanted NAME=VALUE",
        ),
        (
            (*SCORE, "--backbone", "tiny-internvl", "--max-visual-tokens", "0"),
            "options: max_visual_tokens = 0: Input should be greater than or equal to 1",
        ),
        ((*SCORE, "--config", "no.yaml"), "no.yaml: cannot be read: No such file or directory"),
        ((*SCORE, "--backbone", "tiny-internvl"), "manifest 'm.csv' does not exist"),
        (
            ("data", "elements", "m.csv", "--out", "out", "--rpm", "9"),
            "--rpm is not for --with rules; leave one of them out",
        ),
        (
            ("data", "elements", "m.csv", "--out", "out", "--with", "endpoint"),
            "--with endpoint: give --model NAME, as the server names it",
        ),
        (
            ("train", "--config", "no.yaml", "--out", "out"),
            "no.yaml: cannot be read: No such file or directory",
        ),
    ],
    ids=lambda value: " ".join(value[1:]) if isinstance(value, tuple) else "",
)
def test_error_of_the_user(
    arguments: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """One message on stderr, exit code 2, nothing made."""
    monkeypatch.chdir(tmp_path)
    assert run_main(monkeypatch, *arguments) == 2
    assert capsys.readouterr() == ("", f"error: {message}\n")
    assert list(tmp_path.iterdir()) == []


def test_options_win_over_the_configuration_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        "backbone: from-file\nmax_visual_tokens: 7\nstructure: false\n"
        "job: {workers: 5, commit_rows: 9}\n"
    )
    seen: dict[str, Any] = {}

    class Summary:
        def line(self) -> str:
            return "done"

    def score_manifest(manifest: list[str], out: str, config: Any, **rest: Any) -> Summary:
        seen.update(manifest=manifest, out=out, config=config, **rest)
        rest["say"]("half")
        return Summary()

    monkeypatch.setattr(tokenfocus_ray, "score_manifest", score_manifest)
    arguments = ["--config", str(path), "--backbone", "b", "--adapter", "m0=a=b", "--overwrite"]
    arguments += [
        "--map",
        "prompt=caption",
        "--workers",
        "2",
        "--images",
        "pictures",
        "--images-only",
    ]
    arguments += ["--retry-unscored"]
    result = CliRunner().invoke(app, ["score", "m.csv", "n.csv", "--out", "out", *arguments])
    assert (result.exit_code, result.output) == (0, "half\ndone\n")
    (config,), job = seen.pop("config").values(), seen.pop("job")
    assert (job.workers, job.commit_rows) == (2, 9)
    del seen["say"], seen["progress"]
    assert (config.backbone, config.max_visual_tokens, config.structure) == ("b", 7, False)
    assert config.adapters == {"m0": "a=b"}
    assert seen == {
        "manifest": ["m.csv", "n.csv"],
        "out": "out",
        "images": "pictures",
        "images_only": True,
        "mapping": {"prompt": "caption"},
        "encoding": None,
        "quotes": True,
        "ensemble": None,
        "overwrite": True,
        "retry_unscored": True,
    }


TRAINING = """
data: m.jsonl
backbones: [tiny-internvl]
bags: {count: 2}
optimizer: {epochs: 2, batch_size: 2}
lora: {rank: 2}
"""


def training(folder: Path, text: str = TRAINING) -> list[str]:
    """Arguments of a training on eight samples of four prompts; their images are not there."""
    rows = [
        {"image_uri": f"{i}.png", "prompt": f"{i // 2} cats", "total_scores": [1 + i % 5]}
        for i in range(8)
    ]
    (folder / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "t.yaml").write_text(text)
    return ["train", "--config", "t.yaml", "--out", "out"]


def test_train(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The configuration reaches the training; a table and one line for scripts come back."""
    from tokenfocus_ray.distributed.train.results import TrainSummary

    seen: dict[str, Any] = {}

    def train_members(config: Any, out: str, say: Any, progress: Any) -> TrainSummary:
        seen.update(config=config, out=out)
        say("tiny-internvl-bag0: starts")
        held_out = {"srcc": 0.51234, "plcc": None, "element_accuracy": 0.75}
        member = {
            "member": "tiny-internvl-bag0",
            "steps": 12,
            "best_epoch": 2,
            "out_of_fold": held_out,
            "gpu_hours": 1.5,
        }
        return TrainSummary(out, [member], 3, 61.25)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tokenfocus_ray, "train_members", train_members)
    result = CliRunner().invoke(app, training(tmp_path), env={"COLUMNS": "120"})
    assert result.exit_code == 0, result.output
    assert (seen["out"], seen["config"].optimizer.epochs) == ("out", 2)
    first, *table, last = plain(result.output).splitlines()
    assert first == "tiny-internvl-bag0: starts"
    (row,) = (line for line in table if "tiny-internvl-bag0" in line)
    cells = [cell.strip() for cell in re.split("[│┃|]", row) if cell.strip()]
    assert cells == ["tiny-internvl-bag0", "12", "2", "0.512", "-", "0.750", "1.50"]
    assert last == "members=1 skipped=3 gpu_hours=1.50 seconds=61.2 out=out"


def test_plan_starts_and_writes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = [*training(tmp_path), "--plan"]
    before = sorted(tmp_path.iterdir())
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "120"})
    assert result.exit_code == 0, result.output
    assert sorted(tmp_path.iterdir()) == before
    lines = plain(result.output).splitlines()
    cells = [[c.strip() for c in re.split("[│┃|]", line) if c.strip()] for line in lines]
    # two of four prompts are held out, one validates and one is trained on, twice a sample
    for bag in range(2):
        assert [f"tiny-internvl-bag{bag}", "2", "2", "4", "2"] in cells
    (sizes,) = (row for row in cells if row[:1] == ["tiny-internvl"])
    assert lines[-1] == (
        "warning: tiny-internvl-bag0, tiny-internvl-bag1: only 2 of the validation images have a "
        "total rating, so there is no validation SRCC and the validation loss chooses the best "
        "epoch; raise bags.validation or rate more images if that is not meant"
    )
    # 14 numbers a unit of rank: 8 squares of 128, 6 sides of 384, in four layers
    trained = 4 * 2 * (4 * 2 * 128 + 3 * (128 + 384))
    assert sizes[2] == f"{trained:,}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            TRAINING.replace("epochs", "epoch"),
            "t.yaml: unknown key 'optimizer.epoch'. Did you mean 'epochs'? Known: batch_size, "
            "epochs, learning_rate, max_grad_norm, patience, warmup, weight_decay.",
        ),
        (TRAINING.replace("m.jsonl", "n.jsonl"), "manifest 'n.jsonl' does not exist"),
        (
            TRAINING.replace("tiny-internvl", "tiny-intern"),
            "unknown backbone 'tiny-intern': neither built in, nor a folder, nor a hub id "
            "(owner/name). Did you mean 'tiny-internvl'? Known: tiny-internvl, tiny-qwen2_5_vl.",
        ),
        (
            TRAINING.replace("count: 2", "count: 9"),
            "bags.count = 9 needs at least 9 different prompts, but the training data has 4; lower "
            "bags.count or add data",
        ),
        (
            TRAINING + "map: {prompt: caption}",
            "--map prompt=caption: m.jsonl has no column 'caption'. Known: image_uri, prompt, "
            "total_scores.",
        ),
    ],
    ids=["key", "manifest", "backbone", "bags", "column"],
)
def test_plan_tells_what_is_wrong(
    text: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_main(monkeypatch, *training(tmp_path, text), "--plan") == 2
    assert capsys.readouterr() == ("", f"error: {message}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("train",),
        ("train", "--config", "t.yaml"),
        ("train", "--out", "out"),
        ("score",),
        ("score", "m.csv"),
        ("score", "m.csv", "--out", "out", "--workers", "0"),
        ("score", "m.csv", "--out", "out", "--backbon", "b"),
        ("data", "synthetic", "--out", "out", "--samples", "many"),
        ("no-such-command",),
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2(
    arguments: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_main(monkeypatch, *arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert plain(err).strip().startswith("Usage: ")
    assert "Traceback" not in err


def test_help_imports_nothing_heavy() -> None:
    """Half a second instead of ten."""
    script = (
        "import sys\n"
        "from tokenfocus_ray.cli.app import main\n"
        "sys.argv = ['tokenfocus', '--help']\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as end:\n"
        "    heavy = {'torch', 'transformers', 'ray', 'pyarrow'} & set(sys.modules)\n"
        "    sys.exit(f'imported {sorted(heavy)}' if heavy else end.code)\n"
    )
    root = Path(tokenfocus_ray.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=root)
    assert (done.returncode, done.stderr) == (0, "")
    assert "score" in done.stdout


def test_module_runs_as_a_script(tmp_path: Path) -> None:
    """The whole way, in a process of its own: no traceback gets out."""
    root = Path(tokenfocus_ray.__file__).parents[1]
    arguments = ["data", "synthetic", "--out", str(tmp_path / "out"), "--samples", "3"]
    done = subprocess.run(
        [sys.executable, "-m", "tokenfocus_ray.cli.app", *arguments],
        capture_output=True,
        text=True,
        cwd=root,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: samples must be at least 24 (six generators, four prompts), got 3\n"
    )


def test_help_has_no_brackets_that_rich_takes_for_markup() -> None:
    """What stands in them would not be printed; defaults in words are ``show_default``."""
    folder = Path(tokenfocus_ray.__file__).parent / "cli"
    texts = [
        str(node.value.value)
        for path in sorted(folder.glob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.keyword)
        and node.arg == "help"
        and isinstance(node.value, ast.Constant)
    ]
    assert len(texts) > 30
    assert [text for text in texts if "[" in text] == []
