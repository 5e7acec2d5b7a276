"""docs/networks.md and docs/activations.md say what the tables of layers and activations say."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest

from doc_examples import PAGES, ROOT
from widegram import activations
from widegram.network import PRESETS, load_network
from widegram.network.kinds import FAN_IN, LAYERS, REQUIRED

NETWORKS, ACTIVATIONS = PAGES["networks.md"].read_text(), PAGES["activations.md"].read_text()


@pytest.fixture(autouse=True)
def _making(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))


def row(text: str, name: str) -> str:
    """The last row of a table that begins with a name."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    return [line for line in rows if f"`{name}`" in line.split("|")[1]][-1]


def test_the_example_loads() -> None:
    (text,) = re.findall(r"```json\n(.*?)```", NETWORKS, re.DOTALL)
    assert load_network(text).input_shape == (32, 32, 3)


@pytest.mark.parametrize("name", [*LAYERS, *FAN_IN])
def test_every_layer_has_its_parameters_and_defaults(name: str) -> None:
    parameters = NETWORKS.split("## Parameters")[1].split("\n## ")[0]
    assert f"`{name}`" in NETWORKS.split("## Parameters")[0]
    found, dense = row(parameters, name), row(parameters, "Dense")
    shared = f"{found} {dense}" if "those of `Dense`" in found else found
    for parameter, kind in {**LAYERS, **FAN_IN}[name].parameters.items():
        assert f"`{parameter}`" in shared, parameter
        if kind.default is not REQUIRED and parameter != "dimension_numbers":
            said = re.findall(rf"`{parameter}`(?:, `\w+`)* \(([^)]*)\)", shared)
            value = json.dumps(kind.default).replace(".0", "")
            assert any(value in one for one in said), (parameter, said, value)


def test_every_preset_and_activation_is_listed() -> None:
    for name in PRESETS:
        assert f"`{name}`" in NETWORKS, name
    for name in activations.DEFAULTS:
        assert re.search(rf"`{name}[`(]", ACTIVATIONS), name


@pytest.mark.parametrize("name", PRESETS)
def test_every_option_of_a_preset_has_its_default(name: str) -> None:
    presets = NETWORKS.split("## Presets")[1]
    own = row(presets, name)
    inherited = row(presets, "cnn-f") if "as `cnn-f`" in own else ""
    places = (own, inherited, presets.split("option of all")[1])
    for option, default in PRESETS[name].options.items():
        said = next((text for text in places if re.search(rf"`{option}`[ ,:]", text)), "")
        assert said, option
        if default not in ("", "ntk") and not isinstance(default, type):
            found = re.search(rf"`{option}`(?:, `\w+`)* \(([^)]*)\)", said)
            assert found, option
            assert found[1] == str(default).removesuffix(".0"), option


PARAMS: dict[str, dict[str, Any]] = {
    "LeakyRelu": {"alpha": 0.2}, "ABRelu": {"a": -0.4, "b": 1.3}, "Rbf": {"gamma": 0.3},
    "Erf": {"a": -0.8, "b": 1.7, "c": 0.4}, "Sin": {"a": 1.3, "b": 0.6, "c": -0.9},
    "Exp": {"a": -0.7, "b": 0.6}, "Gaussian": {"a": 1.3, "b": -0.4}, "Hermite": {"degree": 3},
    "ExpNormalized": {"gamma": 0.7, "shift": -0.4},
}  # fmt: skip
FORMULAS = re.findall(
    r"^\| `(\w+)`[^|]*\| `([^`]+)` \| (?:`([^`]+)`)? ?\|$",
    ACTIVATIONS.split("### Formulas")[1].split("## What")[0],
    re.MULTILINE,
)


def test_there_are_formulas() -> None:
    assert len(FORMULAS) == ACTIVATIONS.split("### Formulas")[1].split("(c0 is")[0].count("\n| `")


@pytest.mark.parametrize(("name", "value", "slope"), FORMULAS)
def test_formulas_are_the_engines(name: str, value: str, slope: str) -> None:
    params = PARAMS.get(name, {})
    q, q2 = np.full(9, 0.8), np.full(9, 1.7)
    k = np.sqrt(q * q2) * np.linspace(-0.95, 0.95, 9)
    names: dict[str, Any] = {"q": q, "q2": q2, "k": k, "c": k / np.sqrt(q * q2)}
    names |= {key: number for key, number in params.items() if key != "c"}
    names["c0"], names["r"] = params.get("c"), 1 / np.sqrt((1 + q) * (1 + q2))
    names |= {"z": k * names["r"], "E": q * q2 - k**2, "D": (1 + 2 * q) * (1 + 2 * q2) - 4 * k**2}
    made = activations.get(name, params).moments(q, k, q2)
    for text, found in zip((value, slope), made, strict=True):
        if text:
            wanted = eval(text, {**vars(np), **names})
            # Roundings of closed forms of some ten operations, near no edge.
            np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-14)


def test_the_table_of_series_is_the_engines() -> None:
    from making.series_table import table

    def rounded(text: str) -> str:
        """Without digits that are roundings themselves."""
        return re.sub(r"\d+e-1[3-9]", "small", text)

    assert rounded(table()) in rounded(ACTIVATIONS)


def test_pictures_are_drawn() -> None:
    from making.pictures import PICTURES

    assert {path.name for path in (ROOT / "docs/pictures").glob("*")} == set(PICTURES)
    assert len(PICTURES["reads.png"]().axes) > 10


def test_footprints() -> None:
    from making.footprints import footprint

    third = np.zeros((8, 8))
    third[[1, 2, 3], [4, 5, 6]] = 1 / 3
    np.testing.assert_array_equal(footprint("Conv 3, SAME"), third)
    assert not footprint("ConvLocal 3, p ≠ p'").any()
    np.testing.assert_array_equal(footprint("Flatten"), np.eye(8) / 8)
