"""A device made of the emulator: the whole CUDA backend without a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from cuda_emulator import launch
from widegram.cuda.kernel import SHARED_BYTES, Kernel


class StandIn:
    """Counts what is asked of it. ``fail_after``: launches until an error is raised."""

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

    def compiled(self, kernel: Kernel, dtype: str) -> Kernel:
        return kernel

    def empty(self, size: int, dtype: Any, stream: Any) -> np.ndarray:
        return np.zeros(max(size, 1), dtype=dtype)

    def put(self, array: np.ndarray, stream: Any) -> np.ndarray:
        return np.ascontiguousarray(array).reshape(-1).copy()

    def launch(
        self, compiled: Kernel, grid: tuple[int, int], threads: tuple[int, int], stream: Any,
        args: Any,
    ) -> None:  # fmt: skip
        if self.error is not None:
            raise self.error
        self.launches.append((compiled.form, grid))
        launch(compiled.text, grid, threads, args, compiled.dynamic)

    def pinned(self, size: int, dtype: Any) -> np.ndarray:
        return np.empty(size, dtype=dtype)

    def get(self, source: np.ndarray, target: np.ndarray, stream: Any) -> None:
        target[...] = source[: target.size]

    def wait(self, stream: Any) -> None:
        pass
