"""Inputs: opening them block by block, preparing raw data sets, drawing rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from widegram.data.inputs import Source, open_source
from widegram.machine.first_use import at_first_use

if TYPE_CHECKING:
    from widegram.data.applying import Applied, apply
    from widegram.data.preparing import Prepared, prepare
    from widegram.data.sampling import Sampled, sample

__all__ = [
    "Applied",
    "Prepared",
    "Sampled",
    "Source",
    "apply",
    "open_source",
    "prepare",
    "sample",
]

# What only computes kernels prepares no data.
__getattr__ = at_first_use(
    __name__,
    {
        "Applied": "applying",
        "Prepared": "preparing",
        "Sampled": "sampling",
        "apply": "applying",
        "prepare": "preparing",
        "sample": "sampling",
    },
)
