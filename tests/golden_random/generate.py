"""Writes what neural-tangents 0.6.5 gives for random networks. Run with its Python:

VENV/bin/python tests/golden_random/generate.py NUMBER ...     (bench/peers/README.md: VENV)

Those of other numbers stay. What it refuses, or gives no numbers for, is left out by name.
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

import random_examples  # noqa: E402


def main() -> None:
    """Run networks and save their numbers beside those of others."""
    out = Path(__file__).with_name("values.npz")
    values = dict(np.load(out)) if out.is_file() else {}
    for number in map(int, sys.argv[1:]):
        try:
            found = random_examples.run(stax, [number])
        except (NotImplementedError, ValueError) as error:
            sys.stderr.write(f"{number}: {type(error).__name__}: {str(error)[:100]}\n")
            continue
        if all(np.isfinite(value).all() for value in found.values()):
            values |= found
        else:
            sys.stderr.write(f"{number}: values that are not finite\n")
    np.savez_compressed(out, **values)


if __name__ == "__main__":
    main()
