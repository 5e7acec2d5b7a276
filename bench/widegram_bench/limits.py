"""What else bounds an entry: memory bandwidth, matrix products."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from widegram.network import Network
from widegram_bench.roof import Roof
from widegram_bench.timing import best, together
from widegram_bench.work import least_work

_STREAM = 64 * 2**20
_SIDE = 1024


def bandwidth(seconds: float, threads: int | None = None) -> float:
    """Bytes a second that all threads together read from memory."""
    threads = threads or os.cpu_count() or 1
    arrays = [np.ones(_STREAM // 4, dtype=np.float32) for _ in range(threads)]
    runs = [lambda a=array: np.max(a) for array in arrays]
    fastest = min(together(runs) for _ in range(max(3, int(seconds / 0.02))))
    return threads * _STREAM / fastest


def gemm(dtype: str, seconds: float) -> float:
    """Multiply-adds a second of NumPy's matrix product."""
    a = np.ones((_SIDE, _SIDE), dtype=dtype)
    out = np.empty_like(a)
    return float(_SIDE**3 / best(lambda: np.matmul(a, a, out=out), seconds))


def least_ms(network: Network, dtype: str, roof: Roof, stream: float, product: float) -> Any:
    """Milliseconds per entry at the limit, by cause; the limit is the largest.

    ``compute``: element-layers at the roof, and for vectors their inner product at the rate of
    GEMM; ``memory``: factors and pixels of x' read once per entry.
    """
    work = least_work(network, dtype)
    compute = work["element_layers"] / roof.every
    if len(network.input_shape) == 1:
        compute += network.input_shape[0] / product
    causes = {"compute": 1e3 * compute, "memory": 1e3 * work["bytes"] / stream}
    cause = max(causes, key=lambda name: causes[name])
    return {**causes, "limit": causes[cause], "bound": cause}
