"""A new file under another name until it is whole, on the disk, and read back."""

from __future__ import annotations

import hashlib
import io
import os
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import xxhash

from widegram.closing import OnFailure
from widegram.durable import calls
from widegram.durable.locks import lock
from widegram.durable.outputs import file_system_errors, is_own_plain
from widegram.errors import WidegramError, WriteFailed
from widegram.machine import interrupts

_READ = 1 << 24


class Part:
    """A new file, ``NAME.<mark>.part`` beside the one to be: locked, and written at offsets.

    The mark is computed from the name. So a part that a killed process left is known as ours, and
    replaced. A file of any other name is never touched; what has this name but is no plain file of
    this user with one name is refused.

    * ``path``: what messages call the file
    * ``target``: its name with all links resolved

    Every method raises :class:`WriteFailed` where the file system fails.
    """

    def __init__(self, path: Path, target: Path) -> None:
        self.path, self.target = path, target
        self.part = part_name(target)
        self._end = 0
        self._written: dict[int, tuple[int, int]] = {}
        with file_system_errors(path):
            self._descriptor = _created(self.part, path)

    def allocate(self, size: int) -> None:
        """Give the file its size and its blocks, so that filling it cannot fill the disk."""
        with file_system_errors(self.path):
            calls.allocate(self._descriptor, size)
        self._end = max(self._end, size)

    def write(self, offset: int, data: calls.Bytes) -> None:
        """Put bytes at an offset. Each byte is written once, or the same span again."""
        view = memoryview(data).cast("B")
        if not len(view):
            return
        with file_system_errors(self.path):
            calls.write(self._descriptor, view, offset)
        self._written[offset] = (len(view), xxhash.xxh3_64_intdigest(view))
        self._end = max(self._end, offset + len(view))

    def stream(self) -> io.RawIOBase:
        """A write-only, sequential stream into the file, from its end on."""
        return _Stream(self)

    @property
    def end(self) -> int:
        """Size of the file so far."""
        return self._end

    def finish(self) -> None:
        """Sync the content, read it back, and give it its name for good."""
        with file_system_errors(self.path):
            calls.sync(self._descriptor)
            self._read_back()
            calls.rename(self.part, self.target)
            calls.sync_directory(self.target.parent)

    def _read_back(self) -> None:
        calls.forget(self._descriptor)
        if os.fstat(self._descriptor).st_size != self._end:
            raise WriteFailed(f"{self.path}: has another size than was written; try again")
        for offset, (length, digest) in sorted(self._written.items()):
            found = xxhash.xxh3_64()
            for at in range(offset, offset + length, _READ):
                interrupts.check()
                size = min(_READ, offset + length - at)
                found.update(calls.read(self._descriptor, size, at))
            if found.intdigest() != digest:
                raise WriteFailed(
                    f"{self.path}: the disk did not keep what was written (bytes {offset} to "
                    f"{offset + length}); nothing has this name now; check the disk"
                )

    def discard(self) -> None:
        """Remove the part, unless it has got its name, and give up the lock."""
        self.remove()
        with suppress(OSError):
            os.close(self._descriptor)

    def remove(self) -> None:
        """Remove the part, unless it has got its name; whoever writes to it still can."""
        with suppress(OSError):
            if same_file(self._descriptor, self.part):
                calls.unlink(self.part)


class _Stream(io.RawIOBase):
    """What :meth:`Part.stream` gives; neither seeks nor reads."""

    def __init__(self, part: Part) -> None:
        self._part = part

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._part.end

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self._part.write(self._part.end, view)
        return len(view)


def part_name(target: Path) -> Path:
    """The name of the part of a file."""
    mark = hashlib.blake2b(b"widegram part " + os.fsencode(target.name), digest_size=6).hexdigest()
    ending = f".{mark}.part"
    stem = os.fsencode(target.name)[: 255 - len(ending)]
    return target.with_name(os.fsdecode(stem) + ending)


def discard_leftover(target: Path) -> None:
    """Remove the part of ``target`` that a killed process of ours left; anything else stays."""
    with suppress(FileNotFoundError, WidegramError):
        _remove_leftover(part_name(target), target)


def same_file(descriptor: int, path: Path) -> bool:
    """Whether the open file is what has the name ``path`` now, and not through a link."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except OSError:
        return False


def _created(part: Path, path: Path) -> int:
    """A new, locked part; one of ours that a killed process left is removed first."""
    for _ in range(2):
        try:
            descriptor = calls.create(part)
        except FileExistsError:
            _remove_leftover(part, path)
            continue
        with OnFailure(partial(calls.unlink, part), partial(os.close, descriptor)):
            alone = lock(descriptor, path) and same_file(descriptor, part)
        if alone:
            return descriptor
        os.close(descriptor)
        break
    raise _being_created(path)


def _remove_leftover(part: Path, path: Path) -> None:
    if not is_own_plain(part):
        raise WidegramError(
            f"{part}: is in the way and no part that this program left; move it elsewhere"
        )
    descriptor = calls.open_for_update(part)
    try:
        if not (lock(descriptor, path) and same_file(descriptor, part)):
            raise _being_created(path)
        calls.unlink(part)
    finally:
        os.close(descriptor)


def _being_created(path: Path) -> WidegramError:
    return WidegramError(f"{path}: another process is creating this file; wait until it is done")
