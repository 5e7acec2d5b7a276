"""Inputs: opening them block by block, and preparing raw data sets."""

from __future__ import annotations

from widegram.data.preparing import Prepared, prepare
from widegram.data.source import Source, open_source

__all__ = ["Prepared", "Source", "open_source", "prepare"]
