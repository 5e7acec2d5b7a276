"""Tiles of Gram matrices by the dense recursion: the backend that the others are compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from widegram.errors import WidegramError
from widegram.network import Network
from widegram.reference.dense import Array, cross_kernels, images, self_kernels

_BLOCK_BYTES = 128 * 1024**2


class Rows(Protocol):
    """Inputs that can be read by row: ``widegram.data.Source`` or anything like it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, D) or (n, H, W, C)."""

    def read(self, lo: int, hi: int) -> NDArray[Any]:
        """Return rows lo to hi - 1, floating point."""


class ArrayRows:
    """An array in memory as :class:`Rows`."""

    def __init__(self, x: NDArray[Any]) -> None:
        self.x = np.asarray(x)
        self.shape = self.x.shape

    def read(self, lo: int, hi: int) -> NDArray[Any]:
        """Return rows lo to hi - 1."""
        return self.x[lo:hi]


class Kernels(NamedTuple):
    """Two float64 matrices (n1, n2); without x2, (n1, n1) and exactly symmetric."""

    nngp: Array
    ntk: Array


class _Images(NamedTuple):
    """Some images with what their runs on themselves gave (see ``self_kernels``)."""

    x: Array
    nngp: Array
    ntk: Array
    variances: list[Array]


class ReferenceEvaluator:
    """Computes tiles of NNGP and NTK matrices in float64 and returns them in ``dtype``.

    Args:
        network: the network.
        x1: row inputs, (n1, \\*network.input_shape).
        x2: column inputs, None for x1 with itself.
        get: which of "nngp" and "ntk".
        depths: readout depths of a sweep; each is computed on its own as ``network.at_depth(l)``.
        dtype: dtype of the results.
        least: entries of images with a layer whose largest variance is between 0 and this, or is
            not finite, are NaN: this method does not scale, and would be wrong there.

    Raises:
        WidegramError: inputs of another shape than the network's, or depths that it cannot have.
    """

    def __init__(
        self,
        network: Network,
        x1: Rows,
        x2: Rows | None = None,
        get: Sequence[str] = ("nngp", "ntk"),
        depths: Sequence[int] | None = None,
        dtype: Any = np.float64,
        least: float = 0.0,
    ) -> None:
        for name, x in (("x1", x1), ("x2", x2)):
            if x is not None and tuple(x.shape[1:]) != network.input_shape:
                raise WidegramError(
                    f"{name}: the network expects inputs of shape {network.input_shape}, "
                    f"found {tuple(x.shape[1:])}"
                )
        self._x1, self._x2, self._dtype = x1, x2, np.dtype(dtype)
        self._least = least
        self._get = tuple(get)
        if depths is None:
            self._networks = {"": network}
        else:
            self._networks = {f"depth/{depth}/": network.at_depth(depth) for depth in depths}
        self.keys = tuple(prefix + kernel for prefix in self._networks for kernel in self._get)

    def tile(
        self,
        rows: range,
        cols: range,
        symmetric: bool,
        progress: Callable[[int], None] | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Return one array (len(rows), len(cols)) for every key.

        ``symmetric`` marks a tile of x1 with itself: equal row and column numbers are then the same
        input (which matters to Dropout), and the mirrored tile is exactly the transpose.
        ``progress`` is told the number of pairs of inputs finished.
        """
        out: dict[str, NDArray[Any]] = {}
        for prefix, network in self._networks.items():
            tile = self._tile(network, rows, cols, symmetric)
            for kernel in self._get:
                out[prefix + kernel] = getattr(tile, kernel).astype(self._dtype)
        if progress is not None:
            progress(len(rows) * len(cols))
        return out

    @np.errstate(all="ignore")  # What leaves the range is no number, see ``least``.
    def _tile(self, network: Network, rows: range, cols: range, symmetric: bool) -> Kernels:
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
        for value in (nngp, ntk):
            value[self._outside(first)] = np.nan
            value[:, self._outside(second)] = np.nan
        return Kernels(nngp, ntk)

    def _outside(self, images: _Images) -> NDArray[np.bool_]:
        """Images (n,) whose variances leave what this method can hold."""
        if not self._least:
            return np.zeros(len(images.x), dtype=np.bool_)
        squares = np.mean(images.x * images.x, axis=-1)
        tops = [q.max(axis=(1, 2)) for q in (squares, *images.variances)]
        wrong = [~np.isfinite(top) | ((top > 0) & (top < self._least)) for top in tops]
        vanished = (tops[0] == 0) & np.any(images.x != 0, axis=(1, 2, 3))
        return np.asarray(np.any([vanished, *wrong], axis=0))

    def _images(self, network: Network, source: Rows, numbers: range) -> _Images:
        x = images(source.read(numbers.start, numbers.stop))
        parts = [self_kernels(network, x[block]) for block in _blocks(len(x), x.shape)]
        nngp, ntk, variances = zip(*parts, strict=True)
        return _Images(
            x,
            np.concatenate(nngp),
            np.concatenate(ntk),
            [np.concatenate(layer) for layer in zip(*variances, strict=True)],
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
        for block in _blocks(len(index), first.x.shape):
            i, j = index[block].T
            q1, q2 = [q[i] for q in first.variances], [q[j] for q in second.variances]
            nngp[i, j], ntk[i, j] = cross_kernels(network, first.x[i], second.x[j], q1, q2)


def _blocks(n: int, shape: tuple[int, ...]) -> Iterator[slice]:
    """Cut n pairs so that about ten tensors over all pixel pairs stay within the block budget."""
    size = max(1, _BLOCK_BYTES // (80 * (shape[1] * shape[2]) ** 2))
    return (slice(lo, min(n, lo + size)) for lo in range(0, n, size))


def kernel(network: Network, x1: NDArray[Any], x2: NDArray[Any] | None = None) -> Kernels:
    """Return the exact NNGP and NTK matrices of a network, densely, in float64.

    Args:
        network: the network.
        x1: inputs (n1, D) or (n1, H, W, C).
        x2: inputs (n2, D) or (n2, H, W, C); None for x1 with itself.

    Returns:
        Matrices (n1, n2), in the units of neural-tangents (NTK parameterization).

    Raises:
        WidegramError: inputs of another shape than the network's.
    """
    first, second = ArrayRows(x1), None if x2 is None else ArrayRows(x2)
    evaluator = ReferenceEvaluator(network, first, second)
    columns = range(len(x1) if x2 is None else len(x2))
    tile = evaluator.tile(range(len(x1)), columns, symmetric=x2 is None)
    return Kernels(tile["nngp"], tile["ntk"])
