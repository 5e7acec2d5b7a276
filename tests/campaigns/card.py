"""Random networks on a card beside the CPU: ``python -m campaigns.card --count 500``.

Prints a line of JSON for every network: its number and, per dtype, the largest difference from the
CPU backend in float64, relative to the largest value of its matrix, or why there is none.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from typing import Any

import numpy as np

from campaigns.drawing import draw
from jobs import job
from widegram.backends.job import Job
from widegram.cpu import CpuEvaluator
from widegram.cuda.device import gpus
from widegram.cuda.evaluator import CudaEvaluator
from widegram.errors import WidegramError

DTYPES = ("float64", "float32")


def compared(seed: int, number: int, dtypes: tuple[str, ...]) -> dict[str, Any]:
    """One network's differences by dtype, the forms of its kernels and the seconds it took."""
    start, case = time.perf_counter(), draw(seed, number)
    found: dict[str, Any] = {"number": number}
    exact = job(case.spec, case.x1, case.x2, depths=case.depths)
    rows = range(len(case.x1))
    cols = rows if case.x2 is None else range(len(case.x2))
    try:
        with CpuEvaluator(exact) as cpu:
            wanted = cpu.tile(rows, cols, case.x2 is None)
    except WidegramError as error:
        return found | {"refused": str(error)}
    for dtype in dtypes:
        try:
            found |= _one(replace(exact, dtype=dtype), rows, cols, wanted)
        except Exception as error:  # A crash is a finding, and the next network still counts.
            found[dtype] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return found | {"seconds": time.perf_counter() - start}


def _one(of: Job, rows: range, cols: range, wanted: dict[str, Any]) -> dict[str, Any]:
    with CudaEvaluator(of, gpus((0,))) as cuda:
        values = cuda.tile(rows, cols, of.x2 is None)
        forms = [kernel.form for kernel in cuda.source.kernels]
    differences = {
        key: float(np.abs(values[key] - value).max() / (np.abs(value).max() or 1.0))
        for key, value in wanted.items()
    }
    return {of.dtype: differences, "forms": forms}


def run(
    seed: int, numbers: range, dtypes: tuple[str, ...], processes: int, seconds: float
) -> Iterator[dict[str, Any]]:
    """As many networks as are done in ``seconds``, as they come."""
    end = time.monotonic() + seconds
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(compared, seed, number, dtypes) for number in numbers]
        try:
            for done in as_completed(waiting, timeout=max(0.0, end - time.monotonic())):
                yield done.result()
        except TimeoutError:
            pool.shutdown(wait=False, cancel_futures=True)


def main() -> int:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=500, help="networks")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", type=int, default=0, help="number of the first")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3600.0, help="as many as end in this time")
    parser.add_argument("--dtype", action="append", choices=DTYPES, help="default: both")
    args = parser.parse_args()
    dtypes = tuple(args.dtype or DTYPES)
    numbers = range(args.start, args.start + args.count)
    for found in run(args.seed, numbers, dtypes, args.processes, args.seconds):
        print(json.dumps(found), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
