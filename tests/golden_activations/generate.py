"""Writes what neural-tangents 0.6.5 gives for networks of one activation each. Run with
its Python:

VENV/bin/python tests/golden_activations/generate.py [OUT.npz]     (bench/peers/README.md: VENV)
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

jax.config.update("jax_enable_x64", True)
sys.path.insert(0, str(Path(__file__).parents[1]))

from neural_tangents import stax  # noqa: E402

from activation_networks import networks  # noqa: E402


def main() -> None:
    """Compute every network and save it, with the inputs of each shape."""
    found: dict[str, Any] = {}
    for name, (shape, (_, _, kernel_fn)) in networks(stax, jnp).items():
        rngs = (np.random.default_rng([len(shape), n]) for n in (3, 2))
        x1, x2 = (rng.standard_normal((n, *shape)) for rng, n in zip(rngs, (3, 2), strict=True))
        found |= {f"x1/{len(shape)}": x1, f"x2/{len(shape)}": x2}
        kernels = kernel_fn(x1, x2, ("nngp", "ntk"))
        for kernel in ("nngp", "ntk"):
            values = np.asarray(getattr(kernels, kernel))
            assert np.isfinite(values).all(), name
            found[f"{name}/{kernel}"] = values
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("values.npz")
    np.savez_compressed(out, **found)


if __name__ == "__main__":
    main()
