"""Random networks through ``stax``, of every layer and parameter, beside neural-tangents.

``golden_random/values.npz`` was written by neural-tangents 0.6.5 (its README.md).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import random_examples
from widegram import stax

with np.load(Path(__file__).parent / "golden_random" / "values.npz") as file:
    WANTED = dict(file)


@pytest.mark.parametrize("number", sorted({int(name.split("/")[0]) for name in WANTED}))
def test_values_of_neural_tangents(number: int) -> None:
    for name, found in random_examples.run(stax, [number]).items():
        wanted = WANTED[name]
        assert found.shape == wanted.shape
        # of the largest entry: what is promised of float64
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-10 * np.abs(wanted).max())
