"""What else bounds an entry: memory bandwidth, matrix products."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from widegram.cpu import planes
from widegram.cpu.inner_ir import CHUNK
from widegram.cpu.plane_base import GEOMETRY, N_PARAMS, Variant
from widegram.cpu.tables import REGION
from widegram.cpu.vector_ops import ITEMSIZE, LANES
from widegram.cpu.workspace import aligned
from widegram.network import Network
from widegram_bench.roof import Roof
from widegram_bench.timing import best, together
from widegram_bench.work import least_work

_STREAM = 64 * 2**20
_SIDE = 1024
_REPEATS = 20


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


def inner(dtype: str, seconds: float, threads: int | None = None) -> float:
    """Multiply-adds a second of the engine's inner products on all threads, in the best case:
    inputs and results that never leave a core's own cache."""
    threads = threads or os.cpu_count() or 1
    runs = [_products(dtype) for _ in range(threads)]
    each = REGION[0] * REGION[1] * LANES[dtype] * CHUNK
    fastest = best(lambda: together(runs), seconds)
    return threads * _REPEATS * each / fastest


def _products(dtype: str) -> Callable[[], None]:
    """Runs the kernel of inner products on one region and one chunk of features."""
    (rows, blocks), lanes = REGION, LANES[dtype]
    x, y = (aligned((n, CHUNK, lanes), dtype) for n in (rows // lanes, blocks))
    x[...], y[...] = 1.0, 1.0
    k, params = aligned((rows, blocks, lanes), dtype), np.ones(N_PARAMS, dtype)
    values = {"rows": rows, "cols": blocks, "out_row": blocks * lanes, "out_col": lanes}
    values["count"] = CHUNK
    geometry = np.array([values.get(name, 0) for name in GEOMETRY], dtype=np.int64)
    address = planes.address(Variant("inner", "none", False, False, dtype))
    kernel = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 8)(address)

    def run() -> None:
        for _ in range(_REPEATS):
            kernel(
                geometry.ctypes.data, params.ctypes.data, x.ctypes.data, y.ctypes.data,
                k.ctypes.data, 0, 0, 0,
            )  # fmt: skip

    return run


def least_ms(network: Network, dtype: str, roof: Roof, stream: float, product: float) -> Any:
    """Milliseconds per entry at the limit, by cause; the limit is the largest.

    ``compute``: element-layers at the roof, and for vectors their inner product at the rate
    ``product``. ``memory``: factors and pixels of x' read once per entry; vectors, of which many
    share what is read, have their results written.
    """
    work = least_work(network, dtype)
    compute, moved = work["element_layers"] / roof.every, work["bytes"]
    if len(network.input_shape) == 1:
        compute += network.input_shape[0] / product
        moved = 2 * ITEMSIZE[dtype]
    causes = {"compute": 1e3 * compute, "memory": 1e3 * moved / stream}
    cause = max(causes, key=lambda name: causes[name])
    return {**causes, "limit": causes[cause], "bound": cause}
