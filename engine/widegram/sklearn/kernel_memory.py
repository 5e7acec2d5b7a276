"""Kernels of arrays, remembered: the same matrix is computed once while there is room for it.

A search over regularisers fits the same folds again and again; their kernels depend on the network
and the inputs alone. What is kept is found by fingerprints of both, never by names or identity, and
the least recently used goes first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from widegram.network import Network

Array = NDArray[Any]
Key = tuple[str, str, str, str]
Compute = Callable[[], Array]


class KernelMemory:
    """Matrices by network, inputs and kernel, least recently used first."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Key, Array] = OrderedDict()
        self._lock = Lock()

    @property
    def size(self) -> int:
        """Bytes kept."""
        return sum(array.nbytes for array in self._kept.values())

    def get(
        self,
        network: Network,
        x1: Array,
        x2: Array | None,
        kernel: str,
        compute: Compute,
        room: int,
    ) -> Array:
        """The kernel matrix of ``x1`` with ``x2`` (None: itself), read-only, else ``compute()``.

        Afterwards at most ``room`` bytes are kept; a larger matrix is not. Without room nothing is
        looked up, kept or forgotten.
        """
        if room <= 0:
            return compute()
        key = (network.fingerprint(), _digest(x1), "" if x2 is None else _digest(x2), kernel)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        found = np.asarray(compute())
        found.flags.writeable = False
        with self._lock:
            if found.nbytes <= room:
                self._kept[key] = found
            while self._kept and self.size > room:
                self._kept.popitem(last=False)
        return found

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._kept.clear()


def _digest(x: Array) -> str:
    digest = xxhash.xxh3_128(f"{x.shape}{x.dtype.str}".encode())
    digest.update(np.ascontiguousarray(x).tobytes())
    return digest.hexdigest()
