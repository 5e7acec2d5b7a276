"""Writes what neural-tangents 0.6.5 gives for the networks of tests/*_examples.py. Run with its
Python:

VENV/bin/python tests/golden_values.py NAME [FAMILY ...]     (bench/peers/README.md: VENV)

NAME says which (:data:`EXAMPLES`); golden_NAME/values.npz is written. Of the families that are
named, or of all; the others' values stay.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from pathlib import Path

import jax
import numpy as np

# Names of folders, and the modules of their examples.
EXAMPLES = {
    "branches": "branch_examples",
    "front": "front_examples",
    "kernels": "kernel_examples",
    "maps": "map_examples",
    "masks": "mask_examples",
}


def main() -> None:
    """Run examples and save their numbers beside those of other families."""
    name, *families = sys.argv[1:]
    jax.config.update("jax_enable_x64", True)
    warnings.filterwarnings("ignore")
    from neural_tangents import stax

    examples = importlib.import_module(EXAMPLES[name])
    families = families or [*examples.FAMILIES, *getattr(examples, "MORE", ())]
    out = Path(__file__).with_name(f"golden_{name}") / "values.npz"
    before = dict(np.load(out)) if out.is_file() else {}
    kept = {key: value for key, value in before.items() if key.split("/")[0] not in families}
    np.savez_compressed(out, **kept, **examples.run(stax, families))


if __name__ == "__main__":
    main()
