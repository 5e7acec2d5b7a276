"""Variances of a network's outputs, one number per input."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.cpu import CpuEvaluator
from widegram.data import open_source
from widegram.memory import budget
from widegram.network import Network

_ROWS = 256


def variances(network: Network, x: NDArray[Any], dtype: str) -> NDArray[Any]:
    """The diagonal (n,) of the NNGP matrix of ``x`` (n, *input_shape) with itself, as ``dtype``.

    Computed in double precision, image by image: the cost does not grow with n squared.
    """
    source = open_source(x)
    evaluator = CpuEvaluator(network, source, None, ("nngp",), (), dtype, 1, budget(None))
    parts = [
        evaluator.own_kernels(range(lo, min(lo + _ROWS, len(source))))["nngp"][0]
        for lo in range(0, len(source), _ROWS)
    ]
    return np.concatenate(parts).astype(dtype)
