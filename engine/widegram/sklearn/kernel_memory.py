"""Kernels of arrays, remembered: the same matrix is computed once while there is room for it.

A search over regularisers fits the same folds again and again; their kernels depend on the network
and the inputs alone. What is kept is found by fingerprints of both, never by names or identity, and
the least recently used goes first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from widegram.machine.byte_cache import ByteCache
from widegram.network import Network

Array = NDArray[Any]
Key = tuple[str, str, str, str]
Compute = Callable[[], Array]


class KernelMemory:
    """Matrices by network, inputs and kernel, least recently used first."""

    def __init__(self) -> None:
        self._kept: ByteCache[Key, Array] = ByteCache()

    @property
    def size(self) -> int:
        """Bytes kept."""
        return self._kept.nbytes

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
        known = self._kept.find(key)
        if known is not None:
            return known
        found = np.asarray(compute())
        found.flags.writeable = False
        if found.nbytes <= room:
            self._kept.keep(key, found)
        self._kept.shrink(room)
        return found

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()


def _digest(x: Array) -> str:
    digest = xxhash.xxh3_128(f"{x.shape}{x.dtype.str}".encode())
    digest.update(np.ascontiguousarray(x).tobytes())
    return digest.hexdigest()
