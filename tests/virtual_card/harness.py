"""The Python side of the stub driver: PTX of the kernels that numba-cuda loads, and their runs.

The driver imports this in every process that initializes it. VIRTUAL_CARD_WORST=1: approximate
instructions are as wrong as documented.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import traceback
from typing import Any

from virtual_card.ptx.machine import Launch, Machine
from virtual_card.ptx.memory import Fault, Memory
from virtual_card.ptx.text import programs

_ILLEGAL_ADDRESS, _FAILED = 700, 719
_KERNEL = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_uint32)
)
_LAUNCH = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.POINTER(ctypes.c_uint32),
    ctypes.POINTER(ctypes.c_uint32), ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint,
)  # fmt: skip
_MEMORY = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_size_t, ctypes.c_size_t)


class _Cards:
    """Kernels and memories of all cards."""

    def __init__(self) -> None:
        self.ptx: dict[str, str] = {}
        self.machines: list[Machine] = []
        self.numbers: dict[str, int] = {}
        self.memories: dict[int, Memory] = {}
        self.worst = os.environ.get("VIRTUAL_CARD_WORST") == "1"

    def kernel(self, name: bytes, count: Any, sizes: Any) -> int:
        """The number of a kernel, and the sizes of its parameters."""
        try:
            text = name.decode()
            if text not in self.numbers:
                program = next(p for p in programs(self.ptx[text]) if p.name == text)
                self.numbers[text] = len(self.machines)
                self.machines.append(Machine(program, self.worst))
            number = self.numbers[text]
            parameters = self.machines[number].program.parameters
            count[0] = len(parameters)
            for n, parameter in enumerate(parameters):
                sizes[n] = parameter.size
            return number
        except Exception as error:  # C code is above: nothing may pass it.
            _tell(error)
            return -1

    def launch(
        self, card: int, number: int, grid: Any, block: Any, parameters: Any, size: int,
        dynamic: int,
    ) -> int:  # fmt: skip
        """Run a kernel; the driver's error code."""
        try:
            text = ctypes.string_at(parameters, size)
            launch = Launch((grid[0], grid[1]), (block[0], block[1]), text, dynamic)
            self.machines[number].run(launch, self._memory(card))
        except Fault as error:
            _tell(error)
            return _ILLEGAL_ADDRESS
        except Exception as error:  # C code is above: nothing may pass it.
            _tell(error)
            return _FAILED
        return 0

    def memory(self, card: int, address: int, size: int) -> None:
        """Note an allocation, or with size 0 its end."""
        if size:
            self._memory(card).add_host(address, size)
        else:
            self._memory(card).remove(address)

    def _memory(self, card: int) -> Memory:
        return self.memories.setdefault(card, Memory())


def _tell(error: Exception) -> None:
    """Into the log, where there is one, else to standard error."""
    text = f"{os.getpid()} fault {error}"
    if not isinstance(error, Fault):
        text += "\n" + "".join(traceback.format_exception(error))
    path = os.environ.get("VIRTUAL_CARD_LOG")
    if path is None:
        sys.stderr.write(text + "\n")
        return
    with open(path, "a") as file:
        file.write(text + "\n")


_cards = _Cards()
# Kept alive for as long as the driver may call them.
_callbacks = (_KERNEL(_cards.kernel), _LAUNCH(_cards.launch), _MEMORY(_cards.memory))


def start() -> None:
    """Give the driver its callbacks, and note the PTX of every kernel before it is loaded."""
    ctypes.CDLL("libcuda.so.1").virtual_card_callbacks(*_callbacks)
    from numba.cuda.codegen import CUDACodeLibrary

    load = CUDACodeLibrary.get_cufunc

    @functools.wraps(load)
    def noted(self: Any) -> Any:
        _cards.ptx[self._entry_name] = self.get_asm_str()
        return load(self)

    CUDACodeLibrary.get_cufunc = noted
