"""The kernels of a network in many digits, or with random roundings: who is right, and how far
rounding alone moves the result.

The recursion of ``widegram.reference`` written again over any arithmetic
(:mod:`campaigns.exact_layers`). Where every layer's values are multiplied by 1 + eps u, u random in
[-1, 1] (Monte Carlo arithmetic: Parker, Pierce and Eggert 2000), the spread of several runs is what
any program that keeps kernels in numbers of that precision must be expected to be off by: at kinks,
where pixels coincide, the root of eps.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from campaigns.duals import Arithmetic, Digits, Extended
from campaigns.exact_layers import Both, Noise, Run
from widegram.data import open_source
from widegram.data.flipped import turns
from widegram.data.masked import equals, is_masked, marked
from widegram.data.patterns import PatternedSource, with_pattern
from widegram.network import Network
from widegram.network.masking import constant
from widegram.network.patterns import pattern_of

DIGITS = 40  # a root of a root of a root of a rounding is below 1e-5 even so
RUNS = 5
EACH_FOR_ITSELF = 2  # further runs, in which equal values are not rounded alike
Kernels = dict[str, np.ndarray]
Patterns = tuple[np.ndarray, np.ndarray | None] | None


class Inputs(NamedTuple):
    """The inputs of a case, masked numbers marked (:mod:`widegram.data.masked`), and their weights
    (n, vertices, vertices), where they are graphs."""

    x1: np.ndarray
    x2: np.ndarray | None
    weights: tuple[np.ndarray, np.ndarray] | None = None

    @classmethod
    def of(
        cls, network: Network, x1: np.ndarray, x2: np.ndarray | None, patterns: Patterns = None
    ) -> Inputs:
        """``patterns``: as the network takes them, of both."""
        if network.mask is not None:
            # Of a list of inputs all have the same one.
            mask = constant(network.mask[0] if network.inputs else network.mask)
            x1, x2 = (x if x is None else marked(x, equals(x, mask)) for x in (x1, x2))
        if patterns is None:
            return cls(x1, x2)
        second = (x1, patterns[0]) if x2 is None else (x2, patterns[1])
        first = _weights(network, x1, patterns[0])
        return cls(x1, x2, (first, _weights(network, *second)))

    def moved(self, eps: float, rng: np.random.Generator) -> Inputs:
        """Each number rounded."""

        def near(x: np.ndarray) -> np.ndarray:
            return x.astype(np.longdouble) * (1 + eps * rng.uniform(-1, 1, x.shape))

        return self._replace(x1=near(self.x1), x2=None if self.x2 is None else near(self.x2))


def _weights(network: Network, x: np.ndarray, pattern: np.ndarray) -> np.ndarray:
    source, kind = with_pattern(open_source(x), pattern), pattern_of(network)
    assert isinstance(source, PatternedSource)
    assert kind is not None
    return source.dense(0, len(x), kind)


def digits(network: Network, x: Inputs) -> Kernels:
    """NNGP and NTK, computed in 40 digits (but for series) and rounded to float64."""
    return _kernels(Digits(DIGITS), network, x, None)


def extended(network: Network, x: Inputs) -> Kernels:
    """The same in extended precision, quicker: 19 digits where the machine has them."""
    return _kernels(Extended(), network, x, None)


def spread(network: Network, x: Inputs, eps: float, series: float = 0.0) -> Kernels:
    """How far, entry by entry, random roundings move the kernels: the largest of a few runs. (Not
    their range: at c = 1 all roundings move a kernel the same way.) ``eps``, ``series``: see
    :class:`Noise`."""
    noises = (
        Noise(np.random.default_rng(run), eps, series, run == 0, eps, run < RUNS)
        for run in range(RUNS + EACH_FOR_ITSELF)
    )
    return _largest(extended(network, x), (_kernels(Extended(), network, x, n) for n in noises))


def spread_of_maps(network: Network, x: Inputs, eps: float) -> Kernels:
    """The same where nothing but the numbers of maps between pixels is rounded, each product for
    itself: what such a map loses where its numbers cancel."""
    noises = (Noise(np.random.default_rng(run), 0.0, maps=eps) for run in range(RUNS))
    return _largest(extended(network, x), (_kernels(Extended(), network, x, n) for n in noises))


def spread_of_inputs(network: Network, x: Inputs, eps: float) -> Kernels:
    """The same where nothing but the inputs is rounded."""
    near = (x.moved(eps, np.random.default_rng(run)) for run in range(RUNS))
    return _largest(extended(network, x), (_kernels(Extended(), network, n, None) for n in near))


def _largest(exact: Kernels, runs: Iterable[Kernels]) -> Kernels:
    """The largest distance of any run from what is exact."""
    found = {key: np.zeros_like(value) for key, value in exact.items()}
    for run in runs:
        for key, value in found.items():
            np.maximum(value, abs(run[key] - exact[key]), out=value)
    return found


def _kernels(a: Arithmetic, network: Network, x: Inputs, noise: Noise | None) -> Kernels:
    """Of augmented inputs the means over their flips."""
    group = turns(network.augment)
    m, plain = len(group), replace(network, augment=())
    flipped = [v if v is None else np.stack([np.flip(v, axes) for axes in group], axis=1)
               .reshape(-1, *v.shape[1:]) for v in (x.x1, x.x2)]  # fmt: skip
    found = _plain(a, plain, x._replace(x1=flipped[0], x2=flipped[1]), noise)
    rows, cols = (n // m for n in found[0].shape)
    means = found.reshape(2, rows, m, cols, m).mean(axis=(2, 4))
    return {"nngp": means[0], "ntk": means[1]}


def _plain(a: Arithmetic, network: Network, x: Inputs, noise: Noise | None) -> np.ndarray:
    """K and T, (2, n1, n2), float64."""
    raw = x.x1 if x.x2 is None else np.concatenate([x.x1, x.x2])
    weights = None
    if x.weights is not None:
        weights = a.array(x.weights[0] if x.x2 is None else np.concatenate(x.weights))
    # Vectors and sequences as images, the axes that they lack of size 1.
    raw = raw.reshape(len(raw), *[1] * (4 - raw.ndim), *raw.shape[1:])
    images, masks = a.array(raw), None if network.mask is None else is_masked(raw)
    columns = range(0 if x.x2 is None else len(x.x1), len(images))
    axes = () if network.inputs else (0, 1)[3 - len(network.input_shape) :]

    def both(of: np.ndarray | None, i: np.ndarray, j: np.ndarray) -> Both | None:
        return None if of is None else (of[i], of[j])

    every = np.arange(len(images))
    a.at_zero = 1  # c of an input of variance 0 with itself: the limit
    own = Run(a, axes, noise, None, both(weights, every, every), both(masks, every, every))
    diagonal = own.kernels(network, images, images)
    a.at_zero = 0
    pairs = [(i, j) for i in range(len(x.x1)) for j in columns if i < j]
    found = np.zeros((2, len(images), len(images)))
    found[:, every, every] = diagonal
    if pairs:
        i, j = np.array(pairs).T
        known = iter([(q[i], q[j]) for q in own.variances])
        run = Run(a, axes, noise, known, both(weights, i, j), both(masks, i, j))
        found[:, i, j] = found[:, j, i] = run.kernels(network, images[i], images[j])
    if not any(path.endswith("Dropout") for path, _, _ in network.shapes()):
        same = _equal(raw, x, network.mask is not None)
        i, j = np.nonzero(same)
        found[:, i, j] = diagonal[:, i]
    return found[:, : len(x.x1), columns.start :]


def _equal(raw: np.ndarray, x: Inputs, is_marked: bool) -> np.ndarray:
    """Which inputs are the same, (n, n): their numbers, masks and weights."""
    flat = raw.reshape(len(raw), -1)
    parts = [flat, np.signbit(flat) & (flat == 0)] if is_marked else [flat]
    if x.weights is not None:
        weights = x.weights[0] if x.x2 is None else np.concatenate(x.weights)
        parts.append(weights.reshape(len(raw), -1))
    whole = np.concatenate(parts, axis=1)
    return np.asarray((whole[:, None] == whole[None]).all(axis=2))
