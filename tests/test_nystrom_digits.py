"""`solve --method nystrom` at the end of float64's digits, beside sixty of them."""

from __future__ import annotations

from pathlib import Path

import mpmath
import numpy as np

from test_nystrom import ONE_HOT, N, gap, problem


def test_where_both_conditions_are_1e10_a_last_bit_of_the_entries_decides(tmp_path: Path) -> None:
    """Beside 60 digits: entries that change by 2^-52 at most move predictions about as far as the
    solution is off."""
    p = problem(tmp_path, 1e10, 1e10)
    shift, draw = N / 1e10, np.random.default_rng(0)
    found = p.by_labels(shift)
    exact = by_digits(p.cross, p.centers, shift)
    changed = p.cross * (1 + draw.uniform(-(2.0**-52), 2.0**-52, p.cross.shape))
    moved = gap(by_digits(changed, p.centers, shift), exact)
    error = gap(p.cross @ p.stored()[:, :1], exact)
    # eps times the roots of both conditions, 2e-16 * 1e10, times what is not fitted.
    assert 1e-9 < moved < 2e-8
    assert error < 2e-8
    # Estimates are within a factor of two, and the status follows them.
    assert error / 2 < found["details"]["error"] < 2 * 1e-8
    assert found["status"] == ("ok" if found["details"]["error"] < 1e-8 else "stagnated")


def by_digits(cross: np.ndarray, centers: np.ndarray, shift: float) -> np.ndarray:
    """Predictions of the rows for the first target, from normal equations with 60 digits."""
    with mpmath.workdps(60):
        rows, target = mpmath.matrix(cross.tolist()), mpmath.matrix(ONE_HOT[:, :1].tolist())
        equations = rows.T * rows + mpmath.mpf(shift) * mpmath.matrix(centers.tolist())
        predicted = rows * mpmath.lu_solve(equations, rows.T * target)
        return np.array([[float(value)] for value in predicted])
