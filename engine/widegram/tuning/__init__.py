"""Choosing a network by what its kernel says of the training data alone."""

from __future__ import annotations

from widegram.tuning.search import Search, tune

__all__ = ["Search", "tune"]
