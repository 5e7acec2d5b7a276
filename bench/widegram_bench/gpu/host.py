"""What the host spends per entry of a tile while a card computes: with a card that does nothing.

    python -m widegram_bench.gpu.host

No card is needed; values are meaningless.
"""

from __future__ import annotations

import sys
import time

import numpy as np

from widegram.backends.job import Job
from widegram.cuda.evaluator import CudaEvaluator
from widegram.data import open_source
from widegram.network import Network
from widegram.validation.choices import DTYPES, KERNELS
from widegram_bench.gpu.stand_in import StandIn
from widegram_bench.networks import cnn, dense

_TILE = 512
_TIMES = 7


def nanoseconds(network: Network, dtype: str, symmetric: bool) -> float:
    """Per entry of one tile whose images are known already, the best of several."""
    x = np.random.default_rng(0).standard_normal((2 * _TILE, *network.input_shape)).astype(dtype)
    x2 = None if symmetric else open_source(x[_TILE:])
    job = Job(
        network=network,
        x1=open_source(x[:_TILE]),
        x2=x2,
        kernels=KERNELS,
        depths=(),
        dtype=dtype,
        memory=1 << 32,
    )
    best = float("inf")
    with CudaEvaluator(job, [StandIn(free=1 << 34)]) as evaluator:
        for _ in range(_TIMES):
            start = time.perf_counter()
            evaluator.tile(range(_TILE), range(_TILE), symmetric)
            best = min(best, time.perf_counter() - start)
    return 1e9 * best / _TILE**2


def main() -> int:
    """Print a line for every network, precision and kind of tile."""
    for name, network in (("dense 10", dense(10)), ("cnn21-flatten", cnn(21, 32, pooled=False))):
        for dtype in DTYPES:
            for symmetric in (False, True):
                kind = "diagonal" if symmetric else "off the diagonal"
                found = nanoseconds(network, dtype, symmetric)
                print(f"{name} {dtype}, tile {kind}: {found:.2f} ns per entry")
    return 0


if __name__ == "__main__":
    sys.exit(main())
