"""Cholesky factorisation in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from numpy.typing import DTypeLike

from widegram.errors import WidegramError
from widegram.linalg.incore import load_cholesky
from widegram.linalg.methods.method import Choice, Demand, Factorisation, dense_bytes
from widegram.linalg.operator import GramOperator
from widegram.linalg.refine import Factor
from widegram.linalg.settings import Resources
from widegram.machine.budgets import format_size


class Cholesky(Factorisation):
    """A float64 factor where it fits, else a float32 one whose solutions are refined."""

    def choice(self, demand: Demand, asked: bool) -> Choice | None:
        """See :meth:`Method.choice`."""
        n, size, stream = demand.n, format_size(demand.budget), demand.budget // 8
        wanted: tuple[DTypeLike, ...] = (np.float64, np.float32)
        for kind in wanted if demand.dtype is None else (demand.dtype,):
            dtype = np.dtype(kind)
            held = dense_bytes(n, demand.k, dtype.itemsize)
            needed = held + min(stream, held)
            if needed <= demand.budget:
                reason = f"{n} rows in {dtype.name} need {format_size(held)} of {size}"
                return Choice("cholesky", dtype, stream, reason, kept=dtype.itemsize * n * n)
        if asked:
            raise WidegramError(
                f"cholesky of {n} rows needs {format_size(needed)}, more than {size}; give more "
                "--memory, or take --method cholesky-ooc or cg"
            )
        return None

    @contextmanager
    def factored(
        self, operator: GramOperator, k: int, choice: Choice, resources: Resources, advise: bool
    ) -> Iterator[Factor]:
        """See :meth:`Factorisation.factored`."""
        streaming = replace(operator, memory=choice.stream)
        yield load_cholesky(streaming, choice.dtype, resources.progress, advise=advise)


METHOD = Cholesky()
