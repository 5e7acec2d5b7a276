"""Settings shared by all tests."""

from __future__ import annotations

import os

# Before NumPy is imported: the matrices of these tests are too small for threads to pay.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from hypothesis import settings

# Reproducible on every machine: fixed examples, and no deadline, since compilation counts as time.
settings.register_profile("widegram", derandomize=True, deadline=None)
settings.load_profile("widegram")
