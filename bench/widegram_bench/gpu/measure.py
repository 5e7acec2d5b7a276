"""The CUDA backend on this machine's card: time per entry, the issue bound."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from widegram.backends.job import Job
from widegram.cpu import CpuEvaluator
from widegram.cuda.device import Device
from widegram.cuda.evaluator import CudaEvaluator
from widegram.cuda.generated import WARP
from widegram.cuda.source import source_of
from widegram.data import open_source
from widegram.validation.choices import KERNELS
from widegram_bench.gpu.assembled import inspect, tool
from widegram_bench.gpu.card import watched
from widegram_bench.gpu.cases import Case

_MEMORY = 8 * 2**30
_SMALLEST, _LARGEST = 16, 512


def measure(case: Case, device: Device, seconds: float) -> tuple[dict[str, Any], CudaEvaluator]:
    """Times of the largest tile that fits into about ``seconds``, and what computed it, open.

    ``us_entry``: of a whole call of :meth:`CudaEvaluator.tile` whose images are known already, the
    best of several; ``prepare_s``: kernels, factors of the images and the first call.
    """
    start = time.perf_counter()
    evaluator = CudaEvaluator(job_of(case), [device])
    n = _SMALLEST
    prepared = None
    while True:
        evaluator.tile(range(n), range(n), False)
        prepared = prepared or time.perf_counter() - start
        spent = _best(evaluator, n, 1)
        if n == _LARGEST or 4 * spent > seconds / 5:
            break
        n *= 2
    spent = _best(evaluator, n, max(2, min(10, int(seconds / spent / 2))))
    row: dict[str, Any] = {
        "name": case.name, "dtype": case.dtype, "n": n,
        "us_entry": 1e6 * spent / n**2,
        "element_layers": evaluator.plan.element_layers, "prepare_s": prepared,
        "forms": [k.form for k in evaluator.source.kernels],
        "target_us": case.target,
    }  # fmt: skip
    row["rate"] = row["element_layers"] / row["us_entry"] * 1e6
    return row, evaluator


def job_of(case: Case) -> Job:
    """Random images beside others, for both kernels."""
    x = _images(case)
    return Job(
        network=case.network,
        x1=open_source(x[:_LARGEST]),
        x2=open_source(x[_LARGEST:]),
        kernels=KERNELS,
        depths=case.depths,
        dtype=case.dtype,
        memory=_MEMORY,
    )


def _images(case: Case) -> np.ndarray:
    """The images of both sides, one after the other."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((2 * _LARGEST, *case.network.input_shape)).astype(case.dtype)


def _best(evaluator: CudaEvaluator, n: int, times: int) -> float:
    best = float("inf")
    for _ in range(times):
        start = time.perf_counter()
        evaluator.tile(range(n), range(n), False)
        best = min(best, time.perf_counter() - start)
    return best


def _difference(case: Case, evaluator: CudaEvaluator) -> dict[str, float]:
    """From the CPU backend in float64, relative to the largest value."""
    rows = range(2)
    values = evaluator.tile(rows, rows, False)
    with CpuEvaluator(replace(job_of(case), dtype="float64")) as exact:
        wanted = exact.tile(rows, rows, False)
    return {
        key: float(np.abs(values[key] - value).max() / np.abs(value).max())
        for key, value in wanted.items()
    }


def own(
    case: Case, device: Device, card: dict[str, Any], seconds: float
) -> Iterator[dict[str, Any]]:
    """The row of a case with the clock seen meanwhile, then again with its difference from the CPU
    backend: what is timed is not lost to what comes after."""
    with watched(card):
        row, evaluator = measure(case, device, seconds)
    with evaluator:
        row |= {key: card[key] for key in ("multiprocessors", "clock_hz")}
        yield row
        yield row | {"difference": _difference(case, evaluator)}


def layer_loop(case: Case, capability: tuple[int, int]) -> dict[str, Any]:
    """What the assembler makes of the layer loop of the first stage, where that keeps planes in
    registers; else the ``problem``. It compiles the kernel again."""
    for name in ("ptxas", "nvdisasm"):
        if tool(name) is None:
            return {"problem": f"{name} is not installed"}
    kernel = source_of(case.network, dtype=case.dtype).kernels[0]
    if not kernel.pixels:
        return {"problem": "no planes in registers"}
    report = inspect(kernel, case.dtype, capability)
    if report.loop is None:
        return {"problem": "no layer loop in the kernel"}
    return asdict(report) | {"instructions_per_element_layer": report.loop / kernel.pixels}


def bound(loop: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """Microseconds an entry if every scheduler issued one instruction of :func:`layer_loop` a
    clock, and how much of that a row reaches.

    A multiprocessor has 4 schedulers, each for 32 lanes, on all cards since compute capability 5.0
    but those of 6.0, which have 2.
    """
    per_second = row["multiprocessors"] * 4 * row["clock_hz"] * WARP
    us = 1e6 * row["element_layers"] * loop["instructions_per_element_layer"] / per_second
    return loop | {"us_entry": us, "reached": us / row["us_entry"]}
