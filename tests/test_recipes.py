"""What is written once is the same everywhere: tables, the choices of commands, recipes, words."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import pkgutil
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest

from widegram import activations, plan, stax
from widegram.activations.functions import function
from widegram.computing.devices import resolve_device
from widegram.computing.job import make_job
from widegram.errors import WidegramError
from widegram.linalg.choose import method_named
from widegram.linalg.methods.method import Factorisation, Method
from widegram.linalg.settings import SolveOptions
from widegram.linalg.spectrum import SpectrumOptions
from widegram.network import PRESETS
from widegram.plan.operation_base import Operation
from widegram.plan.operations import Windowed
from widegram.plan.pointwise import Join
from widegram.stax.refused import REFUSED
from widegram.validation import choices
from widegram_cli.main import COMMANDS

ROOT = Path(__file__).parents[1]
PACKAGES = ("engine/widegram", "cli/widegram_cli", "bench/widegram_bench")
# Choices that are a command's own: what it measures beside, and sets of networks.
OWN = {("bench", "--peer"), ("bench", "--suite")}
TABLES = {
    name: value
    for name, value in vars(choices).items()
    if name.isupper() and isinstance(value, tuple)
}


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command that has options, with the name of its group."""
    for name, (module, _) in COMMANDS.items():
        command = importlib.import_module(module).command
        inner = command.commands.values() if isinstance(command, click.Group) else [command]
        yield from ((name, one) for one in inner)


def options() -> Iterator[tuple[str, click.Parameter]]:
    return ((name, option) for name, command in commands() for option in command.params)


def test_every_operation_says_what_it_does_to_angles():
    """No answer is right for most of them, and one that is missing would be seen late."""
    for module in pkgutil.iter_modules(plan.__path__):
        importlib.import_module(f"widegram.plan.{module.name}")
    found = set(_below(Operation))
    assert len(found) > 10
    assert {kind for kind in found if kind.at_angles is Operation.at_angles} <= {Windowed, Join}


def _below(kind: type[Operation]) -> Iterator[type[Operation]]:
    for one in kind.__subclasses__():
        yield from (one, *_below(one))


def test_every_activation_is_in_stax_or_refused_by_name():
    missing = set(activations.TABLE) - set(stax.__all__) - set(REFUSED)
    assert not missing
    for name in set(activations.TABLE) & set(stax.__all__):
        assert callable(getattr(stax, name))


def test_every_activation_has_a_formula_that_backends_find():
    required = {"degree": 3, "coef": (0.5, 1.0, 0.25), "fn": function(np.tanh)}
    for name, definition in activations.TABLE.items():
        values = {
            key: required.get(key, 0.5) if value is activations.REQUIRED else value
            for key, value in definition.params.items()
        }
        if name == "Custom":
            values["expression"] = "tanh(x)"
        formula = definition.build(**values)
        assert activations.FORMULAS[formula.code] is type(formula), name


@pytest.mark.parametrize("name", stax.__all__)
def test_nothing_is_both_there_and_refused(name):
    assert name not in REFUSED


def test_every_choice_of_a_command_is_a_table_of_the_library():
    known = {*TABLES.values(), choices.DEVICES[1:]}
    for name, option in options():
        if isinstance(option.type, click.Choice) and (name, option.opts[0]) not in OWN:
            assert tuple(option.type.choices) in known, (name, option.opts)


def test_options_of_solvers_are_fields_of_their_records():
    """What the commands hand over by name is there, with the same default."""
    commands_of = dict(commands())
    for name, record in (("solve", SolveOptions), ("eig", SpectrumOptions)):
        given = {option.name: option for option in commands_of[name].params}
        for field in dataclasses.fields(record):
            if field.name in given and field.default:  # flags and None have no default in Click
                assert given[field.name].default == field.default, (name, field.name)


@pytest.mark.parametrize(("name", "row"), choices.SOLVERS.items())
def test_a_solver_is_a_module_and_a_row(name, row):
    method = method_named(name)
    assert isinstance(method, Method)
    assert isinstance(method, Factorisation) == row.factors


@pytest.mark.parametrize("name", choices.FAMILIES)
def test_families_are_presets(name):
    assert name in PRESETS


def test_the_library_refuses_what_its_tables_do_not_have():
    for message, make in (
        ("dtype", lambda: make_job("fcn", "x.npy", None, "ntk", "int8", None, None, None)),
        ("get", lambda: make_job("fcn", "x.npy", None, "gp", "float32", None, None, None)),
        ("device", lambda: resolve_device("tpu")),
    ):
        with pytest.raises(WidegramError, match=message):
            make()


# the recipes ----------------------------------------------------------------------------------


def sections() -> dict[str, str]:
    """CONTRIBUTING by its headings."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def paths(text: str) -> list[str]:
    """What looks like a file or folder of the repository, in backticks."""
    found = re.findall(r"`([\w./<>*-]+)`", text)
    return [p for p in found if re.search(r"\.(py|md|json|toml)$", p) or p.endswith("/")]


@pytest.mark.parametrize("heading", sections())
def test_recipes_name_files_that_exist(heading):
    for path in paths(sections()[heading]):
        places = [ROOT / path, ROOT / "engine/widegram" / path, ROOT / "cli/widegram_cli" / path]
        found = any(list(p.parent.glob(p.name)) if "*" in p.name else p.exists() for p in places)
        assert found, f"{heading}: {path}"


# Modules of formulas, which the recipe names together.
FORMULAS = ("error_function", "exponential", "polynomial", "rectified", "rectified_powers")


@pytest.mark.parametrize("name", ["Softsign", "Gelu", "Abs", "Gabor", "Monomial"])
def test_the_recipe_of_an_activation_names_every_file_that_has_its_name(name):
    """Those where the name stands as text or as a definition: a use by the table is none."""
    recipe = paths(sections()["Adding an activation"])
    for package in PACKAGES[:2]:
        for path in sorted((ROOT / package).rglob("*.py")):
            code = re.sub(r'""".*?"""|#.*', "", path.read_text(), flags=re.DOTALL)
            if re.search(rf"\b{name}\b", code):
                own = path.relative_to(ROOT / package)
                formula = own.parent.name == "activations" and own.stem in FORMULAS
                assert str(own) in recipe or formula, own


# words ----------------------------------------------------------------------------------------

# Two classes of these names, still; no new one may join them.
TWICE = {"Axis", "Field", "Gaussian", "Run", "Torus"}


def test_a_class_has_a_name_of_its_own():
    places = defaultdict(list)
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef):
                    places[node.name].append(str(path.relative_to(ROOT)))
    twice = {name: found for name, found in places.items() if len(found) > 1}
    assert set(twice) <= TWICE, {name: twice[name] for name in set(twice) - TWICE}


def test_a_file_name_that_occurs_twice_says_why():
    text = (ROOT / "docs/words.md").read_text().split("## Names that occur twice")[1]
    explained = set(re.findall(r"`(\w+\.py)`", text))
    names = Counter(path.name for part in PACKAGES for path in (ROOT / part).rglob("*.py"))
    assert {name for name, times in names.items() if times > 1} == explained | {"__init__.py"}


def test_words_are_explained_once():
    text = (ROOT / "docs/words.md").read_text()
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \|$", text, re.MULTILINE)
    words = [word.strip() for row in rows if row != "word" for word in row.split(",")]
    assert len(words) > 50
    assert sorted(words) == sorted(set(words))
