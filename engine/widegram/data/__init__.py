"""Inputs: opening them block by block, and preparing raw data sets."""

from __future__ import annotations

from widegram.data.inputs import Source, open_source
from widegram.data.preparing import Prepared, prepare

__all__ = ["Prepared", "Source", "open_source", "prepare"]
