"""Variances of a network's outputs, one number per input."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.computing.job import make_job
from widegram.data import open_source
from widegram.network import Network

_ROWS = 256


def variances(
    network: Network, x: NDArray[Any], dtype: str, accept: float | None = None
) -> NDArray[Any]:
    """The diagonal (n,) of the NNGP matrix of ``x`` (n, *input_shape) with itself, as ``dtype``.

    Computed in double precision, image by image: the cost does not grow with n squared.
    ``accept`` as ``accept_series_error`` of :func:`widegram.kernel`.
    """
    source = open_source(x)
    job = make_job(network, source, None, "nngp", dtype, None, 1, None, accept)
    evaluator: Any = job.evaluator("cpu")
    parts = [
        evaluator.own_kernels(range(lo, min(lo + _ROWS, len(source))))["nngp"][0]
        for lo in range(0, len(source), _ROWS)
    ]
    return np.concatenate(parts).astype(dtype)
