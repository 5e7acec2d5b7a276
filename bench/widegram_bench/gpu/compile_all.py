"""The kernels of all cases, compiled side by side before anything is timed.

What compiles them later finds them on disk. What the card's assembler made of each is noted:
registers, local memory (a spill, where a kernel has no arrays of its own), blocks that fit a
multiprocessor at once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import Any

from widegram.backends.job import Job
from widegram.cuda.evaluator import CudaEvaluator
from widegram.cuda.generated import KernelText
from widegram.machine.cores import usable_cores
from widegram_bench.gpu.cases import cases
from widegram_bench.gpu.measure import job_of
from widegram_bench.gpu.stand_in import StandIn

_WARPS = 64  # that a multiprocessor keeps at once, of compute capability 7.0, 8.0 and 9.0


def side_by_side(number: int, keys: list[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    """All that is known of all kernels, again after each: ``kernels``, ``failed``, ``seconds``."""
    start = time.perf_counter()
    found: dict[str, Any] = {"kernels": [], "failed": [], "seconds": 0.0}
    workers = max(1, usable_cores() - 1)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        counts = {pool.submit(_count, number, key): key for key in keys}
        jobs: dict[Future[dict[str, Any]], tuple[str, str]] = {}
        for done in as_completed(counts):
            key = counts[done]
            if (error := done.exception()) is not None:
                found["failed"].append([*key, str(error)])
                continue
            jobs |= {pool.submit(_one, number, key, n): key for n in range(done.result())}
        for ended in as_completed(jobs):
            if (error := ended.exception()) is not None:
                found["failed"].append([*jobs[ended], str(error)])
            else:
                found["kernels"].append(ended.result())
            found["seconds"] = time.perf_counter() - start
            yield found


def _texts(number: int, key: tuple[str, str]) -> list[KernelText]:
    """The kernels of a case as its evaluator on this card has them."""
    from widegram.cuda.device import gpus

    case = next(case for case in cases() if case.key == key)
    shared = gpus((number,))[0].shared_memory()
    job: Job = job_of(case)
    with CudaEvaluator(job, [StandIn(free=1 << 34, shared=shared)]) as evaluator:
        source = evaluator.source
    return [*source.kernels, *([source.product] if source.product else [])]


def _count(number: int, key: tuple[str, str]) -> int:
    return len(_texts(number, key))


def _one(number: int, key: tuple[str, str], n: int) -> dict[str, Any]:
    """What the card's assembler makes of a case's kernel ``n``."""
    from numba import cuda

    from widegram.cuda.device import gpus

    kernel, device = _texts(number, key)[n], gpus((number,))[0]
    start = time.perf_counter()
    with device.entered():
        compiled, dynamic = device.compiled(kernel, key[1])
        spent = time.perf_counter() - start
        (overload,) = compiled.overloads.values()
        function = overload._codelibrary.get_cufunc()
        threads = kernel.threads[0] * kernel.threads[1]
        context = cuda.current_context()
        blocks = context.get_active_blocks_per_multiprocessor(function, threads, dynamic)
    warps = -(-threads // 32) * blocks
    return {
        "case": list(key), "kernel": kernel.name, "form": kernel.form, "threads": threads,
        "registers": function.attrs.regs, "local": function.attrs.local,
        "shared": function.attrs.shared + dynamic, "blocks": blocks,
        "occupancy": warps / _WARPS, "compile_s": spent,
    }  # fmt: skip
