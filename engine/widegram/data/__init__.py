"""Inputs: opening them block by block, preparing raw data sets, drawing rows."""

from __future__ import annotations

from widegram.data.applying import Applied, apply
from widegram.data.inputs import Source, open_source
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
