"""Random networks with masks, on random inputs: against the reference, bits, eigenvalues."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import strategies
from masked_networks import BOTH
from strategies import settings_of
from test_cpu_properties import check_against_reference, kernels
from vocabulary import Vocabulary

SMOOTH = Vocabulary(
    activations=("Erf", "Gelu", "Sin", "Cos", "Rbf", "Identity"), joins=("FanInSum",)
)
KINKED = SMOOTH._replace(activations=("Relu", "Abs", "LeakyRelu", "Erf", "Cos"))
MAPPED = KINKED._replace(maps=True)


def draw(data: st.DataObject, vocabulary: Vocabulary) -> tuple[Any, ...]:
    network = data.draw(strategies.masked(strategies.networks(vocabulary, blocks=3, largest=5)))
    x = data.draw(strategies.masked_inputs(network, 6))
    y = data.draw(st.none() | strategies.masked_inputs(network, 4))
    return network, x, y


@given(st.data())
@settings_of(25)
def test_random_networks_agree_with_the_reference(data: st.DataObject) -> None:
    check_against_reference(*draw(data, data.draw(st.sampled_from([SMOOTH, KINKED, MAPPED]))))


@given(st.data())
@settings_of(10)
def test_random_networks_give_the_same_bits_in_any_tile(data: st.DataObject) -> None:
    network, x, _ = draw(data, KINKED)
    dtype = data.draw(st.sampled_from(["float64", "float32"]))
    whole = kernels(network, x, dtype=dtype)
    for key, value in kernels(network, x, dtype=dtype, threads=2).items():
        np.testing.assert_array_equal(value, whole[key])
        np.testing.assert_array_equal(value, value.T)
    part = kernels(network, x[:1], x, dtype=dtype)
    if not any("Dropout" in path for path, _, _ in network.shapes()):
        for key, value in part.items():
            np.testing.assert_array_equal(value[0, 1:], whole[key][0, 1:])
    for key in BOTH:
        eigenvalues = np.linalg.eigvalsh(whole[key].astype(np.float64))
        # n times the entries' errors as a perturbation of the spectrum (test_cpu_properties)
        slack = {"float64": 1e-6, "float32": 1e-4}[dtype] * len(x) * max(whole[key].max(), 1e-3)
        assert eigenvalues[0] >= -slack
