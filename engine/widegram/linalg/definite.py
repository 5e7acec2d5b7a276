"""What to say, and which regulariser to advise, when a matrix is not positive definite."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.errors import WidegramError, shown
from widegram.linalg.operator import GramOperator

Array = NDArray[Any]
Attempt = Callable[[float], bool]
_STEPS = 40
_TRIALS = 12
_LEAST_MEMORY = 10**6
_FOR_ZERO = 1e-3  # of a zero matrix any positive number is one


class FailedPivot(WidegramError):
    """A factorisation ended at a pivot (in the matrix's own units) that is not positive."""

    def __init__(self, row: int, pivot: float, message: str = "") -> None:
        super().__init__(message or f"not positive definite: pivot {pivot:.3g} at row {row}")
        self.row = row
        self.pivot = pivot


@dataclass(frozen=True)
class Advice:
    """A regulariser that mends the matrix, relative to trace / n unless ``absolute``."""

    diag_reg: float
    absolute: bool

    @property
    def in_python(self) -> str:
        """As arguments of the library's functions and estimators."""
        scale = ", diag_reg_absolute_scale=True" if self.absolute else ""
        return f"diag_reg={self.diag_reg:g}{scale}"

    @property
    def in_shell(self) -> str:
        """As options of the program."""
        return f"--diag-reg {self.diag_reg:g}{' --absolute' if self.absolute else ''}"


class NotPositiveDefinite(FailedPivot):
    """A matrix that cannot be factored, and what mends it.

    * ``advice``: a regulariser that was tried; None where none of those tried does
    * ``in_shell``: the message, which speaks Python, with the program's options instead
    """

    def __init__(self, problem: str, failed: FailedPivot, advice: Advice | None) -> None:
        nothing = "no regulariser that was tried mends it: check the matrix (`widegram verify`)"
        python = nothing if advice is None else f"take {advice.in_python}"
        shell = nothing if advice is None else f"take {advice.in_shell}"
        super().__init__(failed.row, failed.pivot, f"{problem}; {python}")
        self.in_shell = f"{problem}; {shell}"
        self.advice = advice
        self._problem = problem

    def made_absolute(self, mean_diagonal: float) -> NotPositiveDefinite:
        """This error with its advice in the matrix's own units."""
        if self.advice is None or self.advice.absolute:
            return self
        advice = Advice(round_up(self.advice.diag_reg * mean_diagonal), absolute=True)
        return NotPositiveDefinite(self._problem, self, advice)


class ZeroMatrix(NotPositiveDefinite):
    """The matrix is zero: a regulariser that is relative to its trace adds nothing."""

    def __init__(self) -> None:
        super().__init__(
            "the matrix is zero (all inputs give the same 0), so that a regulariser relative to "
            "its trace adds nothing",
            FailedPivot(0, 0.0),
            Advice(_FOR_ZERO, absolute=True),
        )


def relative_shift(trace: float, n: int, diag_reg: float, absolute: bool) -> float:
    """What is added to the diagonal: ``diag_reg``, times trace / n unless ``absolute``.

    The meaning of neural-tangents' ``diag_reg`` and ``diag_reg_absolute_scale``. Raises
    WidegramError for a negative value, and where either is not finite.
    """
    try:
        diag_reg = float(diag_reg)
    except (TypeError, ValueError):
        raise WidegramError(f"diag_reg is {shown(diag_reg)}; a regulariser is a number") from None
    if not np.isfinite(diag_reg) or diag_reg < 0:
        raise WidegramError(f"diag_reg is {diag_reg:g}; a regulariser is zero or positive")
    shift = diag_reg if absolute else diag_reg * trace / n
    if not np.isfinite(shift):
        raise WidegramError(
            f"diag_reg {diag_reg:g}: times the trace it is beyond float64; give a smaller one"
        )
    return shift


def not_definite(
    operator: GramOperator, failed: FailedPivot, eps: float, attempt: Attempt
) -> NotPositiveDefinite:
    """The error for a failed pivot of ``operator`` (with its shift), with tried advice.

    ``eps`` is the rounding of the entries and of the factorisation. ``attempt(shift)`` says
    whether the matrix without the operator's shift, plus ``shift`` times the identity, can be
    factored: the first guess comes from the lowest eigenvalue as a few Lanczos steps see it, which
    is from above. Half of what is advised has been tried. Raises WidegramError where entries are
    not finite.
    """
    operator = replace(operator, memory=max(operator.memory, _LEAST_MEMORY))
    operator.require_finite()
    n = operator.shape[0]
    plain = operator.shifted(0.0).diagonal()
    mean = float(plain.mean())
    top = float(np.max(np.abs(plain))) + operator.shift
    units, unit = operator.in_units()
    low, high = (unit * value for value in extreme_ritz_values(units.matmat, n, _STEPS))
    if high == low == 0.0 == top:
        return ZeroMatrix()
    problem = (
        f"the matrix is not positive definite: smallest pivot {failed.pivot:.3g} at row "
        f"{failed.row} of {n} (lowest eigenvalue about {low:.2g}, largest {high:.2g})"
    )
    floor = 10.0 * math.sqrt(n) * eps * max(high, top)
    guess = operator.shift + floor - 2.0 * min(low, failed.pivot, 0.0)
    return NotPositiveDefinite(problem, failed, _tried(guess, mean, attempt))


def _tried(guess: float, mean: float, attempt: Attempt) -> Advice | None:
    """The first regulariser from ``guess`` on, in steps of about 4, half of which works."""
    unit = mean if mean > 0 else 1.0
    value = round_up(guess / unit)
    for _ in range(_TRIALS):
        if attempt(0.5 * value * unit):
            return Advice(value, absolute=mean <= 0)
        value = round_up(4.0 * value)
    return None


def extreme_ritz_values(
    product: Callable[[Array], Array], n: int, steps: int, seed: int = 0
) -> tuple[float, float]:
    """Lowest and highest Ritz value of ``steps`` Lanczos steps with full reorthogonalisation."""
    steps = min(steps, n)
    basis = np.zeros((n, steps))
    vector = np.random.default_rng(seed).standard_normal(n)
    basis[:, 0] = vector / np.linalg.norm(vector)
    alpha, beta = [], []
    for step in range(steps):
        w = product(basis[:, step : step + 1])[:, 0]
        alpha.append(float(w @ basis[:, step]))
        for _ in range(2):
            w = w - basis[:, : step + 1] @ (basis[:, : step + 1].T @ w)
        norm = float(np.linalg.norm(w))
        if step + 1 == steps or norm <= 1e-13 * max(abs(a) for a in alpha):
            break
        beta.append(norm)
        basis[:, step + 1] = w / norm
    small = np.diag(alpha) + np.diag(beta, 1) + np.diag(beta, -1)
    values = np.linalg.eigvalsh(small)
    return float(values[0]), float(values[-1])


def round_up(value: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    for step in (1.0, 2.0, 5.0, 10.0):
        if step * power >= value * (1 - 1e-12):
            return float(f"{step * power:.1g}")
    return 10.0 * power
