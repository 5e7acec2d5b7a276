"""Fixed points, slopes, depth scales and phases, elementwise over arrays of (w, b).

With w = W_std^2 and b = b_std^2 (see :mod:`~widegram.meanfield.theory.one_layer`):

    q*        smallest stable fixed point of q -> w V(q) + b, the limit of small inputs
    chi_1     w E[phi'(u)^2] at q*: slope of the correlation map at c = 1
    c*        stable fixed point of the correlation map: 1 where chi_1 <= 1
    chi_c     slope at c*
    p*, p*_ab, xi_1, xi_c, xi_*   see :mod:`~widegram.meanfield.theory.depth_scales`

c* is found from delta = q - k: the nontrivial fixed point is where w times the mean of Kdot over
[q - delta, q] is 1. That equation has no root at delta = 0, so 1 - c* keeps its relative precision
however near the critical line the point lies.

Source: arXiv:1912.13053, sections 2 to 4. All roots: SciPy's bracketing Chandrupatla solver.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize.elementwise import find_root

from widegram.errors import WidegramError
from widegram.meanfield.theory.depth_scales import depth_scale, limit
from widegram.meanfield.theory.one_layer import Array, LayerMaps
from widegram.meanfield.theory.tabulated import tabulated
from widegram.validation import bounds

ORDERED, CRITICAL, CHAOTIC = "ordered", "critical", "chaotic"
# |chi_1 - 1| below which a point counts as critical: w_var given to 12 digits lands within 1e-11.
CRITICAL_WIDTH = 1e-10
# From this many points on a series is tabulated.
_MANY = 400
_SCAN = np.logspace(-12, 8, 241)
# Bounded activations have a q* beyond it where w or b is: decades.
_FAR = np.logspace(8, 152, 145)


@dataclass(frozen=True)
class FixedPoints:
    """All quantities on one shape; NaN where a quantity does not exist.

    * ``error``: the solver's bracket around q*, relative to q*
    * ``iterations``: the larger of the two solvers' counts
    * ``converged``: False where no bracket existed or a solver gave up
    """

    q_star: Array
    c_star: Array
    chi_1: Array
    chi_c: Array
    p_star: Array
    p_star_ab: Array
    xi_1: Array
    xi_c: Array
    xi_star: Array
    gap: Array
    error: Array
    iterations: Array
    converged: NDArray[Any]

    def phase(self) -> np.ndarray:
        """'ordered', 'critical' or 'chaotic', elementwise ('' where chi_1 is not known)."""
        off = self.chi_1 - 1
        kinds = np.where(off < 0, ORDERED, CHAOTIC)
        kinds = np.where(np.abs(off) <= CRITICAL_WIDTH, CRITICAL, kinds)
        return np.where(np.isnan(off), "", kinds)

    def item(self, index: tuple[int, ...] = ()) -> dict[str, float]:
        """One point as plain numbers."""
        return {f.name: getattr(self, f.name)[index].item() for f in fields(self)}


def fixed_points(maps: LayerMaps, w_var: ArrayLike, b_var: ArrayLike) -> FixedPoints:
    """Every quantity at broadcast arrays of weight and bias variances.

    Raises WidegramError for a negative or non-finite variance, or an activation without a slope.
    """
    w, b = np.broadcast_arrays(np.asarray(w_var, np.float64), np.asarray(b_var, np.float64))
    check_variances(w, b)
    maps.require_slope()
    shape, w, b = w.shape, w.ravel(), b.ravel()
    a = maps.homogeneity()
    solved = _homogeneous(a, w, b) if a is not None else _isolated(maps, w, b)
    return FixedPoints(**{name: np.reshape(value, shape) for name, value in solved.items()})


def check_variances(w: Array, b: Array) -> None:
    """Refuse negative and non-finite variances."""
    for label, value in (("w_var", w), ("b_var", b)):
        if value.size == 0:
            raise WidegramError(
                f"{label} is an empty range; give START:STOP:STEP with START <= STOP"
            )
        if not np.isfinite(value).all() or value.min() < 0:
            bad = value[~(np.isfinite(value) & (value >= 0))].ravel()[0]
            raise WidegramError(f"{label} = {bad:g}: a variance must be finite and not negative")
        if np.sqrt(value.max()) > bounds.MAGNITUDE:
            most = bounds.MAGNITUDE**2
            raise WidegramError(f"{label} = {value.max():g}: a variance is at most {most:g}")


def _isolated(maps: LayerMaps, w: Array, b: Array) -> dict[str, NDArray[Any]]:
    lo, hi = _bracket_q(maps, w, b)
    if w.size >= _MANY and np.isfinite(lo).any():
        maps = tabulated(maps, float(np.nanmin(lo)), float(np.nanmax(hi)))
    q, error, count, good = _solve_q(maps, w, b, lo, hi)
    chi_1 = np.full(q.size, np.nan)
    known = np.isfinite(q)
    chi_1[known] = w[known] * maps.slope(q[known])
    delta = np.where(known, 0.0, np.nan)
    chaotic = known & (chi_1 - 1 > CRITICAL_WIDTH)
    if chaotic.any():
        delta[chaotic], more, fine = _solve_delta(maps, w[chaotic], q[chaotic])
        count[chaotic] = np.maximum(count[chaotic], more)
        good[chaotic] &= fine
    chi_c = chi_1.copy()
    if chaotic.any():
        chi_c[chaotic] = w[chaotic] * maps.slope_at(q[chaotic], delta[chaotic])
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = np.where(q > 0, delta / q, np.nan)
    return _derived(q, chi_1, chi_c, gap) | {
        "error": error,
        "iterations": count,
        "converged": good,
    }


def _derived(q: Array, chi_1: Array, chi_c: Array, gap: Array) -> dict[str, NDArray[Any]]:
    """Everything that follows from q*, 1 - c* and the two slopes."""
    ordered, chaotic = chi_1 < 1 - CRITICAL_WIDTH, chi_1 > 1 + CRITICAL_WIDTH
    c = 1 - gap
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.where(ordered, limit(q, chi_1), np.nan)
        p_ab = np.where(chaotic & (chi_c < 1), limit(q * c, chi_c), p)
        # chi = 0 (w = 0) means the limit is reached in one layer: a depth scale of 0.
        xi_1 = np.where(ordered, depth_scale(chi_1, np.log), np.nan)
        decays = (ordered | chaotic) & (chi_c < 1)
        xi_c = np.where(decays, depth_scale(chi_c, np.log), np.nan)
        falls = chaotic & (chi_c < chi_1)
        xi_star = np.where(falls, depth_scale(chi_c / chi_1, np.log), np.nan)
    return {
        "q_star": q,
        "c_star": c,
        "gap": gap,
        "chi_1": chi_1,
        "chi_c": chi_c,
        "p_star": p,
        "p_star_ab": p_ab,
        "xi_1": np.abs(xi_1),
        "xi_c": np.abs(xi_c),
        "xi_star": np.abs(xi_star),
    }


def _solve_q(
    maps: LayerMaps, w: Array, b: Array, lo: Array, hi: Array
) -> tuple[Array, Array, Array, NDArray[Any]]:
    """(q*, relative error, iterations, converged): q* is NaN where q grows without bound."""
    q = np.full(w.size, np.nan)
    error, count = np.zeros(w.size), np.zeros(w.size)
    good: NDArray[Any] = np.zeros(w.size, bool)
    # q = 0 stays fixed where nothing is added to it and small variances shrink.
    zero = np.isnan(lo) & (b == 0) & (w * maps.power(_SCAN[:1])[0] <= _SCAN[0])
    constant = (w == 0) & (b > 0)
    q[zero], q[constant] = 0.0, b[constant]
    good[zero | constant] = True
    sought = ~(zero | constant) & np.isfinite(lo)
    if sought.any():
        root = find_root(
            lambda x, w, b: w * maps.power(x) + b - x,
            (lo[sought], hi[sought]),
            args=(w[sought], b[sought]),
        )
        q[sought], good[sought], count[sought] = root.x, root.success, root.nfev
        low, high = root.bracket
        error[sought] = np.minimum(np.abs(high - low), np.abs(root.f_x)) / root.x
    return q, error, count, good


def _bracket_q(maps: LayerMaps, w: Array, b: Array) -> tuple[Array, Array]:
    """The first interval, from q = 0 up, where w V(q) + b - q turns from positive to negative."""
    lo, hi = np.full(w.size, np.nan), np.full(w.size, np.nan)
    positive = w * maps.power(np.zeros(1))[0] + b > 0
    last = np.zeros(w.size)

    def search(nodes: Array) -> None:
        for x, v in zip(nodes, maps.power(nodes), strict=True):
            value = w * v + b - x
            turned = positive & (value <= 0) & np.isnan(lo)
            lo[turned], hi[turned] = last[turned], x
            positive[:] = value > 0
            last[positive] = x
            if not np.isnan(lo).any():
                break

    search(_SCAN)
    if (np.isnan(lo) & positive).any() and not _grows(maps):
        search(_FAR)
    return lo, hi


def _grows(maps: LayerMaps) -> bool:
    """Whether V(q) grows in proportion to q at large q; it is bounded otherwise."""
    some, more = maps.power(np.array([1e8, 1e10]))
    return bool(more > 10 * some)


def _solve_delta(maps: LayerMaps, w: Array, q: Array) -> tuple[Array, Array, NDArray[Any]]:
    """delta in (0, 2 q] where w times the mean slope over [q - delta, q] is 1 (chi_1 > 1)."""

    def excess(x: Array, w: Array, q: Array) -> Array:
        return np.asarray(w * maps.mean_slope(q, x * q) - 1)

    low, high = np.zeros(q.size), np.ones(q.size)
    # c' = (w K + b) / q is not negative at c = 0 for any phi, so 1 brackets the root; it is the
    # root itself where phi is odd and b = 0, up to rounding.
    at_end = excess(high, w, q)
    rounding = 1e-13
    high = np.where(at_end > rounding, 2.0, high)
    is_root = np.abs(at_end) <= rounding
    at_end = np.where(at_end > rounding, excess(high, w, q), at_end)
    solvable = ~is_root & (at_end < 0)
    gap, count = np.where(is_root, 1.0, np.nan), np.zeros(q.size)
    good = is_root.copy()
    if solvable.any():
        root = find_root(excess, (low[solvable], high[solvable]), args=(w[solvable], q[solvable]))
        gap[solvable], good[solvable], count[solvable] = root.x, root.success, root.nfev
    return gap * q, count, good


def _homogeneous(a: float, w: Array, b: Array) -> dict[str, NDArray[Any]]:
    """phi(s x) = s phi(x) for s > 0: V(q) = a q, so that q_l = (w a) q_(l-1) + b exactly."""
    chi = w * a
    ordered = chi < 1 - CRITICAL_WIDTH
    with np.errstate(divide="ignore", invalid="ignore"):
        q = np.where(ordered, b / (1 - chi), np.nan)
    # Where the scale of q is lost, the map of c = k / q has slope 1 at c = 1: c* = 1, a power law.
    solved = _derived(q, chi, chi.copy(), np.zeros(q.size))
    for name in ("p_star_ab", "xi_c", "xi_star"):
        solved[name] = np.where(ordered, solved[name], np.nan)
    return solved | {
        "error": np.zeros(q.size),
        "iterations": np.zeros(q.size),
        "converged": np.ones(q.size, bool),
    }


def critical_w_var(maps: LayerMaps, b_var: float) -> float | None:
    """The smallest w with chi_1 = 1 at this b; None where there is none."""
    w = float(critical_line(maps, np.array([b_var]))[0])
    return None if np.isnan(w) else w


def critical_line(maps: LayerMaps, b_var: ArrayLike) -> Array:
    """The smallest w with chi_1 = 1 at each b (n,): on that line w = 1 / E[phi'^2] and
    q - V(q) / E[phi'^2] = b. NaN where no q satisfies it.
    """
    b = np.asarray(b_var, np.float64)
    check_variances(np.zeros(1), b)
    maps.require_slope()
    a = maps.homogeneity()
    if a is not None:
        return np.full(b.size, 1 / a)

    def excess(q: Array, b: Array) -> Array:
        return np.asarray(q - maps.power(q) / maps.slope(q) - b)

    value = excess(_SCAN[:, None], b)
    turns, which = np.nonzero((value[:-1] <= 0) & (value[1:] > 0))
    line = np.full(b.size, np.inf)
    if turns.size:
        root = find_root(excess, (_SCAN[turns], _SCAN[turns + 1]), args=(b[which],))
        np.minimum.at(line, which, 1 / maps.slope(root.x))
    if maps.power(np.zeros(1))[0] == 0:
        # Without bias q = 0 is the fixed point.
        line[b == 0] = 1 / maps.slope(np.zeros(1))[0]
    return np.where(np.isinf(line), np.nan, line)
