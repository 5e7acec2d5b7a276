"""What imports what, read from the text of the code: modules, rooms, circles."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

Graph = dict[str, set[str]]


def modules(roots: Iterable[Path]) -> dict[str, Path]:
    """The file of every module below some folders; a package is its ``__init__``."""
    found = {}
    for root in roots:
        for path in root.rglob("*.py"):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(files: dict[str, Path]) -> Graph:
    """The modules among ``files`` that each of them imports, at the top or inside of functions, but
    for what only type checkers read."""
    return {name: _imported(path, files) - {name} for name, path in files.items()}


def rooms(graph: Graph, room_of: Callable[[str], str]) -> Graph:
    """The same of rooms; ``room_of`` gives that of a module."""
    found: Graph = {}
    for name, others in graph.items():
        found.setdefault(room_of(name), set()).update(map(room_of, others))
    return {room: others - {room} for room, others in found.items()}


def circles(graph: Graph) -> list[list[str]]:
    """Those that import one another, directly or through others: each group once, sorted."""
    reached = {name: _reached(graph, name) for name in graph}
    groups = {
        tuple(sorted(other for other in others if name in reached[other]))
        for name, others in reached.items()
        if name in others
    }
    return [list(group) for group in sorted(groups)]


def _imported(path: Path, files: dict[str, Path]) -> set[str]:
    found = set()
    for node in _read(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in files else str(node.module))
    return found & files.keys()


def _read(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under ``if TYPE_CHECKING``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            for other in child.orelse:
                yield other
                yield from _read(other)
            continue
        yield child
        yield from _read(child)


def _reached(graph: Graph, start: str) -> set[str]:
    found: set[str] = set()
    left = [start]
    while left:
        new = graph[left.pop()] - found
        found |= new
        left += new
    return found
