"""Writes what neural-tangents 0.6.5 gives for tests/kernel_examples.py. Run with its Python:

VENV/bin/python tests/golden_kernels/generate.py [OUT.npz]     (bench/peers/README.md: VENV)
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import jax
import numpy as np

jax.config.update("jax_enable_x64", True)
warnings.filterwarnings("ignore")

from neural_tangents import stax  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[1]))

import kernel_examples  # noqa: E402


def main() -> None:
    """Run examples and save their numbers beside those of other families."""
    families = sys.argv[1:] or list(kernel_examples.FAMILIES)
    out = Path(__file__).with_name("values.npz")
    before = dict(np.load(out)) if out.is_file() else {}
    kept = {name: value for name, value in before.items() if name.split("/")[0] not in families}
    np.savez_compressed(out, **kept, **kernel_examples.run(stax, families))


if __name__ == "__main__":
    main()
