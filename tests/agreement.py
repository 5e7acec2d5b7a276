"""What the networks of a table are compared by: every backend beside the dense reference.

A network is the shape of its inputs and its layers, as specifications have them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from cuda_support import assert_equal, both
from jobs import job
from network_specs import load
from widegram.cpu import CpuEvaluator
from widegram.reference import ReferenceEvaluator

# Relative to the largest entry: the promise of each dtype (docs/accuracy.md).
PROMISED = {"float64": 1e-10, "float32": 1e-5}


def cpu_agrees(shape: tuple[int, ...], layers: list[dict[str, Any]], dtype: str) -> None:
    """A cross and a symmetric matrix by the CPU in a dtype."""
    network = load(shape, *layers)
    rng = np.random.default_rng(3)
    x1, x2 = (rng.standard_normal((n, *network.input_shape)) for n in (3, 2))
    for second, cols in ((x2, range(2)), (None, range(3))):
        of = job(network, x1, second)
        wanted = ReferenceEvaluator(of).tile(range(3), cols, second is None)
        with CpuEvaluator(replace(of, dtype=dtype)) as evaluator:
            found = evaluator.tile(range(3), cols, second is None)
        assert_equal(found, wanted, PROMISED[dtype])


def generated_agrees(shape: tuple[int, ...], layers: list[dict[str, Any]]) -> None:
    """A cross matrix by generated kernels on the emulator."""
    _, found, wanted = both({"input_shape": list(shape), "layers": layers})
    # some roundings of float64 per layer and pixel
    assert_equal(found, wanted, 1e-13)
