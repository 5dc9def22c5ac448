"""What documentation names is there: imports, modules, files and the roles of docstrings."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tokenfocus_ray

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "tokenfocus_ray"
#: Not the changelog, which tells of what is gone.
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
MODULES = sorted(m.name for m in pkgutil.walk_packages(tokenfocus_ray.__path__, "tokenfocus_ray."))

_IMPORT = re.compile(r"from (tokenfocus_ray[\w.]*) import (\([^)]*\)|[\w, ]+)")
_DOTTED = re.compile(r"\btokenfocus_ray(?:\.\w+)+")
#: `room/file.py`, `file.py` and folders such as `tests/parity`; no wildcards and no placeholders.
_FILE = re.compile(r"(?<![\w./{<*-])((?:[\w-]+/)*[\w-]+\.py)\b")
_FOLDER = re.compile(
    r"(?<![\w./-])((?:tokenfocus_ray|tests|benchmarks|docs|jobs)(?:/[\w-]+)+)(?![\w./*{<-])"
)
_LINK = re.compile(r"\]\(((?!https?:)[^)#]+)")
_ROLE = re.compile(r":(?:mod|class|func|meth|data|attr):`~?([\w.]+)`")
#: Folders whose files a page may name without saying where they lie.
_SOURCES = ("tokenfocus_ray", "tests", "benchmarks", "jobs")


def found(dotted: str) -> bool:
    """Whether a module, or what is behind it, is there."""
    names = dotted.split(".")
    for n in range(len(names), 0, -1):
        try:
            value: Any = importlib.import_module(".".join(names[:n]))
        except ModuleNotFoundError:
            continue
        return has(value, names[n:])
    return False


def has(value: Any, names: list[str]) -> bool:
    """Whether attributes are there; fields count that each instance sets for itself."""
    for name in names:
        fields = getattr(value, "__annotations__", {}) if isinstance(value, type) else {}
        if name in fields or name in documented(value):
            return True
        if not hasattr(value, name):
            return False
        value = getattr(value, name)
    return True


def documented(value: Any) -> list[str]:
    """Attributes that the docstring of a class names."""
    text = (value.__doc__ or "") if isinstance(value, type) else ""
    return re.findall(r"^\s+(\w+): ", text.partition("Attributes:")[2], re.MULTILINE)


def unknown_names(page: str) -> list[str]:
    """Imports and modules of a page that are not there."""
    wanted = set(_DOTTED.findall(page))
    for module, names in _IMPORT.findall(page):
        wanted |= {f"{module}.{n.strip()}" for n in names.strip("()").split(",") if n.strip()}
    return sorted(name for name in wanted if not found(name))


def unknown_files(page: str, folder: Path) -> list[str]:
    """Files of a page that are not there: from the root, from the package, or by their name."""
    by_name = {path.name for top in _SOURCES for path in (ROOT / top).rglob("*.py")}
    files = {name for name in _FILE.findall(page) if name not in by_name}
    files |= set(_FOLDER.findall(page))
    missing = {f for f in files if not ((ROOT / f).exists() or (PACKAGE / f).exists())}
    return sorted(missing | {link for link in _LINK.findall(page) if not (folder / link).exists()})


def roles(tree: ast.Module) -> Iterator[tuple[str, ast.ClassDef | None]]:
    """Targets of roles in the docstrings of a file, with the class that they stand in."""

    def visit(node: ast.AST, owner: ast.ClassDef | None) -> Iterator[tuple[str, Any]]:
        for child in ast.iter_child_nodes(node):
            yield from visit(child, child if isinstance(child, ast.ClassDef) else owner)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for target in _ROLE.findall(ast.get_docstring(node) or ""):
                yield target, owner

    return visit(tree, None)


def unknown_roles(name: str) -> list[str]:
    """Roles of a module's docstrings that lead nowhere."""
    module = importlib.import_module(name)
    tree = ast.parse(Path(module.__file__ or "").read_text(encoding="utf-8"))
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom | ast.Import)
        for alias in node.names
    }
    missing = set()
    for target, owner in roles(tree):
        first, *rest = target.split(".")
        own = owner is not None and has(getattr(module, owner.name, None), [first, *rest])
        known = first in imported and not rest
        if not (own or known or has(module, [first, *rest]) or found(target)):
            missing.add(target)
    return sorted(missing)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_imports_and_modules_of_a_page_are_there(path: Path) -> None:
    assert unknown_names(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_files_of_a_page_are_there(path: Path) -> None:
    assert unknown_files(path.read_text(encoding="utf-8"), path.parent) == []


@pytest.mark.parametrize("name", ["tokenfocus_ray", *MODULES])
def test_roles_of_docstrings_lead_somewhere(name: str) -> None:
    assert unknown_roles(name) == []


def test_what_is_gone_is_found() -> None:
    page = """
        from tokenfocus_ray import AlignmentScorer, Nothing
        from tokenfocus_ray.gone import (
            x,
        )
        `tokenfocus_ray.scoring.scorer.AlignmentScorer.score`, `tokenfocus_ray.scoring.scores`
        `scoring/scorer.py`, `scoring/scores.py`, `scorer.py`, `tests/unit`, `tests/units`
        [a](scoring.md) [b](scores.md#part) [c](https://example.org/x.md)
    """
    assert unknown_names(page) == [
        "tokenfocus_ray.Nothing",
        "tokenfocus_ray.gone",
        "tokenfocus_ray.gone.x",
        "tokenfocus_ray.scoring.scores",
    ]
    assert unknown_files(page, ROOT / "docs") == ["scores.md", "scoring/scores.py", "tests/units"]
