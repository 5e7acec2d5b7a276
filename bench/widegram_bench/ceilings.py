"""What else bounds an entry: memory bandwidth, matrix products."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

from widegram.cpu.driver.fields import REGION
from widegram.cpu.kernels import compiled
from widegram.cpu.kernels.fields import Geometry
from widegram.cpu.kernels.inner_ir import CHUNK
from widegram.cpu.kernels.variants import LANES, N_PARAMS, Variant
from widegram.cpu.workspace import aligned
from widegram.machine.cores import usable_cores
from widegram.machine.dtypes import ITEMSIZE
from widegram.network import Network
from widegram_bench.timing import best, together
from widegram_bench.work import least_work

_STREAM = 64 * 2**20
_SIDE = 1024
_REPEATS = 200  # so that starting threads takes no time beside them


class MemoryReads:
    """Reads of ``size`` bytes by each thread, over and over: from memory, or from the smallest
    cache that holds them. ``work``: bytes that all threads read in a turn."""

    def __init__(self, threads: int | None = None, size: int = _STREAM) -> None:
        threads, self.repeats = threads or usable_cores(), max(1, _STREAM // max(size, 4096))
        self.arrays = [np.ones(max(size // 4, 16), dtype=np.float32) for _ in range(threads)]
        self.work = threads * self.repeats * self.arrays[0].nbytes

    def run(self) -> None:
        """A turn of all threads."""
        together([lambda a=array: self._read(a) for array in self.arrays])  # type: ignore[misc]  # a default of a lambda

    def _read(self, array: np.ndarray[Any, Any]) -> None:
        for _ in range(self.repeats):
            np.max(array)


def bandwidth(seconds: float, threads: int | None = None) -> float:
    """Bytes a second that all threads together read from memory."""
    stream = MemoryReads(threads)
    return stream.work / best(stream.run, seconds, 3)


class Gemm:
    """NumPy's matrix product: ``work`` multiply-adds a turn."""

    work = _SIDE**3

    def __init__(self, dtype: str) -> None:
        self.a = np.ones((_SIDE, _SIDE), dtype=dtype)
        self.out = np.empty_like(self.a)

    def run(self) -> None:
        """A turn."""
        np.matmul(self.a, self.a, out=self.out)


class Inner:
    """The engine's inner products on all threads in the best case, inputs and results that never
    leave a core's own cache: ``work`` multiply-adds a turn."""

    def __init__(self, dtype: str, threads: int | None = None) -> None:
        self.runs = [_products(dtype) for _ in range(threads or usable_cores())]
        each = REGION[0] * REGION[1] * LANES[dtype] * CHUNK
        self.work = len(self.runs) * _REPEATS * each

    def run(self) -> None:
        """A turn of all threads."""
        together(self.runs)


def _products(dtype: str) -> Callable[[], None]:
    """Runs the kernel of inner products on one region and one chunk of features."""
    (rows, blocks), lanes = REGION, LANES[dtype]
    x, y = (aligned((n, CHUNK, lanes), dtype) for n in (rows // lanes, blocks))
    x[...], y[...] = 1.0, 1.0
    k, params = aligned((rows, blocks, lanes), dtype), np.ones(N_PARAMS, dtype)
    values = {"rows": rows, "cols": blocks, "out_row": blocks * lanes, "out_col": lanes}
    values["count"] = CHUNK
    geometry = np.array([values.get(field.name.lower(), 0) for field in Geometry], dtype=np.int64)
    address = compiled.address(Variant("inner", "none", False, False, dtype))
    kernel = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 8)(address)

    def run() -> None:
        for _ in range(_REPEATS):
            kernel(
                geometry.ctypes.data, params.ctypes.data, x.ctypes.data, y.ctypes.data,
                k.ctypes.data, 0, 0, 0,
            )  # fmt: skip

    return run


def least_ms(network: Network, dtype: str, layers: float, stream: float, product: float) -> Any:
    """Milliseconds per entry at the limit, by cause; the limit is the largest.

    ``compute``: element-layers at the rate ``layers``, and for vectors their inner product at the
    rate ``product``. ``memory``: factors and pixels of x' read once per entry at ``stream`` bytes
    a second; vectors, of which many share what is read, have their results written.
    """
    work = least_work(network, dtype)
    compute = work["element_layers"] / layers
    if len(network.input_shape) == 1:
        compute += network.input_shape[0] / product
    causes = {"compute": 1e3 * compute, "memory": 1e3 * bytes_moved(network, dtype) / stream}
    cause = max(causes, key=lambda name: causes[name])
    return {**causes, "limit": causes[cause], "bound": cause}


def bytes_moved(network: Network, dtype: str) -> int:
    """Bytes that one entry reads, of a vector network writes, at least."""
    vector = len(network.input_shape) == 1
    return 2 * ITEMSIZE[dtype] if vector else int(least_work(network, dtype)["bytes"])
