"""A cheap stand-in for a real evaluator: entries are a known function of their indices."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from widegram.backends.evaluator import Advance, Evaluator, Tile
from widegram.backends.job import Job
from widegram.computing import choosing
from widegram.gramfile import Header

NETWORK = "fcn:depth=1"


def expected(n1: int, n2: int, symmetric: bool, dtype: str = "float32") -> np.ndarray:
    """The matrix 'nngp' of a fake run; 'ntk' is twice that."""
    return entries(range(n1), range(n2), symmetric, dtype)


def entries(rows: range, cols: range, symmetric: bool, dtype: str) -> np.ndarray:
    """Distinct for neighbouring entries, symmetric in the indices where it must be."""
    a, b = np.array(rows)[:, None], np.array(cols)[None, :]
    value = (a * b) % 9973 + (a + b) / 8 + (0 if symmetric else a * 16)
    return (value + 1).astype(dtype)


class FakeEvaluator(Evaluator):
    """Computes :func:`entries`, taking ``delay`` seconds for a tile; counts its tiles."""

    def __init__(self, keys: tuple[str, ...], dtype: str, delay: float = 0.0) -> None:
        self.keys, self.dtype, self.delay = keys, dtype, delay
        self.calls: list[tuple[range, range]] = []
        self.closed = False

    def close(self) -> None:
        self.closed = True

    def diagonal(self, rows: range, second: bool = False) -> dict[str, np.ndarray]:
        own = np.diag(entries(rows, rows, True, "float64")).copy()
        return {key: own * (2 if key.endswith("ntk") else 1) for key in self.keys}

    def tile(
        self, rows: range, cols: range, symmetric: bool, progress: Advance | None = None
    ) -> Tile:
        self.calls.append((rows, cols))
        time.sleep(self.delay)
        block = entries(rows, cols, symmetric, self.dtype)
        if progress is not None:
            progress(block.size)
        return {key: block * (2 if key.endswith("ntk") else 1) for key in self.keys}


def install(patch: pytest.MonkeyPatch, delay: float = 0.0) -> list[FakeEvaluator]:
    """Let every run of ``patch``'s test use fakes; returns those made so far."""
    made: list[FakeEvaluator] = []

    def make(device: str, job: Job) -> FakeEvaluator:
        made.append(FakeEvaluator(job.keys, job.dtype, delay))
        return made[-1]

    patch.setattr(choosing, "on_device", make)
    return made


def inputs(n: int, seed: int = 0) -> np.ndarray:
    """Inputs (n, 6); the fake does not read them, the fingerprints do."""
    return np.random.default_rng(seed).normal(size=(n, 6))


def header(n: int = 70, tile: int = 16, **changes: object) -> Header:
    """A header of a symmetric run, for tests of the store alone."""
    fields: dict = {
        "network": "{}",
        "network_fingerprint": "n",
        "x1_fingerprint": "a",
        "x2_fingerprint": "",
        "x1_location": "",
        "x2_location": "",
        "n1": n,
        "n2": n,
        "kernels": ("nngp", "ntk"),
        "depths": (),
        "dtype": "float32",
        "symmetric": True,
        "device": "cpu",
        "program_version": "0",
        "tile": tile,
    }
    return Header(**{**fields, **changes})


def damage(path: Path, offset: int) -> None:
    """Flip one bit of a file."""
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))
