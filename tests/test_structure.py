"""The shape of the package: imports without circles, modules of a size that can be read at once."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

PACKAGE = Path(__file__).resolve().parents[1] / "qhybrid"
LARGEST = 400
"""Lines of a module at most."""
MEDIAN = (120, 200)
"""Lines of the median module: below, one idea is spread over fragments; above, modules hold several."""

Graph = dict[str, set[str]]


def name_of(file: Path, root: Path) -> str:
    parts = file.relative_to(root.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(tree: ast.AST) -> Iterable[ast.Import | ast.ImportFrom]:
    """Yield all imports, those inside functions too, but not those for type checkers alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            yield from (found for part in node.orelse for found in imports_of(part))
        else:
            yield from imports_of(node)


def import_graph(root: Path) -> Graph:
    """Return for every module of a package which of its modules it imports."""
    files = {name_of(file, root): file for file in sorted(root.rglob("*.py"))}
    graph: Graph = {name: set() for name in files}
    for name, file in files.items():
        for node in imports_of(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found = {alias.name for alias in node.names}
            else:
                assert node.level == 0, f"{file}: imports must be absolute"
                below = {f"{node.module}.{alias.name}" for alias in node.names}
                # `from package import name` is the module of that name, else the package itself.
                found = {one if one in files else str(node.module) for one in below}
            graph[name] |= found & set(files)
    return graph


def circles(graph: Graph) -> list[set[str]]:
    """Return the sets of nodes that reach each other."""
    names = sorted(graph)
    place = {name: index for index, name in enumerate(names)}
    edges = [(place[one], place[other]) for one, others in graph.items() for other in others]
    rows, columns = zip(*edges) if edges else ((), ())
    matrix = csr_array((np.ones(len(edges)), (rows, columns)), shape=(len(names), len(names)))
    count, label = connected_components(matrix, directed=True, connection="strong")
    groups = [{name for name in names if label[place[name]] == number} for number in range(count)]
    return [group for group in groups if len(group) > 1 or graph[min(group)] & group]


def between_rooms(graph: Graph, room: str) -> Graph:
    """Return which children of a package import which others; its own __init__ is left out."""

    def child(name: str) -> str | None:
        return name.removeprefix(f"{room}.").split(".")[0] if name.startswith(f"{room}.") else None

    found: Graph = {}
    for name, others in graph.items():
        if (own := child(name)) is not None:
            found.setdefault(own, set()).update({child(one) for one in others} - {own, None})  # type: ignore[arg-type]
    return found


@pytest.fixture(scope="module")
def graph() -> Graph:
    return import_graph(PACKAGE)


def write_package(root: Path, **modules: str) -> Path:
    (root / "p").mkdir()
    for name, content in {"__init__": "", **modules}.items():
        (root / "p" / f"{name}.py").write_text(content)
    return root / "p"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("import p.b", [{"p.a", "p.b"}]),
        ("from p.b import X", [{"p.a", "p.b"}]),
        ("def f():\n    from p import b", [{"p.a", "p.b"}]),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from p.b import X", []),
        ("from p.c import X", []),
    ],
)
def test_circles_are_found(tmp_path, content, expected):
    package = write_package(tmp_path, a=content, b="from p.a import Y", c="import os")
    assert circles(import_graph(package)) == expected


def test_modules_import_in_no_circle(graph):
    assert len(graph) > 200
    assert circles(graph) == []


def test_rooms_import_in_no_circle(graph):
    rooms = between_rooms(graph, "qhybrid")
    assert {"cli", "hardware", "engines", "circuits", "errors"} <= set(rooms)
    assert circles(rooms) == []


def test_rooms_of_hardware_import_in_no_circle(graph):
    rooms = between_rooms(graph, "qhybrid.hardware")
    assert {"model", "circuits", "plan", "services", "jobs", "ledger"} <= set(rooms)
    assert circles(rooms) == []


def test_modules_are_neither_fragments_nor_too_long():
    """All lines of all modules but `__init__.py`, which only say what a package offers."""
    lines = {
        str(file.relative_to(PACKAGE)): len(file.read_text().splitlines())
        for file in PACKAGE.rglob("*.py")
        if file.name != "__init__.py"
    }
    assert {name: count for name, count in lines.items() if count > LARGEST} == {}
    assert MEDIAN[0] <= statistics.median(lines.values()) <= MEDIAN[1]


def test_modules_of_tests_have_names_of_their_own():
    """Folders of tests are no packages: of two modules with one name the second cannot be collected."""
    names = [file.name for file in PACKAGE.parent.glob("tests/**/test_*.py")]
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_benchmarks_import_what_is_there():
    """They run by hand only: a name that another one no longer has would be found too late."""
    folder = PACKAGE.parent / "benchmarks"
    trees = {file.stem: ast.parse(file.read_text(encoding="utf-8")) for file in folder.glob("*.py")}
    missing = [
        f"{module}: {part.module}.{alias.name}"
        for module, tree in trees.items()
        for part in ast.walk(tree)
        if isinstance(part, ast.ImportFrom) and part.module in trees
        for alias in part.names
        if alias.name not in _defined(trees[part.module])
    ]
    assert missing == []


def _defined(tree):
    """Return the names that a module has at its top level."""
    found = set()
    for part in tree.body:
        if isinstance(part, ast.FunctionDef | ast.ClassDef):
            found.add(part.name)
        elif isinstance(part, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name for alias in part.names}
        elif isinstance(part, ast.Assign | ast.AnnAssign):
            targets = part.targets if isinstance(part, ast.Assign) else [part.target]
            found |= {
                name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)
            }
    return found
