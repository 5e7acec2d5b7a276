"""The HDF5 file of a gram matrix: created whole, filled tile by tile, safe against kills."""

from __future__ import annotations

from widegram.store.exporting import export
from widegram.store.layout import Header
from widegram.store.opening import create
from widegram.store.verifying import VerifyReport, verify
from widegram.store.view import GramFile
from widegram.store.writer import Writer, open_for_resume
from widegram.tiling import Grid

__all__ = [
    "GramFile",
    "Grid",
    "Header",
    "VerifyReport",
    "Writer",
    "create",
    "export",
    "open_for_resume",
    "verify",
]
