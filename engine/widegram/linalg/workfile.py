"""Work files beside an output: only what this program left for the same problem is gone on with."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import Any

import h5py

from widegram.durable import discard_leftover
from widegram.durable.outputs import file_system_errors, is_own_plain
from widegram.durable.sealed import SealedFile
from widegram.errors import WidegramError

NOTHING_SAVED = "interrupted before anything was saved; run the same command again"


class StepClock:
    """How long the steps take after each of which work may be saved."""

    def __init__(self) -> None:
        self._begun, self._slowest = time.monotonic(), 0.0

    def begin(self) -> None:
        """The next step begins now."""
        self._begun = time.monotonic()

    def end(self) -> None:
        """A step has ended, and the next one begins."""
        now = time.monotonic()
        self._slowest, self._begun = max(self._slowest, now - self._begun), now

    def seconds_left(self) -> float:
        """Estimate of the time that the step in work still takes; infinite for the first."""
        return max(self._slowest - (time.monotonic() - self._begun), 0.0) or math.inf


def open_work_file(
    path: Path, format_: str, identity: dict[str, Any], discard_other: bool
) -> SealedFile | None:
    """An existing work file of the problem ``identity`` (attributes); None where there is none.

    One of another problem is removed with ``discard_other``, else refused, saying what differs.
    What is no plain file of this user with one name, or has not our mark, is refused and never
    touched; a damaged one is refused too.
    """
    if not os.path.lexists(path):
        return None
    if not (is_own_plain(path) and h5py.is_hdf5(path)):
        raise WidegramError(
            f"{path}: is in the way and no work file that this program left; move it elsewhere"
        )
    what = "a work file of this program for this output; move it elsewhere"
    file = SealedFile(path, format_, what, "remove it and run again")
    differing = [n for n, value in identity.items() if file.attributes.get(n) != value]
    if not differing:
        return file
    file.close()
    if not discard_other:
        raise WidegramError(
            f"{path}: belongs to another problem (another matrix, labels or regulariser: its "
            f"{differing[0]} differs); remove it, pass --overwrite, or give another --out"
        )
    path.unlink()
    return None


def remove_work_file(path: Path) -> None:
    """Remove a work file, if it is there, and what a kill left of one."""
    with file_system_errors(path):
        discard_leftover(path)
        path.unlink(missing_ok=True)
