"""Settings shared by all tests."""

from __future__ import annotations

from hypothesis import settings

# Reproducible on every machine: fixed examples, and no deadline, since compilation counts as time.
settings.register_profile("widegram", derandomize=True, deadline=None)
settings.load_profile("widegram")
