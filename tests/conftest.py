"""Settings shared by all tests."""

from __future__ import annotations

import gc
import os
import sys

# Before NumPy is imported: the matrices of these tests are too small for threads to pay.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from importlib.util import find_spec

import pytest

# Hundreds of processes are started below. Where Python is told to keep nothing that it compiles, as
# in many containers, each would compile every module of the program, and of the tests, again.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# The tests for a card do without hypothesis, which such a machine need not have.
if find_spec("hypothesis") is not None:
    from hypothesis import settings

    # No random seed, and no deadline: compilation counts as time. Examples are the same wherever
    # the same modules are loaded, whose constants Hypothesis draws too.
    settings.register_profile("widegram", derandomize=True, deadline=None)
    settings.load_profile("widegram")


# Until everything is imported (see below): nothing of that is garbage.
gc.disable()
_OBJECTS = 10_000  # new ones until garbage is looked for; Python's 700 cost more than they free


def pytest_configure(config: pytest.Config) -> None:
    """Only ``-m gpu`` sees a card: elsewhere 'auto' means the CPU on every machine."""
    chosen = config.getoption("markexpr")
    if "gpu" not in chosen or "not gpu" in chosen:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_collection_finish() -> None:
    """Modules and tests stay for good: nothing of them is looked at again for garbage."""
    gc.freeze()
    gc.set_threshold(_OBJECTS)
    gc.enable()
