"""New files that appear whole under their name, or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
from numpy.typing import NDArray

from widegram.durable.locks import being_written, in_use
from widegram.durable.outputs import check_target
from widegram.durable.part import Part
from widegram.durable.skeleton import Skeleton, Start, build
from widegram.machine import interrupts


@contextmanager
def new_file(path: str | Path, *, overwrite: bool = False, ours: bool = False) -> Iterator[Part]:
    """Yield the :class:`Part` that becomes ``path`` once the block has ended well.

    Its content is on the disk and was read back before the rename, and the rename is on the disk
    before the return. A ``path`` that is a symbolic link stays one: its target is replaced. If the
    block raises, the part is removed and ``path`` is as it was. ``ours`` says that the caller holds
    the lock of the file that is overwritten. Raises WidegramError for
    what :func:`widegram.durable.outputs.check_target` refuses, for a second process that is
    creating the same file, and for one that is writing the file to be replaced;
    WriteFailed where the file system fails.
    """
    path = Path(path)
    target = Path(os.path.realpath(path))
    check_target(path, overwrite)
    part = Part(path, target)
    try:
        check_target(path, overwrite)  # again, now that nobody else creates it
        if not ours and being_written(target):
            raise in_use(path)
        with interrupts.cleaning(part.remove):
            yield part
            part.finish()
        interrupts.wrote(path)
    finally:
        part.discard()


class NewHdf5:
    """An HDF5 file in the making: the blocks of its datasets go to their places as they come."""

    def __init__(self, part: Part, skeleton: Skeleton) -> None:
        self._part = part
        self.skeleton = skeleton
        part.allocate(skeleton.size)
        for offset, data in skeleton.segments:
            part.write(offset, data)

    def write(self, name: str, block: NDArray[Any], start: Start = None) -> None:
        """Put ``block`` into the reserved dataset ``name`` at index ``start`` (a row, or an index
        for each axis; None for the beginning). It is converted to the dataset's dtype; each element
        may be written once. Raises IndexError for a block that does not fit."""
        for offset, data in self.skeleton.extents[name].pieces(block, start):
            self._part.write(offset, data)


@contextmanager
def new_hdf5(
    path: str | Path,
    content: Skeleton | Callable[[h5py.File], None],
    *,
    overwrite: bool = False,
    ours: bool = False,
) -> Iterator[NewHdf5]:
    """Yield a :class:`NewHdf5` of a skeleton, or of the file that ``content`` makes in memory.

    ``content(file)`` gets an h5py.File: attributes and groups in the ordinary way, datasets by
    :func:`~widegram.durable.skeleton.reserve`; a reserved dataset to which nothing is written holds
    zeros. ``ours`` and errors as :func:`new_file`'s.
    """
    skeleton = content if isinstance(content, Skeleton) else build(content)
    with new_file(path, overwrite=overwrite, ours=ours) as part:
        yield NewHdf5(part, skeleton)


def write_bytes(path: str | Path, data: bytes, *, overwrite: bool = False) -> None:
    """Write a file held in memory; whole or not at all. Errors as :func:`new_file`'s."""
    with new_file(path, overwrite=overwrite) as part:
        part.write(0, data)
