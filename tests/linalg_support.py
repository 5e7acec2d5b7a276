"""Gram files of known matrices, and the peak memory of a block of code."""

from __future__ import annotations

import ctypes
import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from widegram.gramfile import Header, create, open_for_resume

NETWORK = json.dumps({"input_shape": [4], "layers": [{"layer": "Dense", "W_std": 1, "b_std": 0}]})


def orthogonal(n: int, rng: np.random.Generator) -> np.ndarray:
    """A random orthogonal matrix."""
    return np.linalg.qr(rng.standard_normal((n, n)))[0]


def with_spectrum(values: np.ndarray, seed: int = 0) -> np.ndarray:
    """A symmetric matrix with these eigenvalues and random eigenvectors."""
    basis = orthogonal(values.size, np.random.default_rng(seed))
    matrix = (basis * values) @ basis.T
    return (matrix + matrix.T) / 2


def write_gram(
    path: Path,
    matrices: dict[str, np.ndarray],
    *,
    symmetric: bool = True,
    x1: str = "train",
    x2: str = "",
    network: str = "net",
    tile: int = 32,
    depths: tuple[int, ...] = (),
    complete: bool = True,
    x1_location: str = "",
    network_json: str = NETWORK,
) -> Path:
    """Write matrices {'ntk': (n1, n2), ...}, keys as in the file, tile by tile."""
    first = next(iter(matrices.values()))
    kernels = tuple(k for k in ("nngp", "ntk") if any(key.endswith(k) for key in matrices))
    header = Header(
        network=network_json,
        network_fingerprint=network,
        x1_fingerprint=x1,
        x2_fingerprint=x2,
        x1_location=x1_location,
        x2_location="",
        n1=first.shape[0],
        n2=first.shape[1],
        kernels=kernels,
        depths=depths,
        dtype=first.dtype.name,
        symmetric=symmetric,
        device="cpu",
        program_version="0",
        tile=tile,
    )
    create(path, header)
    with open_for_resume(path, header) as writer:
        grid = header.grid
        tiles = grid.tiles() if complete else grid.tiles()[:-1]
        for i, j in tiles:
            rows, cols = grid.rows(i), grid.cols(j)
            block = np.s_[rows.start : rows.stop, cols.start : cols.stop]
            writer.write([(i, j, {key: matrices[key][block] for key in header.keys})])
        if complete:
            writer.finish()
    return path


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {field} in /proc/self/status")


@contextmanager
def peak_memory_below(budget: int) -> Iterator[None]:
    """Fail when the block raises the resident memory of the process by more than ``budget``.

    What was freed before and stays resident, for the allocator to hand out again, is given back to
    the system first: in the block it would be used without being seen."""
    gc.collect()  # what earlier tests left would otherwise be given back in the block
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    before = _status("VmRSS")
    yield
    grown = _status("VmHWM") - before
    assert grown <= budget, f"peak memory grew by {grown} bytes, the budget is {budget}"
