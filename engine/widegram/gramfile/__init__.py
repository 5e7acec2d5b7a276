"""The HDF5 file of a gram matrix: created whole, filled tile by tile, safe against kills."""

from __future__ import annotations

from typing import TYPE_CHECKING

from widegram.gramfile.header import Header
from widegram.gramfile.opening import create
from widegram.machine.first_use import at_first_use
from widegram.tiling import TileGrid

if TYPE_CHECKING:
    from widegram.gramfile.exporting import export
    from widegram.gramfile.verifying import VerifyReport, verify
    from widegram.gramfile.view import GramFile
    from widegram.gramfile.writing import GramWriter, open_for_resume

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

# What only fills a file neither reads matrices nor looks for damage.
__getattr__ = at_first_use(
    __name__,
    {
        "GramFile": "view",
        "GramWriter": "writing",
        "VerifyReport": "verifying",
        "export": "exporting",
        "open_for_resume": "writing",
        "verify": "verifying",
    },
)
