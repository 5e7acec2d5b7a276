"""Tables that have to agree: layers, file kinds, criteria, work files, options."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from widegram import stax
from widegram.data import distinct
from widegram.data.statistics import measure, normalized
from widegram.network.kinds import FAN_IN, LAYERS
from widegram.stax.refused import REFUSED
from widegram.tuning.figures import CRITERIA_FIGURES, FIGURES
from widegram.validation import choices
from widegram.verifying.file_kinds import KINDS
from widegram_cli import preferences, tune

ROOT = Path(__file__).parents[1]
ENGINE = ROOT / "engine/widegram"
# Layers of a specification that stax writes by combinators, or by another layer's argument.
WITHOUT_A_FUNCTION = {"Readouts", "Repeat", "Residual"}
# What `verify` knows by themselves: matrices in tiles.
OF_TILES = {"widegram-gram", "widegram-shard"}


def strings(path: Path) -> set[str]:
    """All texts in a module that are no docstrings' parts."""
    tree = ast.parse(path.read_text())
    return {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and type(n.value) is str}


def test_every_layer_is_in_stax_or_refused_by_name() -> None:
    assert {*LAYERS, *FAN_IN} - WITHOUT_A_FUNCTION <= {*stax.__all__, *REFUSED}


def test_every_kind_of_file_is_known_to_verify() -> None:
    found = set()
    for path in ENGINE.rglob("*.py"):
        found |= set(re.findall(r'^\w*FORMAT = "(widegram-\w+)"', path.read_text(), re.MULTILINE))
    assert found == {*KINDS, *OF_TILES}


def test_every_criterion_has_a_figure_and_every_figure_a_column() -> None:
    assert tuple(CRITERIA_FIGURES) == choices.CRITERIA
    assert {criterion.figure for criterion in CRITERIA_FIGURES.values()} <= set(FIGURES)
    assert set(tune._COLUMNS) == {"diag_reg", *FIGURES}


def test_every_ending_of_a_work_file_is_kept_from_being_an_input() -> None:
    """Endings that code puts behind the name of an output."""
    known = set(distinct._WORK_SUFFIXES)
    found = set()
    for room in ("linalg", "tuning", "computing"):
        for path in (ENGINE / room).rglob("*.py"):
            found |= {text for text in strings(path) if re.fullmatch(r"\.[a-z]{5,}", text)}
    assert found <= known
    assert {ending for ending in known if ending.count(".") == 1} <= found


@pytest.mark.parametrize("name", choices.NORMALIZATIONS)
def test_every_normalization_is_one(name: str) -> None:
    x = np.random.default_rng(0).normal(3.0, 2.0, (6, 4))
    scaling = measure(lambda: [x], 1 if name == "global" else 4, x.dtype)
    made = normalized(x, name, scaling)
    assert made.shape == x.shape
    assert np.array_equal(made, x) == (name == "none")


def test_what_a_file_of_settings_may_hold_are_options() -> None:
    found = set()
    for path in (ROOT / "cli/widegram_cli").glob("*.py"):
        found |= {text for text in strings(path) if text.startswith("--")}
    assert {f"--{name}" for name in preferences.KINDS} <= found


def test_an_option_of_several_commands_is_written_once() -> None:
    written = Counter(
        ast.unparse(node)
        for path in (ROOT / "cli/widegram_cli").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "click.option"
    )
    assert len(written) > 50
    assert [text for text, times in written.items() if times > 1] == []
