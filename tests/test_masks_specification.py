"""Masks in specifications: how they are written, what is refused, what plans make of them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fresh_tables import fresh_tables
from masked_networks import BIASED, BOTH, ERF, conv, holed, masked, pool
from network_specs import CONV, DENSE, FLATTEN, GAP, POOL, RELU, load, residual
from widegram import kernel, reference
from widegram.errors import WidegramError
from widegram.network import Network, load_network
from widegram.plan import build
from widegram.plan.buffers import fused_hides
from widegram.plan.flips import commutes
from widegram.plan.hiding import Hide
from widegram.plan.program import Program

CONCAT, SIDES = {"layer": "FanInConcat"}, [[{**CONV, "width": 3}], [{**DENSE, "width": 3}]]


@pytest.mark.parametrize(("given_", "kept"), [
    (float("nan"), "nan"), ("NaN", "nan"), (float("inf"), "inf"), ("+inf", "inf"),
    (-np.inf, "-inf"), ("-Infinity", "-inf"), (-0.0, 0.0), (3, 3.0), (np.float32(0.5), 0.5),
])  # fmt: skip
def test_masks_are_written_as_json_has_them(given_: Any, kept: Any) -> None:
    network = masked((3,), DENSE, mask=given_)
    assert network.mask == kept
    assert repr(network.mask) == repr(kept)
    again = load_network(network.to_json())
    assert again == network == pickle.loads(pickle.dumps(network))
    assert again.fingerprint() == network.fingerprint()
    plain = load((3,), DENSE)
    assert plain.fingerprint() != network.fingerprint()
    assert "mask" not in plain.canonical()


def test_toml_has_nan(tmp_path: Path) -> None:
    path = tmp_path / "net.toml"
    path.write_text('input_shape = [3]\nmask = nan\n[[layers]]\nlayer = "Dense"\n')
    assert load_network(path).mask == "nan"


@pytest.mark.parametrize("mask", ["no", True, [1], {}, 10**400, 1j, ""])
def test_what_is_no_number_is_refused(mask: Any) -> None:
    with pytest.raises(WidegramError, match=r"^mask: (must be a number|is a list of 1)") as error:
        masked((3,), DENSE, mask=mask)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("layers", [
    [POOL, CONV, GAP], [GAP], [{"layer": "Identity"}, {**POOL, "layer": "SumPool"}, CONV, GAP],
    [{"layer": "Readouts", "heads": {"a": [GAP]}}],
    [{**CONCAT, "branches": SIDES}, GAP], [{**CONCAT, "axis": 3, "branches": SIDES}, POOL, GAP],
])  # fmt: skip
def test_pools_of_masked_channels_are_refused(layers: list[Any]) -> None:
    with pytest.raises(WidegramError, match="single channels may be masked; put a Dense or Conv"):
        masked((4, 4, 2), *layers)
    if not any(layer["layer"] == "FanInConcat" for layer in layers):
        masked((4, 4, 1), *layers)
        return
    dense, *rest = layers
    masked((4, 4, 2), dense, DENSE, *rest)
    masked((4, 4, 2), {**dense, "axis": 1}, *rest)


@pytest.mark.parametrize(("layers", "even"), [
    ([BIASED, RELU, GAP], True), ([conv(3, 3, "VALID"), RELU, pool(1, 3), FLATTEN], True),
    ([BIASED, RELU, pool(2, 2, "VALID", strides=[2, 2]), FLATTEN], False),
])  # fmt: skip
def test_flips_go_with_masks(layers: list[Any], even: bool) -> None:
    network = masked((4, 4, 1), *layers, augment=["flip-lr"])
    assert commutes(network) == even
    assert commutes(load_network({**network.canonical(), "mask": None}))
    x = holed(np.random.default_rng(3), 3, (4, 4, 1))
    wanted, found = reference.kernel(network, x), kernel(network, x)
    for key in BOTH:
        np.testing.assert_allclose(getattr(found, key), getattr(wanted, key), atol=1e-11)


def test_masks_are_applied_once_to_each_block() -> None:
    """Behind convolutions and activations, before what mixes pixels; nowhere without a mask."""

    def hides(network: Network) -> int:
        return sum(isinstance(node.operation, Hide) for node in build(network).nodes)

    body = [BIASED, RELU, {**DENSE, "b_std": 1}, RELU]
    layers = [*body, *body, BIASED, residual(RELU, *body, DENSE), GAP]
    assert hides(masked((4, 4, 1), *layers)) == 4
    assert hides(load((4, 4, 1), *layers)) == 0


TANH = {"layer": "Tanh"}


@pytest.mark.parametrize(("shape", "layers", "times"), [
    ((4, 5, 1), [BIASED, RELU, BIASED, TANH, BIASED, RELU, GAP], 3),
    ((5, 4, 1), [BIASED, residual(TANH, BIASED), RELU, BIASED, ERF, FLATTEN], 3),
    ((6,), [{**DENSE, "b_std": 0.4}, RELU, {**DENSE, "b_std": 0.1}, TANH], 1),
])  # fmt: skip
def test_activations_hide_what_is_masked(
    shape: tuple[int, ...], layers: list[Any], times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one step, so many ``times``, with the same bits as in two."""
    network, fewer = masked(shape, *layers), []

    def apart(program: Program) -> Program:
        fewer.append(len(program.steps) - len(fused_hides(program.steps)))
        return program

    x = holed(np.random.default_rng(8), 5, shape)
    found = kernel(network, x, x[::-1].copy())
    monkeypatch.setattr(Program, "hiding", apart)
    with fresh_tables():
        two = kernel(network, x, x[::-1].copy())
    assert max(fewer) == times
    for key in BOTH:
        np.testing.assert_array_equal(getattr(found, key), getattr(two, key))
