"""Tiles of Gram matrices by the dense recursion: the backend that the others are compared with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from widegram.backends.augmented import Augmented
from widegram.backends.equal import Digests, digests
from widegram.backends.evaluator import Advance, Evaluator, Tile
from widegram.backends.job import Job
from widegram.data import Source
from widegram.data.patterns import PatternedSource
from widegram.data.several import open_inputs
from widegram.errors import WidegramError
from widegram.network import Network
from widegram.network.patterns import pattern_of
from widegram.network.shapes import follow, follow_list
from widegram.reference.pair import Array
from widegram.reference.runs import cross_kernels, images, self_kernels
from widegram.validation.choices import KERNELS

_BLOCK_BYTES = 128 * 1024**2


class DenseKernels(NamedTuple):
    """Two float64 matrices (n1, n2); without x2, (n1, n1) and exactly symmetric."""

    nngp: Array
    ntk: Array


class _Images(NamedTuple):
    """Some images with what their runs on themselves gave (see ``self_kernels``)."""

    x: Array
    nngp: Array
    ntk: Array
    variances: list[Array]
    patterns: Array | None
    digests: Digests


class ReferenceEvaluator(Evaluator):
    """Computes tiles of NNGP and NTK matrices in float64 and returns them in the job's dtype.

    Each depth of a sweep, and each head of Readouts, is computed on its own. ``least``: entries of
    images with a layer whose largest variance is between 0 and this, or is not finite, are NaN:
    this method does not scale, and would be wrong there.

    Raises WidegramError for inputs of another shape than the network's, and for depths that it
    cannot have.
    """

    def __init__(self, job: Job, least: float = 0.0) -> None:
        network = job.network
        if network.augment:
            raise WidegramError("augment: this computes the kernels of plain inputs")
        for name, x in (("x1", job.x1), ("x2", job.x2)):
            if x is not None and tuple(x.shape[1:]) != network.input_shape:
                raise WidegramError(
                    f"{name}: the network expects inputs of shape {network.input_shape}, "
                    f"found {tuple(x.shape[1:])}"
                )
        self._x1, self._x2, self.dtype, self._least = job.x1, job.x2, job.dtype, least
        self._kernels, self._pattern = job.kernels, pattern_of(network)
        self._networks = network.ending(job.depths)
        self.keys = job.keys

    def tile(
        self, rows: range, cols: range, symmetric: bool, progress: Advance | None = None
    ) -> Tile:
        """As of every evaluator. ``symmetric``: equal row and column numbers are the same input,
        which matters to Dropout, and the mirrored tile is exactly the transpose."""
        out: Tile = {}
        for end, network in self._networks.items():
            tile = self._tile(network, rows, cols, symmetric)._asdict()
            for kernel in self._kernels:
                out[end.path(kernel)] = tile[kernel].astype(self.dtype)
        if progress is not None:
            progress(len(rows) * len(cols))
        return out

    @np.errstate(all="ignore")
    def diagonal(self, rows: range, second: bool = False) -> dict[str, Array]:
        out, source = {}, self._x2 if second and self._x2 is not None else self._x1
        for end, network in self._networks.items():
            found = self._images(network, source, rows)
            outside = self._outside(found)
            for kernel, value in (("nngp", found.nngp), ("ntk", found.ntk)):
                if kernel in self._kernels:
                    out[end.path(kernel)] = np.where(outside, np.nan, value)
        return out

    @np.errstate(all="ignore")  # What leaves the range is no number, see ``least``.
    def _tile(self, network: Network, rows: range, cols: range, symmetric: bool) -> DenseKernels:
        first = self._images(network, self._x1, rows)
        source = self._x1 if symmetric or self._x2 is None else self._x2
        same = source is self._x1 and rows == cols
        second = first if same else self._images(network, source, cols)
        nngp, ntk = np.empty((len(rows), len(cols))), np.empty((len(rows), len(cols)))
        entries = [(i, j) for i in range(len(rows)) for j in range(len(cols))]
        if symmetric:
            for i, j in ((i, j) for i, j in entries if rows[i] == cols[j]):
                nngp[i, j], ntk[i, j] = first.nngp[i], first.ntk[i]
            mirrored = [(i, j) for i, j in entries if rows[i] > cols[j]]
            entries = [(i, j) for i, j in entries if rows[i] < cols[j]]
            self._fill(network, second, first, [(j, i) for i, j in mirrored], nngp.T, ntk.T)
        self._fill(network, first, second, entries, nngp, ntk)
        apart = any(path.endswith("Dropout") for path, _, _ in network.shapes())
        if not apart:
            self._same(first, second, nngp, ntk)
        for value in (nngp, ntk):
            value[self._outside(first)] = np.nan
            value[:, self._outside(second)] = np.nan
        return DenseKernels(nngp, ntk)

    @staticmethod
    def _same(first: _Images, second: _Images, nngp: Array, ntk: Array) -> None:
        """Two inputs that are equal are the same one. Where variances are 0, c has no value, and
        biases that are trained at variance 0 make T of nothing Kdot depends on it: on c = 1 of one
        with itself as its limit, on c = 0 of two."""
        i, j = np.nonzero((first.digests[:, None] == second.digests[None]).all(axis=2))
        for value, own in ((nngp, first.nngp), (ntk, first.ntk)):
            value[i, j] = own[i]

    def _outside(self, images: _Images) -> NDArray[np.bool_]:
        """Images (n,) whose variances leave what this method can hold."""
        if not self._least:
            return np.zeros(len(images.x), dtype=np.bool_)
        squares = np.mean(images.x * images.x, axis=-1)
        tops = [q.max(axis=(1, 2)) for q in (squares, *images.variances)]
        wrong = [~np.isfinite(top) | ((top > 0) & (top < self._least)) for top in tops]
        vanished = (tops[0] == 0) & np.any(images.x != 0, axis=(1, 2, 3))
        return np.asarray(np.any([vanished, *wrong], axis=0))

    def _images(self, network: Network, source: Source, numbers: range) -> _Images:
        x = images(source.read(numbers.start, numbers.stop))
        patterns, pattern = None, self._pattern
        if pattern is not None and isinstance(source, PatternedSource):
            patterns = source.dense(numbers.start, numbers.stop, pattern)
        parts = [
            self_kernels(network, x[block], None if patterns is None else patterns[block])
            for block in _blocks(len(x), network)
        ]
        nngp, ntk, variances = zip(*parts, strict=True)
        flat = [a.reshape(len(x), -1) for a in (x, patterns) if a is not None]
        whole = np.concatenate(flat, axis=1)
        return _Images(
            x,
            np.concatenate(nngp),
            np.concatenate(ntk),
            [np.concatenate(layer) for layer in zip(*variances, strict=True)],
            patterns,
            digests(whole, network.mask is not None),
        )

    @staticmethod
    def _fill(
        network: Network,
        first: _Images,
        second: _Images,
        entries: list[tuple[int, int]],
        nngp: Array,
        ntk: Array,
    ) -> None:
        index = np.array(entries, dtype=np.intp).reshape(-1, 2)
        for block in _blocks(len(index), network):
            i, j = index[block].T
            q1, q2 = [q[i] for q in first.variances], [q[j] for q in second.variances]
            patterns = None
            if first.patterns is not None and second.patterns is not None:
                patterns = first.patterns[i], second.patterns[j]
            found = cross_kernels(network, first.x[i], second.x[j], q1, q2, patterns)
            nngp[i, j], ntk[i, j] = found


def _blocks(n: int, network: Network) -> Iterator[slice]:
    """Cut n pairs so that about ten tensors over all pixel pairs stay within the block budget."""
    if network.inputs:
        pixels = follow_list(network.inputs, network.layers).pixels
    else:
        pixels = follow(network.input_shape, network.layers).pixels
    size = max(1, _BLOCK_BYTES // (80 * pixels**2))
    return (slice(lo, min(n, lo + size)) for lo in range(0, n, size))


def kernel(network: Network, x1: Any, x2: Any = None) -> DenseKernels:
    """Return the exact NNGP and NTK matrices of a network, densely, in float64.

    * ``x1``: inputs (n1, D), (n1, L, C) or (n1, H, W, C), or a list of such
    * ``x2``: the same with n2 rows; None for x1 with itself

    The matrices, (n1, n2), are in the units of neural-tangents (NTK parameterization). Raises
    WidegramError for inputs of another shape than the network's.
    """
    first, second = open_inputs(x1), None if x2 is None else open_inputs(x2)
    job = Job(
        network=network,
        x1=first,
        x2=second,
        kernels=KERNELS,
    )
    plain = not network.augment
    evaluator = ReferenceEvaluator(job) if plain else Augmented(job, ReferenceEvaluator, both=True)
    columns = range(len(first if second is None else second))
    tile = evaluator.tile(range(len(first)), columns, symmetric=second is None)
    return DenseKernels(tile["nngp"], tile["ntk"])
