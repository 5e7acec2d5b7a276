"""Devices of software for the CUDA backend in this process, without a driver."""

from __future__ import annotations

from typing import Any

import numpy as np

from virtual_card import emulator
from virtual_card.ptx.machine import Launch, Machine
from virtual_card.ptx.memory import Memory
from virtual_card.ptx.text import programs
from widegram.cuda.compiling import ptx
from widegram.cuda.generated import SHARED_BYTES, KernelText
from widegram_bench.gpu.stand_in import StandIn


class Emulated(StandIn):
    """Runs the text of kernels on the emulator of threads."""

    def launch(
        self, compiled: Any, grid: tuple[int, int], threads: tuple[int, int], stream: Any,
        args: Any,
    ) -> None:  # fmt: skip
        super().launch(compiled, grid, threads, stream, args)
        emulator.launch(compiled.text, grid, threads, args, compiled.dynamic)


# PTX by kernel text and type: compiling takes seconds.
_COMPILED: dict[tuple[str, str], str] = {}


class PtxDevice(StandIn):
    """Runs the PTX of kernels, the arithmetic as NVVM compiles it.

    ``worst``: approximate instructions are as wrong as documented. ``edit``: changes PTX.
    """

    def __init__(
        self, worst: bool = False, edit: Any = None, shared: int = SHARED_BYTES
    ) -> None:
        super().__init__(name="virtual card", shared=shared)
        self.worst, self.edit = worst, edit or (lambda text: text)
        self._machines: dict[tuple[str, str], Machine] = {}

    def compiled(self, kernel: KernelText, dtype: str) -> Any:
        key = kernel.text, dtype
        if key not in self._machines:
            if key not in _COMPILED:
                _COMPILED[key] = ptx(kernel, dtype, (9, 0))
            program = programs(self.edit(_COMPILED[key]))[0]
            self._machines[key] = Machine(program, self.worst)
        return kernel, self._machines[key]

    def launch(
        self, compiled: Any, grid: tuple[int, int], threads: tuple[int, int], stream: Any,
        args: Any,
    ) -> None:  # fmt: skip
        kernel, machine = compiled
        super().launch(kernel, grid, threads, stream, args)
        memory = Memory()
        parameters = b"".join(_parameters(value, memory) for value in args)
        machine.run(Launch(grid, threads, parameters, kernel.dynamic), memory)


def _parameters(value: Any, memory: Memory) -> bytes:
    """An argument as numba-cuda passes it: arrays as their seven fields, each of eight bytes."""
    if not isinstance(value, np.ndarray):
        return np.int64(value).tobytes()
    known = memory.address(value) or memory.add_array(value)
    fields = (0, 0, value.size, value.itemsize, known, value.size, value.itemsize)
    return np.array(fields, dtype=np.int64).tobytes()
