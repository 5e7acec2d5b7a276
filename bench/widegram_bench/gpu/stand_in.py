"""The CUDA backend without a card: a device in the host's memory whose kernels do nothing.

What the host spends is measured with it; tests put a card of software behind its launches.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.cuda.generated import SHARED_BYTES, KernelText


class StandIn:
    """A :class:`~widegram.cuda.device.Device` of so many bytes.

    ``launches``: form and grid of every kernel in order. ``error``: what a launch raises, if any.
    """

    def __init__(
        self, free: int = 2**30, name: str = "stand-in", shared: int = SHARED_BYTES
    ) -> None:
        self.name, self.free, self.shared = name, free, shared
        self.launches: list[tuple[str, tuple[int, int]]] = []
        self.error: Exception | None = None

    def free_memory(self) -> int:
        return self.free

    def shared_memory(self) -> int:
        return self.shared

    def stream(self) -> Any:
        return object()

    @contextmanager
    def entered(self) -> Iterator[None]:
        yield

    def compiled(self, kernel: KernelText, dtype: str) -> Any:
        return kernel

    def empty(self, size: int, dtype: Any, stream: Any) -> NDArray[Any]:
        return np.zeros(max(size, 1), dtype)

    def put(self, array: NDArray[Any], stream: Any) -> NDArray[Any]:
        return np.array(array).reshape(-1)

    def launch(
        self, compiled: Any, grid: tuple[int, int], threads: tuple[int, int], stream: Any, args: Any
    ) -> None:
        if self.error is not None:
            raise self.error
        self.launches.append((compiled.form, grid))

    def pinned(self, size: int, dtype: Any) -> NDArray[Any]:
        return np.zeros(size, dtype)

    def get(self, source: NDArray[Any], target: NDArray[Any], stream: Any) -> None:
        target[...] = source[: target.size]

    def wait(self, stream: Any) -> None:
        pass
