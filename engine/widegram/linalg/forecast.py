"""What solving would take, from the sizes and a trial of some seconds; nothing is written."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import lapack

from widegram.durable.outputs import free_disk
from widegram.errors import WidegramError
from widegram.linalg.budget import array_budget, resident, stream_share
from widegram.linalg.gramsource import open_train
from widegram.linalg.methods.method import VECTORS, Choice
from widegram.linalg.operator import GramOperator
from widegram.linalg.settings import Resources
from widegram.linalg.solvejob import SolveJob
from widegram.linalg.solving import chosen
from widegram.linalg.targets import load_targets
from widegram.machine import budgets, interrupts
from widegram.tiling import End
from widegram.validation.choices import SVM

_FIRST = 256  # rows of the first factorisation
_READS = 4  # of the matrix: once to factor, and to refine
_ONE_REDUCTION = 8  # regularisers; more are read off one tridiagonal matrix


class SolveForecast(NamedTuple):
    """What a solve would take, without starting it.

    * ``method``, ``why``: the solver that it would take
    * ``n``, ``k``: rows and right-hand sides
    * ``disk``: bytes of the solution and of work files meanwhile; ``free_disk``: what is free
    * ``memory``: bytes of the process at its peak
    * ``factorisations``: how many; 0 for conjugate gradients, whose iterations nobody knows before
    * ``seconds``: in all; of conjugate gradients those of one iteration
    * ``flops``, ``read``: operations, and bytes of the matrix, a second, in a trial of
      ``trial_seconds``
    """

    method: str
    why: str
    n: int
    k: int
    disk: int
    free_disk: int
    memory: int
    factorisations: int
    seconds: float
    flops: float
    read: float
    trial_seconds: float


def solve_forecast(job: SolveJob) -> SolveForecast:
    """What :func:`widegram.linalg.jobs.solve_file` would take for the same job; no file is made.

    Half of a trial of five seconds factors a matrix of growing size, half reads rows of the file.
    Raises :class:`WidegramError` as ``solve_file`` does, and for a solve by centers.
    """
    if job.centers is not None:
        raise WidegramError("--plan is of solves with the whole matrix, not of --method nystrom")
    if job.options.method == SVM:
        raise WidegramError("--plan knows no iterations before --method svm has made them")
    free = free_disk(job.out)
    memory, end, begun = array_budget(job.memory), End(job.depth, job.head), time.perf_counter()
    stream = stream_share(memory)
    with open_train(job.gram, job.kernel, end, memory=stream, rows=job.rows) as train:
        n, rows = train.file.n1, train.part.rows
        targets = load_targets(job.y, n, limit=job.limit, what="rows", task=job.task, rows=rows)
        n, k = targets.values.shape
        resources = Resources(memory=memory - targets.values.nbytes, work=job.out)
        choice = chosen(train.operator, k, job.options, resources)
        flops, read = _speed(choice.dtype), _reading(train.operator)
    direct = choice.method != "cg"
    times = min(max(1, len(job.path)), _ONE_REDUCTION) if direct else 0
    matrix, factor = n * n * train.operator.dtype.itemsize, n * n * choice.dtype.itemsize
    if direct:
        seconds = times * (n**3 / 3 / flops + _READS * matrix / read + 4 * n * n * k / flops)
        seconds += times * factor / read if choice.on_disk else 0.0
    else:
        seconds = max(matrix / 2 / read, 2 * n * n * k / flops)
    vectors = 8 * n * k
    return SolveForecast(
        method=choice.method,
        why=choice.reason,
        n=n,
        k=k,
        disk=2 * vectors + (factor // 2 if choice.on_disk else 0 if direct else 4 * vectors),
        free_disk=free,
        memory=resident() + _arrays(choice, memory, n, k),
        factorisations=times,
        seconds=seconds,
        flops=flops,
        read=read,
        trial_seconds=time.perf_counter() - begun,
    )


def _arrays(choice: Choice, memory: int, n: int, k: int) -> int:
    """Bytes of arrays: what streams fill their share, in memory the factor and what comes by."""
    if not choice.kept:
        return memory
    return min(memory, choice.kept + min(choice.stream, choice.kept) + 8 * VECTORS * n * k)


def _speed(dtype: np.dtype[Any]) -> float:
    """Operations a second of a factorisation in memory, of the largest that was tried."""
    factor = lapack.dpotrf if dtype == np.float64 else lapack.spotrf
    rows, began = _FIRST, time.perf_counter()
    while True:
        interrupts.check()
        matrix = np.asfortranarray(np.full((rows, rows), 0.5, dtype) + np.eye(rows, dtype=dtype))
        moment = time.perf_counter()
        factor(matrix, overwrite_a=True)
        took = time.perf_counter() - moment
        # The next one takes eight times as long.
        if time.perf_counter() - began + 10 * took > budgets.TRIAL_SECONDS / 2:
            return float(rows**3 / 3 / max(took, 1e-9))
        rows *= 2


def _reading(operator: GramOperator) -> float:
    """Bytes of the matrix that come a second, checksums compared."""
    n, began, read = operator.shape[0], time.perf_counter(), 0
    rows = max(1, min(512, operator.memory // (8 * n)))
    for lo in range(0, n, rows):
        interrupts.check()
        block = operator.block(slice(lo, min(n, lo + rows)), slice(0, n), operator.dtype)
        read += block.nbytes
        if time.perf_counter() - began > budgets.TRIAL_SECONDS / 2:
            break
    return read / max(time.perf_counter() - began, 1e-9)
