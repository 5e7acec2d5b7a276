"""Writes what neural-tangents 0.6.5 gives for the networks of ``trained_examples.py``. Run with its
Python:

VENV/bin/python tests/golden_trained/generate.py [OUT.npz]     (bench/peers/README.md: VENV)
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

jax.config.update("jax_enable_x64", True)
sys.path.insert(0, str(Path(__file__).parents[1]))

from neural_tangents import stax  # noqa: E402

from trained_examples import networks  # noqa: E402


def main() -> None:
    """Compute every network and save it."""
    found: dict[str, Any] = {}
    for name, (inputs, (_, _, kernel_fn)) in networks(stax).items():
        for second, suffix in ((inputs[1], ""), (None, "_11")):
            kernels = kernel_fn(inputs[0], second, ("nngp", "ntk"))
            found |= {f"{name}/{key}{suffix}": np.asarray(value)
                      for key, value in kernels._asdict().items()}  # fmt: skip
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("values.npz")
    np.savez_compressed(out, **found)


if __name__ == "__main__":
    main()
