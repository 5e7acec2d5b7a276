"""Facts about the machine, gathered without starting anything: for ``widegram doctor``."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import platform
import shutil
from pathlib import Path
from typing import Any

from widegram import __version__
from widegram.machine.budgets import tightest
from widegram.machine.cores import usable_cores

# Vector features that change what the kernels compile to, widest last.
_FEATURES = ("sse4_2", "avx", "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "neon", "asimd")
# distribution -> what it is for
_OPTIONAL = {
    "matplotlib": "plots",
    "scikit-learn": "scikit-learn estimators",
}
# The CUDA backend: what it needs on a machine with a card, and to inspect kernels without one.
_CUDA = {
    "numba-cuda": ("--device cuda", "pip install 'widegram[cuda]'"),
    "nvidia-nvvm": ("compiling kernels", "pip install 'widegram[cuda]'"),
    "nvidia-cuda-nvcc": ("ptxas, to count a kernel's registers", "pip install nvidia-cuda-nvcc"),
    "nvidia-cuda-nvdisasm": (
        "nvdisasm, to count a kernel's instructions",
        "pip install nvidia-cuda-nvdisasm",
    ),
}
_DRIVER = "the driver of your card's system, such as: apt install nvidia-driver-580"
_NVIDIA = "0x10de"
_COMPUTE_CAPABILITY = (75, 76)  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR


def cpu() -> dict[str, Any]:
    """Model, vector features, usable threads, and memory in bytes."""
    fields = _fields("/proc/cpuinfo")
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    meminfo, limit = _fields("/proc/meminfo"), tightest()
    return {
        "model": fields.get("model name") or platform.processor() or platform.machine(),
        "features": [name for name in _FEATURES if name in flags],
        "threads": usable_cores(),
        "threads_installed": os.cpu_count() or 1,
        "memory": _kibibytes(meminfo.get("MemTotal")),
        "memory_free": limit.left,
        "memory_limit": limit.name,
    }


def libraries() -> dict[str, str | None]:
    """Versions of Python and of the libraries in use; None where one is not installed."""
    import h5py
    import numpy as np

    configuration: Any = np.show_config(mode="dicts")
    blas = configuration.get("Build Dependencies", {}).get("blas", {})
    return packages() | {
        "blas": f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip(),
        "hdf5": h5py.version.hdf5_version,
    }


def packages() -> dict[str, str | None]:
    """Versions of Python, of this package and of those it uses, without importing any; None where
    one is not installed."""
    names = ("numpy", "scipy", "numba", "llvmlite", "h5py", "click", *_OPTIONAL, *_CUDA)
    return {
        "widegram": __version__,
        "python": platform.python_version(),
        **{name: _version(name) for name in names},
    }


def cuda() -> dict[str, Any]:
    """The CUDA driver's version and cards, or the problem that hides them."""
    found: dict[str, Any] = {"driver": None, "problem": None, "cards": []}
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        found["problem"] = "no NVIDIA driver (libcuda.so.1 not found)"
        return found
    status = driver.cuInit(0)
    if status != 0:
        found["problem"] = f"the NVIDIA driver does not start (cuInit returned {status})"
        return found
    version = ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(version))
    found["driver"] = f"{version.value // 1000}.{version.value % 1000 // 10}"
    count = ctypes.c_int()
    driver.cuDeviceGetCount(ctypes.byref(count))
    found["cards"] = [_card(driver, index) for index in range(count.value)]
    return found


def has_card(devices: Path = Path("/sys/bus/pci/devices")) -> bool:
    """Whether an NVIDIA card is plugged in, whatever software there is for it."""
    for vendor in devices.glob("*/vendor"):
        try:
            if vendor.read_text().strip() == _NVIDIA:
                kind = vendor.with_name("class").read_text()
                if kind.startswith(("0x03", "0x0b", "0x12")):  # display, processor, accelerator
                    return True
        except OSError:
            continue
    return False


def missing(
    versions: dict[str, str | None], cards: dict[str, Any], installed: bool
) -> list[dict[str, str]]:
    """What is not installed, what it would be for, and the command that installs it.

    ``installed``: whether this machine has an NVIDIA card, with or without a driver.
    """
    gaps = [
        {"what": name, "why": why, "install": f"pip install {name}"}
        for name, why in _OPTIONAL.items()
        if versions[name] is None
    ]
    if cards.get("problem") is not None and installed:
        gaps.append({"what": "CUDA driver", "why": cards["problem"], "install": _DRIVER})
    for name, (why, install) in _CUDA.items():
        if versions.get(name) is None and _needed(name, cards, versions):
            gaps.append({"what": name, "why": why, "install": install})
    return gaps


def _needed(name: str, cards: dict[str, Any], versions: dict[str, str | None]) -> bool:
    """Whether a missing part of the CUDA backend is worth a line on this machine."""
    if name == "numba-cuda":
        return bool(cards["cards"])
    if versions.get("numba-cuda") is None:
        return False
    # A CUDA toolkit brings its own compiler and assembler.
    toolkit = shutil.which("nvcc") is not None or "CUDA_HOME" in os.environ
    return not (toolkit and name.startswith("nvidia-"))


def _card(driver: ctypes.CDLL, index: int) -> dict[str, Any]:
    device = ctypes.c_int()
    driver.cuDeviceGet(ctypes.byref(device), index)
    name = ctypes.create_string_buffer(128)
    driver.cuDeviceGetName(name, len(name), device)
    memory = ctypes.c_size_t()
    driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    parts = []
    for attribute in _COMPUTE_CAPABILITY:
        value = ctypes.c_int()
        driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        parts.append(str(value.value))
    return {
        "index": index,
        "name": name.value.decode(),
        "compute_capability": ".".join(parts),
        "memory": memory.value,
    }


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _fields(path: str) -> dict[str, str]:
    """``name : value`` lines of a /proc file, the first of each name; empty where it is absent."""
    fields: dict[str, str] = {}
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return fields
    for line in lines:
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    return fields


def _kibibytes(field: str | None) -> int:
    return int(field.split()[0]) * 1024 if field else 0
