"""The CPU backend against every golden kernel, in both precisions."""

from __future__ import annotations

import numpy as np
import pytest

import golden_cases
from jobs import job
from widegram.computing.choosing import make_evaluator
from widegram.data import open_source
from widegram.network import load_network

MEMORY = 2**30


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", golden_cases.params())
def test_golden(name: str, dtype: str) -> None:
    golden = golden_cases.load(name)
    network = load_network(golden.spec)
    first = open_source(golden.x1)
    rows = range(len(golden.x1))
    for suffix, second in (("", open_source(golden.x2)), ("_11", None)):
        evaluator = make_evaluator(
            "cpu", job(network, first, second, dtype=dtype, threads=2, memory=MEMORY)
        )
        columns = rows if second is None else range(len(golden.x2))
        found = evaluator.tile(rows, columns, second is None)
        for kernel, value in found.items():
            assert value.dtype == dtype
            golden_cases.assert_matches(golden, kernel + suffix, value, dtype)
            if second is None:
                np.testing.assert_array_equal(value, value.T)
