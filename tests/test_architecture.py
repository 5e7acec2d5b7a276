"""The directions of imports: no circles, and every room knows only those below it."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from import_graph import Graph, circles, imports, modules, rooms

ROOT = Path(__file__).parents[1]
FILES = modules(ROOT / part for part in ("engine", "cli", "bench"))
WHOLE = ("engine", "cli", "bench", "tests", "examples", "docs", "demo")
WITH_FLOORS = ("widegram.cpu", "widegram.meanfield")
# What a card leaves to its host: images with themselves, and close pairs in float64.
OF_THE_CPU = {"widegram.cpu.pairs", "widegram.cpu.self_kernels"}


@cache
def graph() -> Graph:
    """What imports what; not before a test asks for it."""
    return imports(FILES)


def room_of(name: str) -> str:
    """The folder of a module in its package, one more in those that have floors. What lies in no
    folder is a room of its own."""
    parts = name.split(".")
    deep = 3 if within(name, *WITH_FLOORS) else 2
    return ".".join(parts[: deep if len(parts) > deep else max(2, len(parts) - 1)])


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def of(*packages: str) -> set[str]:
    """What the modules of some packages import."""
    found = [others for name, others in graph().items() if within(name, *packages)]
    assert found, packages
    return set().union(*found)


def test_no_module_is_reached_from_itself() -> None:
    assert circles(graph()) == []


def test_no_room_is_reached_from_itself() -> None:
    assert circles(rooms(graph(), room_of)) == []


@pytest.mark.parametrize(
    ("room", "above"),
    [
        ("widegram", ["widegram_cli", "widegram_bench"]),
        ("widegram_bench", ["widegram_cli"]),
        ("widegram.network", ["widegram.plan", "widegram.backends"]),
        ("widegram.plan", ["widegram.backends", "widegram.cpu", "widegram.cuda", "widegram.data"]),
        ("widegram.cpu.kernels", ["widegram.cpu.driver", "widegram.plan"]),
        ("widegram.cuda", ["widegram.computing", "widegram.reference"]),
        ("widegram.cpu", ["widegram.computing", "widegram.cuda", "widegram.reference"]),
        ("widegram.reference", ["widegram.plan.graph", "widegram.cpu", "widegram.cuda"]),
        ("widegram.backends", ["widegram.cpu", "widegram.cuda", "widegram.computing"]),
    ],
)
def test_directions(room: str, above: list[str]) -> None:
    assert {name for name in of(room) if within(name, *above)} == set()


def test_the_floors_of_the_cpu() -> None:
    kernels, driver = "widegram.cpu.kernels", "widegram.cpu.driver"
    assert {name for name in of(kernels) if within(name, "widegram.cpu")} == {
        name for name in of(kernels) if within(name, kernels)
    }
    assert {name for name in of(driver) if within(name, "widegram.cpu")} == {
        name for name in of(driver) if within(name, driver, kernels)
    }


def test_a_card_takes_from_the_cpu_what_its_host_computes_in_float64() -> None:
    assert {name for name in of("widegram.cuda") if within(name, "widegram.cpu")} == OF_THE_CPU


def test_what_is_asked_of_an_evaluator_is_in_its_contract() -> None:
    """Nothing looks for an attribute that an evaluator may not have."""
    for name, path in FILES.items():
        text = path.read_text()
        for node in ast.walk(ast.parse(text)) if "attr(" in text else ():
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr"):
                assert "evaluator" not in ast.unparse(node.args[0]), f"{name}:{node.lineno}"


def broad(node: ast.AST) -> bool:
    """Whether it meets every error."""
    names = ("Exception", "BaseException")
    if isinstance(node, ast.ExceptHandler):
        kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        return any(kind is None or ast.unparse(kind) in names for kind in kinds)
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
        return any(ast.unparse(kind) in names for kind in node.args)
    return False


def test_what_meets_every_error_says_why() -> None:
    """In a comment on its line."""
    met = 0
    for path in sorted(one for part in WHOLE for one in (ROOT / part).rglob("*.py")):
        text = path.read_text()
        lines = text.splitlines()
        # Most files have neither word, and need not be parsed.
        may = "Exception" in text or re.search(r"except\s*:", text)
        for node in ast.walk(ast.parse(text)) if may else ():
            if broad(node):
                met += 1
                assert "  # " in lines[node.lineno - 1], f"{path}:{node.lineno}"
    assert met > 10


def test_what_a_class_leaves_open_is_abstract() -> None:
    for name, path in FILES.items():
        assert "NotImplementedError" not in path.read_text(), name


def written(folder: Path, **texts: str) -> dict[str, Path]:
    for name, text in texts.items():
        path = folder / Path(*name.split("__"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".py").write_text(text)
    return modules([folder])


def test_circles_are_found_through_functions_and_packages(tmp_path: Path) -> None:
    files = written(
        tmp_path,
        a__x="import b.y",
        a__z="",
        b__y="def f():\n    from a import z, x",
        c__w="from b.y import f",
    )
    graph = imports(files)
    assert graph["b.y"] == {"a.z", "a.x"}
    assert circles(graph) == [["a.x", "b.y"]]
    assert circles(rooms(graph, lambda name: name[0])) == [["a", "b"]]


def test_what_only_type_checkers_read_is_no_import(tmp_path: Path) -> None:
    text = "if typing.TYPE_CHECKING:\n    import b\nelse:\n    import c\n"
    files = written(tmp_path, a=text, b="import a", c="")
    assert imports(files) == {"a": {"c"}, "b": {"a"}, "c": set()}
    assert circles(imports(files)) == []
