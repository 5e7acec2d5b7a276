"""Kernel text to machine code: files on disk, numba-cuda dispatchers, PTX for inspection.

The text is written to a file named by its hash, because Numba caches compiled code only for
functions that come from files; the same network finds its compiled kernels there the next time.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from widegram.cuda.generated import KernelText
from widegram.errors import WidegramError
from widegram.machine import codecache

PART = "cuda"


def prepare_import() -> None:
    """What numba-cuda needs before it is imported: a CUDA toolkit, and a name that NumPy dropped.

    numba-cuda finds libNVVM by ``CUDA_HOME`` where no Python package holds that library: here,
    where that is not set, the toolkit of the ``nvcc`` on the PATH, or /usr/local/cuda. numba-cuda
    0.30 reads ``numpy.row_stack``, the former name of ``vstack``, which NumPy 2.5 has no more.
    """
    if not hasattr(np, "row_stack"):
        setattr(np, "row_stack", np.vstack)  # noqa: B010 - mypy knows that NumPy has none
    if "CUDA_HOME" in os.environ or "CUDA_PATH" in os.environ:
        return
    nvcc = shutil.which("nvcc")
    found = [Path(nvcc).resolve().parents[1]] if nvcc else []
    for folder in (*found, Path("/usr/local/cuda")):
        if (folder / "nvvm").is_dir():
            os.environ["CUDA_HOME"] = str(folder)
            return


def module(text: str) -> Any:
    """The imported module of a source text, which lies in a file for Numba's cache beside it.

    That is the folder of compiled code (``NUMBA_CACHE_DIR`` moves Numba's part), or one of this
    process alone where that is not to be trusted. Raises :class:`WidegramError` where neither can
    be written.
    """
    name = "kernel_" + hashlib.sha256(text.encode()).hexdigest()[:24]
    try:
        path = codecache.text_file(PART, f"{name}.py", text)
    except OSError as error:
        raise WidegramError(
            f"generated kernels cannot be written ({error}); set WIDEGRAM_CACHE_DIR or TMPDIR to "
            "a writable folder"
        ) from error
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def signature(kernel: KernelText, dtype: str) -> tuple[Any, ...]:
    """Numba types of the kernel's arguments."""
    from numba import types

    real = {"float32": types.float32, "float64": types.float64}[dtype][::1]
    size, ints, sums = types.int64, types.int32[::1], types.float64[::1]
    if kernel.form == "product":
        return (size, size, size, real, real, real)
    return (size, size, ints, real, real, real, real, ints, ints, real, sums, real, real)


def options(kernel: KernelText, dtype: str) -> dict[str, Any]:
    """Compiler options: approximate division and roots, denormals to zero, in float32 only.

    PTX is assembled as it is, so that what runs is what the benchmarks' ``assembled`` counts.
    """
    found: dict[str, Any] = {"fastmath": dtype == "float32", "lto": False}
    if kernel.registers:
        found["max_registers"] = kernel.registers
    return found


@lru_cache(maxsize=256)
def _dispatcher(text: str, form: str, dtype: str, arguments: Any, flags: Any) -> Any:
    from numba import cuda

    return cuda.jit(arguments, cache=True, **dict(flags))(module(text).kernel)


def dispatcher(kernel: KernelText, dtype: str) -> Any:
    """The compiled kernel for the current device, from the cache on disk where it is there."""
    flags = tuple(sorted(options(kernel, dtype).items()))
    return _dispatcher(kernel.text, kernel.form, dtype, signature(kernel, dtype), flags)


def allow_shared(compiled: Any, nbytes: int) -> None:
    """Let a compiled kernel use that much shared memory, given at launch, on the current device.

    Source: NVIDIA, CUDA driver API, ``cuKernelSetAttribute``: beyond 48 KB a kernel must say so.
    """
    from numba.cuda.cudadrv.driver import binding, driver

    attribute = binding.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
    for overload in compiled.overloads.values():
        function = overload._codelibrary.get_cufunc()
        driver.cuKernelSetAttribute(attribute, nbytes, function.handle, function.device.id)


def ptx(kernel: KernelText, dtype: str, capability: tuple[int, int]) -> str:
    """The kernel's PTX for a compute capability such as (9, 0); no GPU needed."""
    prepare_import()
    from numba import cuda

    flags = {"fastmath": dtype == "float32"}
    found: str = cuda.compile_ptx(
        module(kernel.text).kernel, signature(kernel, dtype), cc=capability, **flags
    )[0]
    return found
