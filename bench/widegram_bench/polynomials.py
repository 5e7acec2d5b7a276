"""Make the coefficients of :mod:`widegram.activations.polynomials` again, and check them.

    python -m widegram_bench.polynomials            compare with the tables and their stated errors
    python -m widegram_bench.polynomials --write    print the tables, 20 digits each

Each function is interpolated at the Chebyshev nodes of [0, 1] in 50-digit arithmetic. Needs mpmath.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mpmath

from widegram.activations import polynomials

mpmath.mp.dps = 50
Number = Any  # mpmath.mpf; mpmath carries no types
Function = Callable[[Number], Number]
POINTS = 2000


def arc(x: Number) -> Number:
    """acos(x) / (pi sqrt(1 - x^2))."""
    if x == 1:
        return 1 / mpmath.pi
    return mpmath.acos(x) / (mpmath.pi * mpmath.sqrt(1 - x * x))


# The largest relative errors that the tables state.
STATED: dict[str, tuple[Function, dict[str, float]]] = {
    "ARC": (arc, {"float32": 7.8e-8, "float64": 2.1e-16}),
}


@dataclass(frozen=True)
class Fit:
    """One table made again: ``coefficients`` from the constant term up, ``error`` their largest
    relative error on [0, 1], ``moved`` how far the stored ones are from them (of the largest)."""

    name: str
    dtype: str
    coefficients: list[Number]
    error: float
    moved: float
    stated: float

    @property
    def good(self) -> bool:
        """The table holds these coefficients as doubles, and its stated error is true."""
        return self.moved <= 2.0**-53 and self.error <= self.stated


def interpolate(function: Function, degree: int) -> list[Number]:
    """Coefficients, from the constant term up, of the interpolant at degree + 1 Chebyshev nodes."""
    count = degree + 1
    nodes = [(1 + mpmath.cos((2 * n + 1) * mpmath.pi / (2 * count))) / 2 for n in range(count)]
    powers = mpmath.matrix([[node**n for n in range(count)] for node in nodes])
    values = mpmath.matrix([function(node) for node in nodes])
    return list(mpmath.lu_solve(powers, values))


def largest_error(function: Function, coefficients: list[Number]) -> float:
    """Largest relative error on a grid of [0, 1], ends included, in exact arithmetic."""
    grid = [mpmath.mpf(n) / POINTS for n in range(POINTS + 1)]
    down = coefficients[::-1]
    return float(max(abs(mpmath.polyval(down, u) / function(u) - 1) for u in grid))


def fits() -> list[Fit]:
    """Every table made again."""
    found = []
    for name, (function, stated) in STATED.items():
        for dtype, stored in getattr(polynomials, name).items():
            made = interpolate(function, len(stored) - 1)
            scale = max(abs(c) for c in made)
            moved = max(abs(a - b) for a, b in zip(made, stored, strict=True)) / scale
            error = largest_error(function, made)
            found.append(Fit(name, dtype, made, error, float(moved), stated[dtype]))
    return found


def main(arguments: list[str]) -> int:
    """Print the comparison (or the tables); 1 where a table is not what it says."""
    found = fits()
    for fit in found:
        print(
            f"{fit.name} {fit.dtype}: degree {len(fit.coefficients) - 1}, relative error "
            f"{fit.error:.2e} (stated {fit.stated:.1e}), table off by {fit.moved:.1e}: "
            f"{'good' if fit.good else 'NOT AS STATED'}"
        )
        if "--write" in arguments:
            print("".join(f"        {mpmath.nstr(c, 20)},\n" for c in fit.coefficients))
    return 0 if all(fit.good for fit in found) else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
