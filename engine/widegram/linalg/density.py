"""Numbers of eigenvalues by stochastic Lanczos quadrature, as ranges that hold.

Lanczos from a random vector z gives a Gauss rule for the measure with mass (z^T v)^2 at each
eigenvalue; with one more node at x, the Gauss-Radau rule, its sums without and with that node's
weight bound the measure up to x from below and above (Chebyshev, Markov and Stieltjes; Golub and
Meurant, "Matrices, Moments and Quadrature", 2010, chapter 6). The mean over n z of random signs
counts eigenvalues; the scatter of that mean is bounded too. Eigenvalues too crowded to be told
apart make ranges wide, never wrong.

Ubaru, Chen, Saad, "Fast estimation of tr(f(A)) via stochastic Lanczos quadrature", SIAM J. Matrix
Anal. Appl. 38, 2017. Probes advance together, so that the matrix is streamed once per step.
No reorthogonalisation: the quadrature does not need it (its weights sum over ghost copies).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.linalg.operator import GramOperator
from widegram.machine import interrupts
from widegram.machine.progress import Progress, ProgressCallback

Array = NDArray[Any]
_SIGMAS = 3.0
_FAR = 1e4  # a Radau rule's free node beyond this many norms would drown the others
_SAME = 1e-12  # of the norm: nodes nearer than that are one


@dataclass(frozen=True)
class Density:
    """The Lanczos matrices of ``probes`` random vectors of an n x n matrix.

    ``alpha`` (steps, probes) are their diagonals, ``beta`` (steps, probes) what couples each step
    to the next, the last one to the step that was not taken. The matrix is ``unit`` times that.
    """

    alpha: Array
    beta: Array
    n: int
    unit: float = 1.0

    def times(self, unit: float) -> Density:
        """The density of the matrix times ``unit``."""
        return replace(self, unit=self.unit * unit)

    def counts(self, edges: Array, rounding: float = 0.0) -> tuple[Array, Array, Array]:
        """(estimate, least, most): numbers of eigenvalues in each bin (low, high] of ``edges``.

        An eigenvalue may lie up to ``rounding`` beside where it is found. The range misses the
        truth with a chance well below 1 in 100.
        """
        edges, rounding = edges / self.unit, rounding / self.unit
        lowest = np.array([self._below(x - rounding)[0] for x in edges])
        highest = np.array([self._below(x + rounding)[1] for x in edges])
        low, high = self._with_scatter(lowest[1:] - highest[:-1], highest[1:] - lowest[:-1])
        return self.n * self._shares(edges), np.ceil(low - 1e-6), np.floor(high + 1e-6)

    def count_below(self, x: float) -> tuple[float, float]:
        """(least, most): the number of eigenvalues up to ``x``."""
        low, high = self._below(x / self.unit)
        least, most = self._with_scatter(np.array([low]), np.array([high]))
        return float(least[0]), float(most[0])

    def quantile(self, q: float) -> float:
        """An estimate of the q-quantile of the eigenvalues, from all probes together."""
        nodes, weights = self._gauss()
        order = np.argsort(nodes.ravel())
        mass = np.cumsum(weights.ravel()[order])
        centre = mass - 0.5 * weights.ravel()[order]
        return self.unit * float(np.interp(q * mass[-1], centre, nodes.ravel()[order]))

    def _shares(self, edges: Array) -> Array:
        nodes, weights = self._gauss()
        below = [float(np.sum(weights[nodes <= x])) for x in edges]
        return np.diff(below) / self.alpha.shape[1]

    def _with_scatter(self, low: Array, high: Array) -> tuple[Array, Array]:
        """Numbers of eigenvalues from bounds of the mean shares.

        For random signs z and a projector P of rank m, z^T P z has variance 2 (m - sum P_ii^2),
        at most 2 m (1 - m / n) (Hutchinson; Cauchy-Schwarz). The numbers m for which the mean is
        within three standard errors: a score interval (Wilson).
        """
        size = self.n * self.alpha.shape[1] / 2.0

        def ends(share: Array, sign: float) -> Array:
            share = np.clip(share, 0.0, 1.0)
            square = _SIGMAS**2 / size
            root = np.sqrt(share * (1.0 - share) * square + square**2 / 4.0)
            return np.clip((share + square / 2.0 + sign * root) / (1.0 + square), 0.0, 1.0)

        return self.n * ends(low, -1.0), self.n * ends(high, 1.0)

    def _below(self, x: float) -> tuple[float, float]:
        """Bounds of the probes' mean share of the spectrum up to ``x``, of the probes alone."""
        if np.isinf(x):
            return (0.0, 0.0) if x < 0 else (1.0, 1.0)
        nodes, weights, near = self._radau(x)
        lower = np.sum(np.where((nodes < x) & ~near, weights, 0.0), axis=1)
        upper = lower + np.sum(np.where(near, weights, 0.0), axis=1)
        return float(lower.mean()), float(min(upper.mean(), 1.0))

    def _radau(self, x: float) -> tuple[Array, Array, Array]:
        """Nodes and weights (probes, steps + 1) of the rules with a node at x, and which is it.

        Where x is a node of the Gauss rule already, that rule, and its node nearest to x.
        """
        scale = max(self._norm, float(abs(x)))
        steps, probes = self.alpha.shape
        pivot = np.full(probes, np.inf)
        for step in range(steps):
            coupled = self.beta[step - 1] ** 2 / pivot if step else 0.0
            pivot = self.alpha[step] - x - coupled
            pivot = np.where(np.abs(pivot) < 1e-30 * scale, 1e-30 * scale, pivot)
        free = x + self.beta[-1] ** 2 / pivot
        far = np.abs(free) > _FAR * scale
        last = np.where(far, x, free)
        link = np.where(far, 0.0, self.beta[-1])
        nodes, weights = _rules(
            np.vstack([self.alpha, last]), np.vstack([self.beta[:-1], link[None, :]])
        )
        # A detached last node has no weight; the nearest one of the others then stands for it.
        distance = np.where(far[:, None] & (weights == 0.0), np.inf, np.abs(nodes - x))
        nearest = distance == distance.min(axis=1, keepdims=True)
        return nodes, weights, nearest | (np.abs(nodes - x) <= _SAME * scale)

    @property
    def _norm(self) -> float:
        return max(float(np.max(np.abs(self.alpha))), float(np.max(self.beta)), _TINY)

    def _gauss(self) -> tuple[Array, Array]:
        return _rules(self.alpha, self.beta[:-1])


_TINY = float(np.finfo(np.float64).tiny)


def lanczos_density(
    operator: GramOperator,
    *,
    probes: int = 16,
    steps: int = 80,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> Density:
    """Stochastic Lanczos quadrature with ``probes`` random vectors, drawn with ``seed``, and
    ``steps`` passes over the matrix, at most n."""
    n = operator.shape[0]
    steps = min(steps, n)
    rng = np.random.default_rng(seed)
    current = rng.choice([-1.0, 1.0], size=(n, probes)) / np.sqrt(n)
    previous = np.zeros_like(current)
    alpha, beta = np.zeros((steps, probes)), np.zeros((steps, probes))
    for step in range(steps):
        interrupts.check()
        following = operator.matmat(current)
        if step:
            following -= beta[step - 1] * previous
        alpha[step] = np.einsum("ij,ij->j", following, current)
        following -= alpha[step] * current
        beta[step] = np.linalg.norm(following, axis=0)
        safe = np.where(beta[step] > 0, beta[step], 1.0)
        previous, current = current, following / safe
        if progress:
            progress(Progress(step + 1, steps, what="spectral density"))
    return Density(alpha, beta, n)


def _rules(diagonal: Array, below: Array) -> tuple[Array, Array]:
    """Nodes and weights (probes, size) of each column's tridiagonal matrix (Golub and Welsch)."""
    size, probes = diagonal.shape
    matrices = np.zeros((probes, size, size))
    index = np.arange(size)
    matrices[:, index, index] = diagonal.T
    matrices[:, index[1:], index[:-1]] = below.T  # eigh reads the lower triangle
    nodes, vectors = np.linalg.eigh(matrices)
    return nodes, vectors[:, 0, :] ** 2
