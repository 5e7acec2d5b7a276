"""What every solver returns: the solution, how it went, and what to try when it did not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]

OK = "ok"
MAX_ITERATIONS = "max_iterations"
STAGNATED = "stagnated"

MESSAGES = {
    OK: "solved: the true residual is under the tolerance",
    MAX_ITERATIONS: (
        "stopped at the iteration limit: the same command with --overwrite goes on from here; "
        "raise --max-iter, --rank for a stronger preconditioner, or take --method cholesky-ooc"
    ),
    STAGNATED: (
        "the residual no longer falls: the matrix is too ill-conditioned for this tolerance; try a "
        "larger --diag-reg, a higher --rank, --tol at the residual reached, or --method cholesky "
        "or cholesky-ooc"
    ),
}


@dataclass(frozen=True)
class Solution:
    """x of shape (n, k); residual = max over columns of |b - A x| / |b|, recomputed at the end.

    ``history`` holds the residual estimate of each iteration; ``details`` what a method adds
    (log determinant, rank of the preconditioner, resumed blocks ...).
    """

    x: Array
    method: str
    status: str
    iterations: int
    residual: float
    seconds: float
    history: tuple[float, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def message(self) -> str:
        """What the status means and what to do next."""
        return MESSAGES[self.status]
