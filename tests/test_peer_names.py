"""Every public name of neural-tangents is here, or refused by name, and has its row in the docs.

``golden_names/names.json`` was written by neural-tangents 0.6.5 (``golden_names/README.md``).
"""

from __future__ import annotations

import inspect
import json
import re
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import widegram
from widegram import WidegramError, predict, stax
from widegram.stax.refused import REFUSED
from widegram.validation.missing import WIDEGRAM

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "neural-tangents.md"
NAMES: dict[str, dict[str, Any]] = json.loads((HERE / "golden_names" / "names.json").read_text())
SIGNATURES: dict[str, list[list[str | None]]] = json.loads(
    (HERE / "golden_names" / "signatures.json").read_text()
)
MODULES = {"": (widegram, WIDEGRAM), "stax": (stax, REFUSED), "predict": (predict, {})}
CASES = [(module, name) for module in MODULES for name in NAMES[module]]


def row_name(module: str, name: str) -> str:
    return f"{module}.{name}" if module else name


def rows() -> dict[str, list[str]]:
    """What the page says of each name: 'same', 'differs' or 'refused', once."""
    found: dict[str, list[str]] = {}
    for name, word in re.findall(r"^\| `([\w.]+)` \| (\w+) \|", PAGE.read_text(), re.MULTILINE):
        found.setdefault(name, []).append(word)
    return found


@pytest.mark.parametrize(("module", "name"), CASES)
def test_is_here_or_refused_by_name(module: str, name: str) -> None:
    home, refusals = MODULES[module]
    if name in refusals:
        assert name not in home.__all__
        with pytest.raises(WidegramError, match=re.escape(f"{name} is not supported: ")) as error:
            getattr(home, name)()
        assert "\n" not in str(error.value)
    else:
        assert name in home.__all__
        assert getattr(home, name) is not None


@pytest.mark.parametrize(("module", "name"), CASES)
def test_has_one_row_that_agrees_with_the_code(module: str, name: str) -> None:
    words = rows().get(row_name(module, name), [])
    assert len(words) == 1, f"docs/neural-tangents.md: a row for {row_name(module, name)}"
    refused = name in MODULES[module][1]
    assert words[0] in (("refused",) if refused else ("same", "differs"))


@pytest.mark.parametrize("name", NAMES["Kernel"])
def test_members_of_a_kernel(name: str) -> None:
    assert hasattr(widegram.Kernel, name) or name in widegram.Kernel.__dataclass_fields__
    assert len(rows().get(f"Kernel.{name}", [])) == 1, f"a row for Kernel.{name}"


def test_no_row_or_refusal_of_a_name_that_is_not_there() -> None:
    known = {row_name(module, name) for module, names in NAMES.items() for name in names}
    assert sorted(set(rows()) - known) == []
    for module, (_, refusals) in MODULES.items():
        assert sorted(set(refusals) - set(NAMES[module])) == []


@pytest.mark.parametrize(
    ("module", "name"),
    [case for case in CASES if case[1] not in MODULES[case[0]][1]],
)
def test_parameters_are_those_of_the_peer(module: str, name: str) -> None:
    here, expected = getattr(MODULES[module][0], name), NAMES[module][name]
    if expected is None:
        return
    if inspect.isclass(here) and issubclass(here, Enum):
        assert {member.name for member in here} == set(expected)
        return
    found = list(inspect.signature(here).parameters)
    assert found[: len(expected)] == expected


# How a function here may be called otherwise than there, and why.
DIFFERENT = {
    # Precision is JAX's: accepted, and changes nothing.
    "stax.ImageResize": {"precision"},
    # neural-tangents' are functions of dataclasses, of ``obj``, with a factory.
    "Kernel.asdict": {"obj", "dict_factory"},
    "Kernel.astuple": {"obj", "tuple_factory"},
    "Kernel.replace": {"obj"},
    # Whatever a layer of the user's own reads: there are none here.
    "stax.serial()[2]": {"kwargs"},
}
# More that may be said here, by keyword alone.
MORE = {
    **{
        f"stax.{name}": ["W_rate", "b_rate", "b_grad"]
        for name in ("Conv", "ConvLocal", "ConvTranspose", "Dense")
    },
    "predict.gradient_descent": ["grad"],
    "stax.serial()[2]": ["accept_series_error"],
}


def called(name: str) -> Any:
    """What is called so; None where it is refused."""
    k, x, y = np.eye(2), np.ones((2, 3)), np.ones((2, 1))
    kernel_fn = stax.Dense(1)[2]
    made = {
        "stax.serial()[2]": lambda: kernel_fn,
        "predict.gradient_descent()": lambda: predict.gradient_descent(
            lambda a, b: ((a - b) ** 2).sum(), k, y, grad=lambda a, b: 2 * (a - b)
        ),
        "predict.gradient_descent_mse()": lambda: predict.gradient_descent_mse(k, y),
        "predict.gradient_descent_mse_ensemble()": lambda: predict.gradient_descent_mse_ensemble(
            kernel_fn, x, y
        ),
        "predict.gp_inference()": lambda: predict.gp_inference(k, y),
    }
    if name in made:
        return made[name]()
    module, _, last = name.rpartition(".")
    if module == "Kernel":
        return getattr(widegram.Kernel, last)
    home, refusals = MODULES[module]
    return None if last in refusals else getattr(home, last)


@pytest.mark.parametrize("name", SIGNATURES)
def test_functions_are_called_as_the_peers(name: str) -> None:
    """Order, kind and default of every parameter: what is not as there is listed above."""
    here = called(name)
    if here is None:
        return
    different = DIFFERENT.get(name, set())
    found = [
        [p.name, p.kind.name, None if p.default is p.empty else written(p.default)]
        for p in inspect.signature(here).parameters.values()
    ]
    more = MORE.get(name, [])
    extra = {p[0]: p[1] for p in found if p[0] in more}
    assert extra == dict.fromkeys(more, "KEYWORD_ONLY")
    expected = [p for p in SIGNATURES[name] if p[0] not in different]
    assert [p for p in found if p[0] not in {*different, *more, "self"}] == [
        p for p in expected if p[0] != "self"
    ]


def written(default: Any) -> str:
    return "a function" if callable(default) else repr(default)
