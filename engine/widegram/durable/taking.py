"""A finished file that takes the name of another, for good."""

from __future__ import annotations

from pathlib import Path

from widegram.durable import calls
from widegram.durable.outputs import file_system_errors
from widegram.machine import interrupts


def take_name(source: Path, target: Path) -> None:
    """Give the synced file ``source`` the name ``target``, in the same folder; on the disk before
    the return. A kill leaves the one file or the other under that name.

    Raises WriteFailed where the file system fails.
    """
    with file_system_errors(target):
        calls.rename(source, target)
        calls.sync_directory(target.parent)
    interrupts.wrote(target)
