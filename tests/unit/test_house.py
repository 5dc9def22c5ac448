"""The house: no circle of files, small files, and who imports what (docs/architecture.md)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

import tokenfocus_ray

PACKAGE = Path(tokenfocus_ray.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
#: What `cli/` and `jobs/` may import beside public names: themselves, errors, the demo, and where a
#: job stands.
OF_THE_HALL = tuple(
    f"tokenfocus_ray.{n}" for n in ("cli", "demo", "errors", "progress", "say", "version")
)
#: What else one file may: the words of errors that are not ours, and a file in an output folder.
OF_ONE = {
    "ends.py": ("tokenfocus_ray.distributed.ray_errors", "tokenfocus_ray.storage"),
    "log.py": ("tokenfocus_ray.storage",),
}


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected parts of more than one file (Tarjan, 1972)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(node: str) -> None:
        order[node] = low[node] = len(order)
        stack.append(node)
        for other in edges[node]:
            if other not in order:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], order[other])
        if low[node] == order[node]:
            part = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(part) > 1:
                found.append(sorted(part))

    for node in edges:
        if node not in order:
            visit(node)
    return found


def test_a_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]


def test_no_circle_of_files() -> None:
    graph = grimp.build_graph("tokenfocus_ray", exclude_type_checking_imports=True, cache_dir=None)
    edges = {m: graph.find_modules_directly_imported_by(m) for m in graph.modules}
    assert circles(edges) == []


def test_files_are_small() -> None:
    long = {f.name: n for f in FILES if (n := len(f.read_text().splitlines())) > 300}
    assert long == {}


def imports(tree: ast.AST) -> Iterator[tuple[str, list[str]]]:
    """Module and names of every import that runs; those for type checkers do not."""
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                continue
            case ast.ImportFrom(module=str(module)):
                yield module, [alias.name for alias in node.names]
            case ast.Import():
                yield from ((alias.name, []) for alias in node.names)
            case _:
                yield from imports(node)


@pytest.mark.parametrize(
    "path",
    [*sorted((PACKAGE / "cli").glob("*.py")), *sorted((PACKAGE.parent / "jobs").glob("*.py"))],
    ids=lambda path: f"{path.parent.name}/{path.name}",
)
def test_the_hall_imports_public_verbs_only(path: Path) -> None:
    for module, names in imports(ast.parse(path.read_text())):
        if module == "tokenfocus_ray":
            public = {*tokenfocus_ray.__all__}
            assert {*names} <= public, f"{path.name}: {sorted({*names} - public)} are not public"
        elif module.startswith("tokenfocus_ray"):
            allowed = OF_THE_HALL + OF_ONE.get(path.name, ())
            assert module.startswith(allowed), f"{path.name} imports {module}"


def test_private_names_stay_in_their_files() -> None:
    borrowed = [
        f"{path.name} imports {module}.{name}"
        for path in FILES
        for module, names in imports(ast.parse(path.read_text()))
        if module.startswith("tokenfocus_ray")
        for name in names
        if name.startswith("_") and not name.startswith("__")
    ]
    assert borrowed == []


def test_what_is_imported_from_the_package_is_public() -> None:
    """Names that load when they are first used are hidden from type checkers."""
    rooms = {path.stem for path in PACKAGE.iterdir()}
    root = PACKAGE.parent
    unknown = [
        f"{path.relative_to(root)}: {name}"
        for folder in (PACKAGE, *(root / n for n in ("benchmarks", "jobs", "tests")))
        for path in folder.rglob("*.py")
        for module, names in imports(ast.parse(path.read_text()))
        if module == "tokenfocus_ray"
        for name in names
        if name not in tokenfocus_ray.__all__ and name not in rooms
    ]
    assert unknown == []
