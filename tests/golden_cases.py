"""The golden kernels of tests/golden, and how closely each of their entries must be met.

The values come from neural-tangents 0.6.5 in float64 (tests/golden/README.md says how, and where
they are themselves inexact). ``cases()`` lists them without reading arrays, ``load`` reads one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent / "golden"
KEYS = ("nngp", "ntk", "nngp_11", "ntk_11")

# Kdot of these jumps or has infinite slope in c at |c| = 1: rounding of K becomes its square root.
KINKED = {"relu", "leaky-relu", "ab-relu", "abs", "sign"}


@dataclass(frozen=True)
class Case:
    """One entry of index.json."""

    name: str
    tags: frozenset[str]
    noise: tuple[tuple[str, float], ...]

    @property
    def big(self) -> bool:
        return "big" in self.tags


@dataclass(frozen=True)
class Golden:
    """A case with its network specification and arrays (``values[key]`` for every key of KEYS)."""

    case: Case
    spec: dict
    x1: np.ndarray
    x2: np.ndarray
    values: dict[str, np.ndarray]


@lru_cache(maxsize=1)
def cases() -> tuple[Case, ...]:
    index = json.loads((HERE / "index.json").read_text())
    return tuple(
        Case(c["name"], frozenset(c["tags"]), tuple(c["nt_noise"].items())) for c in index["cases"]
    )


def load(name: str) -> Golden:
    case = next(c for c in cases() if c.name == name)
    with np.load(HERE / f"{name}.npz") as z:
        spec = json.loads(z["spec"].item())
        return Golden(case, spec, z["x1"], z["x2"], {key: z[key] for key in KEYS})


def params(slow: frozenset[str] = frozenset()) -> list:
    """Names of all cases for ``pytest.mark.parametrize``, those in ``slow`` marked so."""
    return [pytest.param(c.name, marks=pytest.mark.slow if c.name in slow else ()) for c in cases()]


def coinciding(golden: Golden, key: str) -> np.ndarray:
    """Mask (n1, n2) of the pairs of (nearly) the same, scaled or opposite inputs: |c| = 1."""
    a = golden.x1.reshape(len(golden.x1), -1)
    b = a if key.endswith("_11") else golden.x2.reshape(len(golden.x2), -1)
    norms = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)
    # the files' near-duplicates are scaled by 1.000001, their other inputs are random: 1e-9 and
    # 1e-7 select the same entries
    return np.abs(a @ b.T) >= (1 - 1e-9) * np.where(norms > 0, norms, np.inf)


def tolerance(golden: Golden, key: str, dtype: str | np.dtype | type) -> np.ndarray:
    """Allowed deviation of every entry, shape (n1, n2), relative to max|K| of the array."""
    case, ntk = golden.case, key.startswith("ntk")
    near = coinciding(golden, key)
    kinked = bool(case.tags & KINKED)
    # nt_noise of a kinked NTK is that of its coinciding entries; the NNGP's holds for the others
    noise = dict(case.noise)[key.replace("ntk", "nngp") if ntk and kinked else key]
    out = np.full(near.shape, max(1e-10, 100 * noise))
    if ntk and kinked:
        # rounding of K at c = 1 is worth 1e-10 to 1e-7 in the peer's angle
        out[near] = np.maximum(out[near], 1e-6)
    if "tanh" in case.tags:
        # the peer's tanh is a quadrature of degree 50, off by up to 1.4e-5 (nngp), 3.5e-4 (ntk)
        out = np.maximum(out, 1e-3 if ntk else 1e-4)
    if np.dtype(dtype) == np.float32:
        # eps = 6e-8 through tens of layers; near c = 1 its square root enters the angle
        out = np.maximum(out, np.where(near, 1e-4, 1e-5))
    return out


def assert_matches(golden: Golden, key: str, value: np.ndarray, dtype: str | type) -> None:
    """Fail, naming the worst entry, unless ``value`` meets the golden array of ``key``."""
    want = golden.values[key]
    assert value.shape == want.shape
    error = np.abs(value.astype(np.float64) - want) / np.abs(want).max()
    excess = error / tolerance(golden, key, dtype)
    i, j = np.unravel_index(np.argmax(np.where(np.isnan(excess), np.inf, excess)), excess.shape)
    assert excess[i, j] <= 1, (
        f"{golden.case.name} {key}[{i}, {j}] = {value[i, j]!r}, golden {want[i, j]!r}: off by "
        f"{error[i, j]:.1e} of max|K|, {excess[i, j]:.1e} times the tolerance"
    )
