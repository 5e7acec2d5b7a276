"""Writes what neural-tangents 0.6.5 gives for networks with ConvLocal. Run with its Python:

VENV/bin/python tests/golden_local/generate.py [OUT.npz]     (bench/peers/README.md: VENV)
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

jax.config.update("jax_enable_x64", True)

from neural_tangents import stax  # noqa: E402

CASES = (
    ("CIRCULAR", (2, 1), "GlobalAvgPool"),
    ("SAME", (1, 1), "Flatten"),
    ("VALID", (1, 2), "GlobalAvgPool"),
)


def kernel_fn(padding: str, strides: tuple[int, int], end: str) -> Any:
    """The network of one case."""
    weights = {"W_std": 1.3, "b_std": 0.2, "padding": padding}
    # No Conv in front: behind one, full covariances have rows and columns exchanged, and this
    # version's ConvLocal does not exchange the two numbers of its filter and strides.
    layers = [
        stax.ConvLocal(1, (3, 2), strides, **weights), stax.Relu(),
        stax.ConvLocal(1, (2, 2), **weights), stax.Relu(),
        stax.Conv(1, (2, 2), **weights), stax.Relu(),
        getattr(stax, end)(), stax.Dense(1),
    ]  # fmt: skip
    return stax.serial(*layers)[2]


def main() -> None:
    """Compute every case and save it."""
    found: dict[str, Any] = {
        "x1": np.random.default_rng(7).standard_normal((3, 6, 7, 2)),
        "x2": np.random.default_rng(8).standard_normal((2, 6, 7, 2)),
    }
    for padding, strides, end in CASES:
        kernels = kernel_fn(padding, strides, end)(found["x1"], found["x2"], ("nngp", "ntk"))
        found |= {f"{padding}/strides": strides, f"{padding}/end": end}
        for name in ("nngp", "ntk"):
            found[f"{padding}/{name}"] = np.asarray(getattr(kernels, name))
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("values.npz")
    np.savez_compressed(out, **found)


if __name__ == "__main__":
    main()
