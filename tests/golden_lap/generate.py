"""Writes what neural-tangents 0.6.5 gives for local average pooling. Run with its Python:

VENV/bin/python tests/golden_lap/generate.py [OUT.npz]     (bench/peers/README.md: VENV)
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

jax.config.update("jax_enable_x64", True)

from neural_tangents import stax  # noqa: E402

DEPTH = 2
# Pixels that a pool reaches to each side, rows and columns; the last reach beyond the image.
REACHES = ((0, 0), (2, 2), (2, 3), (7, 7))


def kernel_fn(reach: tuple[int, int]) -> Any:
    """``DEPTH`` convolutions and ReLU, one pool, Flatten, Dense."""
    layers = [stax.Conv(1, (3, 3), padding="SAME", W_std=1.4, b_std=0.1), stax.Relu()] * DEPTH
    if any(reach):
        window = tuple(2 * c + 1 for c in reach)
        layers.append(stax.AvgPool(window, (1, 1), "SAME"))
    return stax.serial(*layers, stax.Flatten(), stax.Dense(1, 1.2, 0.3))[2]


def main() -> None:
    """Compute every case and save it."""
    found: dict[str, Any] = {
        "x1": np.random.default_rng(7).standard_normal((3, 6, 7, 2)),
        "x2": np.random.default_rng(8).standard_normal((2, 6, 7, 2)),
    }
    for reach in REACHES:
        kernels = kernel_fn(reach)(found["x1"], found["x2"], ("nngp", "ntk"))
        for name in ("nngp", "ntk"):
            found[f"{reach[0]},{reach[1]}/{name}"] = np.asarray(getattr(kernels, name))
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("values.npz")
    np.savez_compressed(out, **found)


if __name__ == "__main__":
    main()
