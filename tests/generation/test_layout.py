"""No module imports in a circle, imports for type checkers and those inside of functions included."""

import ast
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def imports_of(package: str) -> dict[str, set[str]]:
    """Module -> the modules of this package that it imports, anywhere in its file."""
    files = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in (ROOT / package).rglob("*.py")}
    files = {name.removesuffix(".__init__"): path for name, path in files.items()}
    graph: dict[str, set[str]] = {}
    for module, path in files.items():
        graph[module] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module in files:
                named = {f"{node.module}.{alias.name}" for alias in node.names} & files.keys()
                graph[module] |= named or {node.module}
            elif isinstance(node, ast.Import):
                graph[module] |= {alias.name for alias in node.names} & files.keys()
    return graph


def circle_in(graph: dict[str, set[str]]) -> list[str]:
    """The modules of a circle, one after the other; empty if there is none."""
    done: set[str] = set()

    def walk(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        for other in sorted(graph[module]):
            if found := walk(other, [*path, module]):
                return found
        done.add(module)
        return []

    return next((found for module in sorted(graph) if (found := walk(module, []))), [])


@pytest.mark.parametrize("package", ["conv_dlm", "trainers"])
def test_no_circles(package):
    assert find_spec(package) is not None
    graph = imports_of(package)
    assert len(graph) > 10 and circle_in(graph) == []


def test_a_circle_would_be_found():
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
