"""What every solver returns: the solution, how it went, and what to try when it did not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]

OK = "ok"
MAX_ITERATIONS = "max_iterations"
STAGNATED = "stagnated"

ACCEPTED = 1e-8  # residual of a factorisation that counts as solved

MESSAGES = {
    OK: "solved: the true residual is under the tolerance",
    MAX_ITERATIONS: (
        "stopped at the iteration limit: the same command with --overwrite goes on from here; "
        "raise --max-iter, --rank for a stronger preconditioner, or take --method cholesky-ooc"
    ),
    STAGNATED: (
        "not solved: the residual no longer falls, the matrix is too ill-conditioned; take a "
        "larger --diag-reg"
    ),
}


def status_of(residual: float, tol: float = ACCEPTED) -> str:
    """The status of a factorisation's solution from its true residual."""
    return OK if residual <= max(tol, ACCEPTED) else STAGNATED  # also for NaN


@dataclass(frozen=True, kw_only=True)
class Solution:
    """What a solver found.

    * ``x``: of shape (n, k)
    * ``method``: the solver's name
    * ``status``: 'ok', 'max_iterations' or 'stagnated'
    * ``iterations`` and ``history``, the estimate of the residual after each
    * ``residual``: the largest |b - A x| / |b| of a column, computed again at the end
    * ``seconds``: that it took
    * ``hint``: what else may be tried where it has stagnated
    * ``details``: what the solver adds (log determinant, rank of the preconditioner ...)
    """

    x: Array
    method: str
    status: str
    iterations: int
    residual: float
    seconds: float
    history: tuple[float, ...] = ()
    hint: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def message(self) -> str:
        """What the status means and what to do next."""
        return MESSAGES[self.status] + (self.hint if self.status == STAGNATED else "")
