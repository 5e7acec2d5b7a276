"""What every solver says of itself: whether it can, in which memory, and how it solves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from widegram.linalg.operator import GramOperator
from widegram.linalg.refine import Factor
from widegram.linalg.settings import Resources, SolveOptions
from widegram.linalg.solution import Solution

Array = NDArray[Any]
VECTORS = 14  # blocks of right-hand sides that a solver holds at once


@dataclass(frozen=True)
class Demand:
    """What a choice follows from.

    * ``n`` rows, ``k`` right-hand sides
    * ``budget``: bytes of arrays
    * ``dtype``: of a factor, None where the solver may choose
    * ``free_disk``: bytes where work files may lie
    """

    n: int
    k: int
    budget: int
    dtype: DTypeLike | None
    free_disk: int

    @property
    def vectors(self) -> int:
        """Bytes of the right-hand sides while they are solved for."""
        return dense_bytes(self.n, self.k, 0)


@dataclass(frozen=True)
class Choice:
    """A solver that was chosen.

    * ``method``: its name
    * ``dtype``: of its factor
    * ``stream``: bytes for blocks of the matrix that are read
    * ``reason``: why it was chosen, in words
    * ``kept``: bytes of the factor in memory, 0 where it is elsewhere or there is none
    * ``on_disk``: whether the factor lies in a work file
    """

    method: str
    dtype: np.dtype[Any]
    stream: int
    reason: str
    kept: int = 0
    on_disk: bool = False


class Method(ABC):
    """A solver; each module of :data:`widegram.validation.choices.SOLVERS` holds one."""

    @abstractmethod
    def choice(self, demand: Demand, asked: bool) -> Choice | None:
        """How it would solve the problem; None where another solver should.

        One that was ``asked`` for by name raises WidegramError instead, naming one that can.
        """

    @abstractmethod
    def solve(
        self,
        operator: GramOperator,
        b: Array,
        choice: Choice,
        options: SolveOptions,
        resources: Resources,
    ) -> Solution:
        """Solve A x = b for the operator with its shift; b of shape (n, k)."""


class Factorisation(Method):
    """A solver that makes a factor, which serves variances and leave-one-out errors too."""

    @abstractmethod
    def factored(
        self, operator: GramOperator, k: int, choice: Choice, resources: Resources, advise: bool
    ) -> AbstractContextManager[Factor]:
        """A factor for ``k`` right-hand sides.

        Raises :class:`widegram.linalg.definite.NotPositiveDefinite`, with advice that was tried;
        without ``advise`` a bare :class:`widegram.linalg.definite.FailedPivot`.
        """

    def solve(
        self,
        operator: GramOperator,
        b: Array,
        choice: Choice,
        options: SolveOptions,
        resources: Resources,
    ) -> Solution:
        """Factor, and solve with refinement against the operator."""
        with self.factored(operator, b.shape[1], choice, resources, True) as factor:
            return factor.solve(b)


def dense_bytes(n: int, k: int, itemsize: int) -> int:
    """Peak bytes of an in-memory factorisation of n rows with k right-hand sides.

    With ``itemsize`` 0 those of the right-hand sides alone.
    """
    return itemsize * n * n + 8 * VECTORS * n * k
