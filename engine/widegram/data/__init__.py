"""Inputs: opening them block by block, and preparing raw data sets."""

from __future__ import annotations

from widegram.data.source import Source, open_source

__all__ = ["Source", "open_source"]
