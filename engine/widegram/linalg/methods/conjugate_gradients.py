"""Block conjugate gradients that stream the matrix, preconditioned and kept on the disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.errors import WidegramError
from widegram.linalg.cg import conjugate_gradients
from widegram.linalg.methods.method import VECTORS, Choice, Demand, Method
from widegram.linalg.operator import GramOperator
from widegram.linalg.precondition import LowRank, nystrom, pivoted_cholesky
from widegram.linalg.restart import RestartFile
from widegram.linalg.settings import Resources, SolveOptions
from widegram.linalg.solution import Solution
from widegram.linalg.units import in_original_units
from widegram.machine import interrupts
from widegram.machine.budgets import format_size
from widegram.validation.choices import PRECONDITIONERS

Array = NDArray[Any]
_SKETCHES = 4  # n x rank arrays while a preconditioner is built


class Gradients(Method):
    """Conjugate gradients; the iterate lies in the work file that ends in .restart."""

    def choice(self, demand: Demand, asked: bool) -> Choice | None:
        """See :meth:`Method.choice`. The last resort: what it cannot hold is refused."""
        n, k, size = demand.n, demand.k, format_size(demand.budget)
        if demand.vectors > demand.budget // 2:
            raise WidegramError(
                f"{VECTORS} blocks of {n} x {k} right-hand sides do not fit in half of {size}; "
                f"give more --memory, at least {format_size(2 * demand.vectors)}"
            )
        reason = f"{n} rows do not fit in {size}, and a factor of it is out of reach"
        return Choice(
            "cg", np.dtype(np.float64), demand.budget // 4, "as asked" if asked else reason
        )

    def solve(
        self,
        operator: GramOperator,
        b: Array,
        choice: Choice,
        options: SolveOptions,
        resources: Resources,
    ) -> Solution:
        """See :meth:`Method.solve`."""
        n, k = b.shape
        units, unit = replace(operator, memory=choice.stream).in_units()
        plain, mu = units.shifted(0.0), operator.shift / unit
        if not plain.elsewhere and plain.dtype.itemsize * n * n <= resources.memory // 4:
            plain = plain.cached()
        rank = preconditioner_rank(n, k, resources.memory, options.rank)
        preconditioner = _preconditioner(plain, rank, mu, options, resources)
        restart, start, before = None, None, 0
        path = resources.work_file(".restart")
        if path is not None:
            key = f"{resources.key}/{operator.shift!r}"
            restart = RestartFile(path, key, options.checkpoint_seconds)
            start, before = restart.load(b.shape, discard_other=resources.overwrite)
        with _saving_iterates(restart):
            solution = conjugate_gradients(
                plain.shifted(operator.shift).matmat,
                b,
                preconditioner,
                tol=options.tol,
                max_iter=options.max_iter,
                x0=start,
                checkpoint=None if restart is None else restart.counting_from(before),
                progress=resources.progress,
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


METHOD = Gradients()


def preconditioner_rank(n: int, k: int, budget: int, wanted: int | None) -> int:
    """Rank of the preconditioner: ``wanted``, or 400 and at most n / 4, as far as memory goes."""
    rank = min(n, 400 if wanted is None else wanted)
    if wanted is None:
        rank = min(rank, max(n // 4, 1))
    room = budget // 2 - 8 * VECTORS * n * k
    return max(0, min(rank, room // (8 * _SKETCHES * n)))


def _preconditioner(
    operator: GramOperator, rank: int, mu: float, options: SolveOptions, resources: Resources
) -> LowRank | None:
    makers: dict[str, Callable[..., LowRank]] = {
        "nystrom": partial(nystrom, seed=options.seed),
        "pivoted-cholesky": pivoted_cholesky,
    }
    if options.preconditioner not in PRECONDITIONERS:
        raise WidegramError(
            f"no preconditioner {options.preconditioner!r}; "
            f"choose from {', '.join(PRECONDITIONERS)}"
        )
    if options.preconditioner == "none" or rank == 0:
        return None
    return makers[options.preconditioner](operator, rank, mu, progress=resources.progress)


@contextmanager
def _saving_iterates(restart: RestartFile | None) -> Iterator[None]:
    """Inside, a stop waits for a short iteration, which is then saved."""
    if restart is None:
        yield
        return
    with (
        interrupts.keeping(restart.kept),
        interrupts.finishing("the iteration in work", restart.clock.seconds_left),
    ):
        yield
