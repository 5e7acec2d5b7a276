"""(K + reg I) alpha = Y by the method asked for, within a byte budget."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from widegram.errors import WidegramError
from widegram.linalg.cg import conjugate_gradients
from widegram.linalg.choose import Choice, choose, dense_bytes, preconditioner_rank
from widegram.linalg.definite import ZeroMatrix, relative_shift
from widegram.linalg.dense import load_cholesky
from widegram.linalg.operator import GramOperator
from widegram.linalg.outofcore import disk_cholesky
from widegram.linalg.precondition import LowRank, nystrom, pivoted_cholesky
from widegram.linalg.refine import Factor
from widegram.linalg.restart import RestartFile
from widegram.linalg.solution import Solution
from widegram.linalg.units import in_original_units
from widegram.machine import interrupts
from widegram.machine.progress import ProgressCallback
from widegram.validation.choices import PRECONDITIONERS

Array = NDArray[Any]


@dataclass(frozen=True)
class SolveOptions:
    """How to solve. ``memory`` counts bytes of arrays; ``work`` is where work files may lie.

    ``work`` names a file: the factor of cholesky-ooc is kept at ``work.factor`` and the iterate
    of cg at ``work.restart`` until the run is done. ``key`` names the problem: work files of
    another are refused, or discarded with ``overwrite``. ``dtype`` None is float64 where it
    fits, else float32.
    """

    memory: int
    method: str = "auto"
    dtype: DTypeLike | None = None
    tol: float = 1e-8
    max_iter: int = 1000
    preconditioner: str = "nystrom"
    rank: int | None = None
    seed: int = 0
    work: Path | None = None
    key: str = ""
    checkpoint_seconds: float = 10.0
    overwrite: bool = False
    progress: ProgressCallback | None = None


def absolute_regulariser(operator: GramOperator, diag_reg: float, absolute: bool) -> float:
    """What is added to the diagonal: ``diag_reg``, times trace / n unless ``absolute``.

    Raises WidegramError for a negative value or one that is not finite, and :class:`ZeroMatrix`
    where a relative one adds nothing.
    """
    trace = operator.trace()
    shift = relative_shift(trace, operator.shape[0], diag_reg, absolute)
    if trace == 0.0 and not absolute and operator.frobenius() == 0.0:
        raise ZeroMatrix
    return shift


def solve(operator: GramOperator, b: Array, options: SolveOptions) -> Solution:
    """Solve A x = b for the operator with its shift; b of shape (n, k).

    The solution's details name the method's reason under "why". Raises WidegramError when A is
    not positive definite or the method does not fit in memory.
    """
    choice = chosen(operator, b.shape[1], options)
    if choice.method == "cg":
        solution = _by_gradients(operator, b, choice, options)
    else:
        with factored(operator, b.shape[1], options, choice) as factor:
            solution = factor.solve(b)
    solution.details["why"] = choice.reason
    return solution


def chosen(operator: GramOperator, k: int, options: SolveOptions) -> Choice:
    """The choice that :func:`solve` takes for ``k`` right-hand sides."""
    folder = Path.cwd() if options.work is None else options.work.resolve().parent
    free_disk = shutil.disk_usage(folder).free if folder.is_dir() else 0
    n = operator.shape[0]
    return choose(options.method, n, k, options.memory, options.dtype, free_disk)


@contextmanager
def factored(
    operator: GramOperator,
    k: int,
    options: SolveOptions,
    choice: Choice | None = None,
    *,
    advise: bool = True,
) -> Iterator[Factor]:
    """A Cholesky factor of the operator, in memory or in ``options.work`` + ".factor".

    The work file is removed when the block ends well; after a failure or a kill it stays, and
    the next run continues it. Raises and takes ``advise`` as
    :func:`widegram.linalg.dense.load_cholesky`.
    """
    choice = choice or chosen(operator, k, options)
    if choice.method == "cg":
        raise WidegramError("this needs a factorisation; take --method cholesky or cholesky-ooc")
    streaming = replace(operator, memory=choice.stream)
    if choice.method == "cholesky":
        yield load_cholesky(streaming, choice.dtype, options.progress, advise=advise)
        return
    if options.work is None:
        raise WidegramError("an out-of-core factorisation needs a place for its work file")
    path = options.work.with_name(options.work.name + ".factor")
    factor = disk_cholesky(
        streaming,
        path,
        memory=options.memory - dense_bytes(operator.shape[0], k, 0),
        key=f"{options.key}/{operator.shift!r}",
        dtype=choice.dtype,
        discard_other=options.overwrite,
        progress=options.progress,
        advise=advise,
    )
    try:
        yield factor
    except BaseException:
        factor.close()
        raise
    factor.close(delete=True)


def _by_gradients(
    operator: GramOperator, b: Array, choice: Choice, options: SolveOptions
) -> Solution:
    n, k = b.shape
    units, unit = replace(operator, memory=choice.stream).in_units()
    plain, mu = units.shifted(0.0), operator.shift / unit
    if plain.dtype.itemsize * n * n <= options.memory // 4:
        plain = plain.cached()
    rank = preconditioner_rank(n, k, options.memory, options.rank)
    preconditioner = _preconditioner(plain, rank, mu, options)
    shifted = plain.shifted(operator.shift)
    restart, start, before = None, None, 0
    if options.work is not None:
        path = options.work.with_name(options.work.name + ".restart")
        key = f"{options.key}/{operator.shift!r}"
        restart = RestartFile(path, key, options.checkpoint_seconds)
        start, before = restart.load(b.shape, discard_other=options.overwrite)
    with _saving_iterates(restart):
        solution = conjugate_gradients(
            shifted.matmat,
            b,
            preconditioner,
            tol=options.tol,
            max_iter=options.max_iter,
            x0=start,
            checkpoint=None if restart is None else restart.counting_from(before),
            progress=options.progress,
        )
    if restart is not None:
        restart.finish(solution.x, before + solution.iterations, solution.status == "ok")
    powers = np.full(k, -round(np.log2(unit)))
    solution = replace(solution, x=in_original_units(solution.x, powers))
    solution.details.update(
        rank=0 if preconditioner is None else preconditioner.rank,
        preconditioner=options.preconditioner,
        restarted_from=before,
    )
    return solution


@contextmanager
def _saving_iterates(restart: RestartFile | None) -> Iterator[None]:
    """Inside, a stop waits for a short iteration, which is then saved."""
    if restart is None:
        yield
        return
    with (
        interrupts.keeping(restart.kept),
        interrupts.finishing("the iteration in work", restart.step_seconds),
    ):
        yield


def _preconditioner(
    operator: GramOperator, rank: int, mu: float, options: SolveOptions
) -> LowRank | None:
    if options.preconditioner not in PRECONDITIONERS:
        raise WidegramError(
            f"no preconditioner {options.preconditioner!r}; "
            f"choose from {', '.join(PRECONDITIONERS)}"
        )
    if options.preconditioner == "none" or rank == 0:
        return None
    if options.preconditioner == "nystrom":
        return nystrom(operator, rank, mu, seed=options.seed, progress=options.progress)
    return pivoted_cholesky(operator, rank, mu, progress=options.progress)
