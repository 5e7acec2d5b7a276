"""What an activation is: its dual written once over a facade of operations.

With (u, v) ~ N(0, [[q, k], [k, q']]) the dual activations of phi are

    K    = E[phi(u) phi(v)]        Kdot = E[phi'(u) phi'(v)]

A subclass writes them in :meth:`Formula.dual` with the operations of an ``ops`` facade
(:mod:`widegram.activations.numpy_ops` for arrays; the backends bring their own), as functions of
k and of per-image *factors*, numbers that depend on one image's variance q alone and are therefore
computed once per image and pixel. ``constants`` are the numbers that depend on parameters alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from widegram.activations import numpy_ops
from widegram.machine.dtypes import FLOOR

Array = NDArray[np.float64]


def std(q: Array, floor: float) -> Array:
    """sqrt(q), at least ``floor``."""
    return np.maximum(np.sqrt(np.maximum(q, 0.0)), floor)


FORMULAS: dict[str, type[Formula]] = {}
"""Every class of formulas by its code, for the backends that compile ``dual``."""


class Formula(ABC):
    """One dual activation with its parameters bound.

    * ``code``: the name of the class for compiled backends; a class that has one of its own stands
      in :data:`FORMULAS`. Instances of one class differ only in their ``constants``
    * ``n_factors``: the number of factors of an image; of a series it depends on the truncation
    * ``n_constants``: the length of ``constants``
    * ``prescale``: what k and T are multiplied by before :meth:`dual`, a power of two; behind a
      convolution it is part of the gain and costs nothing
    * ``homogeneity``: d where phi(a x) = a^d phi(x) for all a > 0, else None
    * ``commutes``: whether :meth:`dual` is the same bits with the two images exchanged
    * ``tail``: what a sum leaves out, relative to E[phi^2] and E[phi'^2]; 0 of a closed form
    """

    code: ClassVar[str]
    prescale: ClassVar[float] = 1.0
    n_factors: ClassVar[int] = 1
    n_constants: ClassVar[int] = 0
    homogeneity: ClassVar[int | None] = None
    tail: float = 0.0
    commutes: ClassVar[bool] = True

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "code" in vars(cls):
            FORMULAS[cls.code] = cls

    @property
    def sharpness(self) -> float:
        """b^2 of a smooth phi that changes on a scale 1/b, which makes values near c = 1 change
        with b^2 (q + q' - 2k); 0 where they do not."""
        return 0.0

    @property
    def kinked(self) -> bool:
        """Whether phi' jumps, so that Kdot near c = 1 follows the angle."""
        return self.homogeneity == 1

    def spoilt(self, eps: float, q: float) -> float:
        """How far rounding by ``eps`` moves values near c = 1 at variances up to ``q``, relative to
        their size."""
        return eps * self.sharpness * q

    def near_one(self, error: float) -> tuple[float, float]:
        """What a relative ``error`` of k near c = 1 makes: the relative error that K carries on,
        and the larger one of K and Kdot; beside what :meth:`spoilt` says."""
        return error, error

    @property
    def constants(self) -> tuple[float, ...]:
        """Numbers that depend on the activation's parameters alone; most have none."""
        return ()

    @abstractmethod
    def factors(self, q: Array, floor: float = FLOOR["float64"]) -> Array:
        """Per-image factors, shape (n_factors, \\*q.shape), of variances ``q``."""

    @staticmethod
    @abstractmethod
    def dual(ops: Any, k: Any, fx: Any, fy: Any, const: Any) -> tuple[Any, Any]:
        """(K, Kdot) from k, the factors of both images and the constants, by facade operations.

        A Kdot of None means identically zero.
        """

    @abstractmethod
    def variance(self, q: Array) -> tuple[Array, Array]:
        """(E[phi(u)^2], E[phi'(u)^2]) with u ~ N(0, q): the exact diagonal, same shape as q."""

    def rounded(self, dtype: str) -> Formula:
        """The formula with those constants rounded to ``dtype`` that variances must share."""
        return self

    def or_zero(self) -> Formula:
        """The formula for data in which a variance may be 0 exactly: K is then 0 exactly."""
        return self

    def nonnegative(self, k_nonnegative: bool) -> bool:
        """Whether K >= 0 is known, given whether k >= 0 is."""
        return False

    def moments(self, q: Array, k: Array, q2: Array) -> tuple[Array, Array]:
        """(K, Kdot), float64, of broadcastable variances q, q2 and covariances k."""
        q, k, q2 = (np.asarray(a, dtype=np.float64) for a in (q, k, q2))
        value, slope = self.dual(
            numpy_ops, self.prescale * k, self.factors(q), self.factors(q2), self.constants
        )
        shape = np.broadcast_shapes(q.shape, k.shape, q2.shape)
        slope = np.zeros(()) if slope is None else self.prescale * slope
        return np.broadcast_to(value, shape) + 0.0, np.broadcast_to(slope, shape) + 0.0
