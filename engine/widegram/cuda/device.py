"""One GPU as the evaluator sees it: memory, streams, compiled kernels, clean errors.

:class:`Gpu` speaks to numba-cuda; tests put a stand-in of the same methods in its place.
"""

from __future__ import annotations

import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from widegram.cuda.compiling import allow_shared, dispatcher, prepare_import
from widegram.cuda.generated import KernelText
from widegram.errors import WidegramError


class Device(Protocol):
    """What the evaluator asks of a device. Arrays are one-dimensional on the device."""

    name: str

    def free_memory(self) -> int:
        """Bytes that can be allocated, once what nobody holds any more is freed."""
        ...

    def shared_memory(self) -> int:
        """Bytes of shared memory that a block may use."""
        ...

    def stream(self) -> Any:
        """A queue of work; what is put on one stream runs in order."""
        ...

    def entered(self) -> Any:
        """A context manager: the device is current in this thread; its errors end cleanly."""
        ...

    def compiled(self, kernel: KernelText, dtype: str) -> Any:
        """A kernel ready to be launched."""
        ...

    def empty(self, size: int, dtype: Any, stream: Any) -> Any:
        """Device memory, zero for what comes later on the stream."""
        ...

    def put(self, array: NDArray[Any], stream: Any) -> Any:
        """A copy of an array on the device."""
        ...

    def launch(
        self, compiled: Any, grid: tuple[int, int], threads: tuple[int, int], stream: Any, args: Any
    ) -> None:
        """Queue a kernel."""
        ...

    def pinned(self, size: int, dtype: Any) -> NDArray[Any]:
        """Host memory that the device writes without a detour."""
        ...

    def get(self, source: Any, target: NDArray[Any], stream: Any) -> None:
        """Queue a copy from the device's first ``target.size`` numbers."""
        ...

    def wait(self, stream: Any) -> None:
        """Until the stream is empty."""
        ...


# numba-cuda and NVIDIA's bindings, whose errors are of many types.
_CUDA_MODULES = ("numba.cuda", "numba_cuda", "cuda.")


# numba-cuda frees memory in the thread that drops the last reference, which may have no current
# context: from this many blocks on it is done here instead, where there is one.
_MOST_UNFREED = 10
_FREEING = threading.Lock()


class Gpu:
    """CUDA device ``number`` through numba-cuda."""

    def __init__(self, number: int) -> None:
        from numba import cuda
        from numba.cuda.cudadrv import driver

        # The last batch of a tile may be small; that is no mistake to be warned of.
        warnings.filterwarnings("ignore", "Grid size")
        driver.config.CUDA_DEALLOCS_COUNT, driver.config.CUDA_DEALLOCS_RATIO = 2**31, 1.0
        self.number, self._cuda = number, cuda
        self._gpu = cuda.gpus[number]
        name = self._gpu.name
        self.name = name.decode() if isinstance(name, bytes) else str(name)

    @contextmanager
    def entered(self) -> Iterator[None]:
        with _one_line(f"cuda:{self.number} ({self.name})", _RESUME), self._gpu:
            yield
            self._free()

    def _free(self, most: int = _MOST_UNFREED) -> None:
        """Free what nobody holds any more, if it is more than ``most`` blocks.

        numba-cuda's list of them has no lock of its own.
        """
        pending = self._cuda.current_context().memory_manager.deallocations
        with _FREEING:
            if len(pending) > most:
                pending.clear()

    def free_memory(self) -> int:
        with self.entered():
            self._free(0)
            free: int = self._cuda.current_context().get_memory_info()[0]
        return int(free)

    def shared_memory(self) -> int:
        return int(self._gpu.MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)

    def stream(self) -> Any:
        return self._cuda.stream()

    def compiled(self, kernel: KernelText, dtype: str) -> Any:
        found = dispatcher(kernel, dtype)
        # A kernel from the cache is loaded at its first launch, which several threads may come to
        # at once; numba-cuda does not lock that either.
        for overload in found.overloads.values():
            overload.bind()
        if kernel.dynamic:
            allow_shared(found, kernel.dynamic)
        return found, kernel.dynamic

    def empty(self, size: int, dtype: Any, stream: Any) -> Any:
        from numba.cuda.cudadrv.driver import device_memset

        array = self._cuda.device_array(max(size, 1), dtype=dtype, stream=stream)
        device_memset(array, 0, array.nbytes, stream=stream)
        return array

    def put(self, array: NDArray[Any], stream: Any) -> Any:
        return self._cuda.to_device(np.ascontiguousarray(array).reshape(-1), stream=stream)

    def launch(
        self, compiled: Any, grid: tuple[int, int], threads: tuple[int, int], stream: Any, args: Any
    ) -> None:
        kernel, dynamic = compiled
        kernel[grid, threads, stream, dynamic](*args)

    def pinned(self, size: int, dtype: Any) -> NDArray[Any]:
        found: NDArray[Any] = self._cuda.pinned_array(size, dtype=dtype)
        return found

    def get(self, source: Any, target: NDArray[Any], stream: Any) -> None:
        source[: target.size].copy_to_host(target, stream=stream)

    def wait(self, stream: Any) -> None:
        stream.synchronize()


@contextmanager
def _one_line(device: str, advice: str) -> Iterator[None]:
    """Errors of numba-cuda, the bindings and the driver as :class:`WidegramError`."""
    try:
        yield
    except WidegramError:
        raise
    except Exception as error:  # Classes differ by version: they are told by their modules.
        if not _of_cuda(error):
            raise
        raise WidegramError(f"device {device}: {_line(error)}; {advice}") from error


def _of_cuda(error: Exception) -> bool:
    """Whether it was raised by code of numba-cuda or the bindings."""
    frames = traceback.walk_tb(error.__traceback__)
    modules = [type(error).__module__, *(f.f_globals.get("__name__", "") for f, _ in frames)]
    return any(name.startswith(_CUDA_MODULES) for name in modules)


def _line(error: BaseException) -> str:
    """The first line of a message that says something."""
    if isinstance(error, SystemError) and error.__cause__ is not None:
        return _line(error.__cause__)
    lines = [line.strip(" :") for line in str(error).splitlines() if line.strip(" :")]
    return lines[0] if lines else type(error).__name__


def gpus(numbers: tuple[int, ...]) -> list[Device]:
    """The CUDA devices of those numbers; () means device 0.

    Raises :class:`WidegramError` where numba-cuda, the driver or a card is missing.
    """
    prepare_import()
    try:
        from numba import cuda
    except ImportError as error:
        raise WidegramError(_UNAVAILABLE.format(f"numba cannot be imported: {error}")) from error
    if not has_numba_cuda():
        raise WidegramError(_UNAVAILABLE.format("numba-cuda is not installed"))
    with _one_line("cuda", "see `widegram doctor`, or use --device cpu"):
        if not cuda.is_available():
            raise WidegramError(_UNAVAILABLE.format("no CUDA driver or card was found"))
        count = len(cuda.gpus)
        for number in numbers:
            if number >= count:
                cards = "1 card" if count == 1 else f"{count} cards"
                raise WidegramError(f"device cuda:{number}: this machine has {cards}")
        return [Gpu(number) for number in numbers or (0,)]


def has_numba_cuda() -> bool:
    """Whether the package numba-cuda is installed (not imported)."""
    from importlib.util import find_spec

    return find_spec("numba_cuda") is not None


_RESUME = (
    "finished tiles are kept, run the same command again to resume (on the CPU with --device cpu)"
)
_UNAVAILABLE = (
    "device cuda: CUDA is not available here ({}); install with: pip install 'widegram[cuda]', see "
    "`widegram doctor`, or use --device cpu"
)
