"""The largest requests that are taken, checked before anything is expanded or allocated.

They lie far beyond use and far below what would keep a machine busy for hours by mistake: a
network of ten thousand layers is planned in a minute, its values lose all meaning before.
"""

from __future__ import annotations

LAYERS = 10_000
"""Layers of a network, each repeat counted."""

NESTING = 40
"""Residual and Repeat inside one another."""

NUMBERS = 2**31
"""Numbers of one input; a side of a window or a stride is bounded by it too."""

PIXELS = 2**22
"""Pixels of one image (2048 x 2048)."""

POOLED_PIXELS = 2**16
"""Pixels before a global pool (256 x 256), which couples all pairs of them."""

MATRIX = 2**24
"""Pairs of a pixel before and one behind a layer that maps every one to every other."""

MAGNITUDE = 1e75
"""Absolute value of a parameter of a layer: its fourth power is still a number."""

NETWORK_BYTES = 2**24
"""Size of a network file."""

PATH = 1000
"""Regularisers, times or other values of a list on the command line."""
