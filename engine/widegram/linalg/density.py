"""Spectral density by stochastic Lanczos quadrature, with error bars.

Ubaru, Chen, Saad, "Fast estimation of tr(f(A)) via stochastic Lanczos quadrature", SIAM J. Matrix
Anal. Appl. 38, 2017. Probes advance together, so that the matrix is streamed once per step.
No reorthogonalisation: the quadrature does not need it (its weights sum over ghost copies).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from widegram.linalg.operator import GramOperator, Progress

Array = NDArray[Any]


@dataclass(frozen=True)
class Quadrature:
    """``nodes`` and ``weights`` (probes, steps): each probe's quadrature; weights sum to 1."""

    nodes: Array
    weights: Array

    def shares(self, edges: Array) -> Array:
        """Share of the spectrum in each bin of ``edges``: (probes, bins)."""
        pairs = zip(self.nodes, self.weights, strict=True)
        return np.stack([np.histogram(nodes, edges, weights=w)[0] for nodes, w in pairs])

    def quantiles(self, q: float) -> Array:
        """Each probe's q-quantile: (probes,)."""
        pairs = zip(self.nodes, self.weights, strict=True)
        return np.array([_quantile(nodes, w, q) for nodes, w in pairs])

    def gap(self, value: float) -> float:
        """Mean distance over the probes between the nodes on either side of ``value``."""
        gaps = []
        for nodes in self.nodes:
            place = int(np.clip(np.searchsorted(nodes, value), 1, nodes.size - 1))
            gaps.append(nodes[place] - nodes[place - 1])
        return float(np.mean(gaps))

    def pooled_quantile(self, q: float) -> float:
        """The q-quantile of all probes together."""
        return _quantile(self.nodes.ravel(), self.weights.ravel(), q)


@dataclass(frozen=True)
class Density:
    """The spectrum of an n x n matrix after all Lanczos steps, and after half of them.

    Error bars add in squares the standard error over the probes and the change from half of the
    steps to all of them: the first knows nothing of eigenvalues too crowded to be told apart. A
    quantile's adds the distance of the nodes around it. The standard error of a count m is at
    least sqrt(2 m / probes): few probes may agree by chance, and 2 m bounds the variance of
    z^T P z for random signs z and a projector P of rank m (Hutchinson).
    """

    whole: Quadrature
    half: Quadrature
    n: int

    def counts(self, edges: Array) -> tuple[Array, Array]:
        """(number of eigenvalues in each bin of ``edges``, its error)."""
        shares = self.n * self.whole.shares(edges)
        mean = shares.mean(axis=0)
        change = mean - self.n * self.half.shares(edges).mean(axis=0)
        expected = np.sqrt(2.0 * np.maximum(mean, 0.0) / shares.shape[0])
        return mean, np.hypot(np.maximum(_standard_error(shares), expected), change)

    def quantile(self, q: float) -> tuple[float, float]:
        """(estimate, error) of the q-quantile of the eigenvalues."""
        pooled = self.whole.pooled_quantile(q)
        change = pooled - self.half.pooled_quantile(q)
        between = self.whole.gap(pooled) / np.sqrt(12.0)  # where between two nodes is not known
        scatter = _standard_error(self.whole.quantiles(q))
        return pooled, float(np.sqrt(scatter**2 + change**2 + between**2))

    def edges(self, low: float, high: float, bins: int = 60) -> Array:
        """Logarithmic bin edges from ``low`` or the lowest node to ``high``; a first bin below."""
        low = max(low, 0.5 * float(self.whole.nodes.min()))
        inner = np.geomspace(low, high, bins)
        inner[-1] *= 1 + 1e-9
        return np.concatenate([[min(-inner[-1], float(self.whole.nodes.min()) - 1.0)], inner])


def lanczos_density(
    operator: GramOperator,
    *,
    probes: int = 16,
    steps: int = 80,
    seed: int = 0,
    progress: Progress | None = None,
) -> Density:
    """Stochastic Lanczos quadrature with ``probes`` random vectors and ``steps`` passes."""
    n = operator.shape[0]
    steps = min(steps, n)
    rng = np.random.default_rng(seed)
    current = rng.choice([-1.0, 1.0], size=(n, probes)) / np.sqrt(n)
    previous = np.zeros_like(current)
    alpha, beta = np.zeros((steps, probes)), np.zeros((steps, probes))
    for step in range(steps):
        following = operator.matmat(current)
        if step:
            following -= beta[step - 1] * previous
        alpha[step] = np.einsum("ij,ij->j", following, current)
        following -= alpha[step] * current
        beta[step] = np.linalg.norm(following, axis=0)
        safe = np.where(beta[step] > 0, beta[step], 1.0)
        previous, current = current, following / safe
        if progress:
            progress("spectral density", step + 1, steps)
    half = max(1, steps // 2)
    return Density(_quadrature(alpha, beta), _quadrature(alpha[:half], beta[:half]), n)


def _quadrature(alpha: Array, beta: Array) -> Quadrature:
    """Gauss rule of each column's tridiagonal matrix (Golub and Welsch)."""
    steps, probes = alpha.shape
    nodes, weights = np.empty((probes, steps)), np.empty((probes, steps))
    for probe in range(probes):
        values, vectors = linalg.eigh_tridiagonal(alpha[:, probe], beta[: steps - 1, probe])
        nodes[probe], weights[probe] = values, vectors[0] ** 2
    return Quadrature(nodes, weights)


def _standard_error(samples: Array) -> Array:
    probes = samples.shape[0]
    if probes < 2:
        return np.full(samples.shape[1:], np.inf)
    return np.asarray(samples.std(axis=0, ddof=1) / np.sqrt(probes))


def _quantile(nodes: Array, weights: Array, q: float) -> float:
    order = np.argsort(nodes)
    mass = np.cumsum(weights[order])
    centre = mass - 0.5 * weights[order]
    return float(np.interp(q * mass[-1], centre, nodes[order]))
