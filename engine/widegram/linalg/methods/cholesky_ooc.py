"""Cholesky factorisation in a work file on the disk, for matrices larger than memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from widegram.closing import ClosedOnFailure
from widegram.errors import WidegramError
from widegram.linalg.methods.method import Choice, Demand, Factorisation, dense_bytes
from widegram.linalg.operator import GramOperator
from widegram.linalg.outofcore import disk_cholesky, plan_columns
from widegram.linalg.refine import Factor
from widegram.linalg.settings import Resources
from widegram.machine.budgets import format_size

_MOST = 80_000  # rows beyond which 'auto' does not wait for a factor


class CholeskyOnDisk(Factorisation):
    """A factor in the work file that ends in .factor.

    The file is removed when the block ends well; after a failure or a kill it stays, and the next
    run continues it.
    """

    def choice(self, demand: Demand, asked: bool) -> Choice | None:
        """See :meth:`Method.choice`."""
        n, factor = demand.n, np.dtype(np.float64 if demand.dtype is None else demand.dtype)
        work_file = n * (n + 1024) // 2 * factor.itemsize
        if not asked and (n > _MOST or work_file >= demand.free_disk):
            return None
        plan_columns(n, demand.budget - demand.vectors, factor.itemsize)
        size = format_size(work_file)
        reason = f"as asked, with a work file of {size}"
        if not asked:
            budget = format_size(demand.budget)
            reason = f"{n} rows do not fit in {budget}, the factor ({size}) fits on the disk"
        return Choice("cholesky-ooc", factor, demand.budget // 8, reason, on_disk=True)

    @contextmanager
    def factored(
        self, operator: GramOperator, k: int, choice: Choice, resources: Resources, advise: bool
    ) -> Iterator[Factor]:
        """See :meth:`Factorisation.factored`."""
        path = resources.work_file(".factor")
        if path is None:
            raise WidegramError("an out-of-core factorisation needs a place for its work file")
        factor = disk_cholesky(
            replace(operator, memory=choice.stream),
            path,
            memory=resources.memory - dense_bytes(operator.shape[0], k, 0),
            key=f"{resources.key}/{operator.shift!r}",
            dtype=choice.dtype,
            discard_other=resources.overwrite,
            progress=resources.progress,
            advise=advise,
        )
        with ClosedOnFailure(factor):
            yield factor
        factor.close(delete=True)


METHOD = CholeskyOnDisk()
