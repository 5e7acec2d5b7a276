"""Machine code kept on disk: compiled once, loaded later with no compiler but the linker of LLVM.

Code is an object file for this machine, named after its function and a digest of all that shapes
it: the sources, the version of the compiler, the processor. :mod:`widegram.machine.codecache` says
where it lies and what is trusted there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache, lru_cache
from pathlib import Path
from threading import RLock
from typing import Any

import llvmlite
from llvmlite import binding

from widegram.cpu.kernels.processors import Processor, host, machine, optimised
from widegram.machine import codecache, dtypes, log

PART = "code"
# What compiled code may call: the C library that every process has.
_ALLOWED = {"memset", "memcpy", "memmove"}
_lock = RLock()


def announced() -> AbstractContextManager[None]:
    """Says that this machine's code is being compiled: the first process that has to wait for it,
    and no other. Where code cannot be kept that is said instead."""
    kept = codecache.problem(PART) is None
    return log.announced(
        "compiling the CPU backend for this machine (once; some 10 seconds)" if kept else "",
        first=lambda: codecache.claim(PART, f"announced-{_machine(host())}"),
    )


def address(
    name: str, make: Callable[[], tuple[str, str]], processor: Processor | None = None
) -> int:
    """The address of the function ``name``; equal names are equal functions.

    ``make``: LLVM IR and the name that the function has there; called where no code is kept.
    ``processor``: this machine's, or one that this machine can be taken for.
    A folder that cannot be used is no error: the code then lasts as long as the process.
    """
    processor = processor or host()
    if processor != host():  # beside the same function for this machine
        name = f"{name}_{_machine(processor)}"
    with _lock:
        file = f"{name}-{_machine(processor)}.o"
        code = codecache.read(PART, file)
        if code is None:
            code = _compiled(name, *make(), processor)
            codecache.keep(PART, file, code)
        return _loaded(name, code)


@lru_cache(maxsize=1)
def source_machine() -> str:
    """Changes whenever code that shapes compiled functions does."""
    floors = Path(__file__).parent, Path(__file__).parents[1] / "driver"
    shaping = *floors, Path(__file__).parents[2] / "activations"
    sources = sorted(path for folder in shaping for path in folder.glob("*.py"))
    sources.append(Path(dtypes.__file__))
    digest = hashlib.sha256()
    for path in sources:
        digest.update(path.read_bytes())
    return digest.hexdigest()


@cache
def _machine(processor: Processor) -> str:
    """A digest of everything but its name that decides what a function's code is."""
    of = processor
    parts = source_machine(), llvmlite.__version__, of.triple, of.cpu, of.features
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:20]


@cache
def _engine() -> Any:
    """Holds all code of the process."""
    return binding.create_mcjit_compiler(binding.parse_assembly(""), machine(host()))


def _loaded(name: str, code: bytes) -> int:
    engine = _engine()
    engine.add_object_file(binding.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return int(engine.get_function_address(name))


def _compiled(name: str, text: str, entry: str, processor: Processor) -> bytes:
    """Object code for a processor of an IR module whose function ``entry`` becomes ``name``."""
    module = optimised(text, entry, name, processor)
    called = {f.name for f in module.functions if f.is_declaration}
    unknown = {n for n in called if not n.startswith("llvm.")} - _ALLOWED
    if unknown:
        raise AssertionError(f"{name} calls {', '.join(sorted(unknown))}")
    return bytes(machine(processor).emit_object(module))
