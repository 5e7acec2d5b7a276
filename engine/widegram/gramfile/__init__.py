"""The HDF5 file of a gram matrix: created whole, filled tile by tile, safe against kills."""

from __future__ import annotations

from widegram.gramfile.exporting import export
from widegram.gramfile.header import Header
from widegram.gramfile.opening import create
from widegram.gramfile.verifying import VerifyReport, verify
from widegram.gramfile.view import GramFile
from widegram.gramfile.writing import GramWriter, open_for_resume
from widegram.tiling import TileGrid

__all__ = [
    "GramFile",
    "GramWriter",
    "Header",
    "TileGrid",
    "VerifyReport",
    "create",
    "export",
    "open_for_resume",
    "verify",
]
