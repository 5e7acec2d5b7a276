"""What is closed at the end of a block."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, Self

from widegram.errors import WidegramError


class Closing:
    """The base of what has a ``close()``, which a ``with`` block calls at its end.

    Where the block has failed, an error of ``close()`` does not take the place of the block's.
    """

    def close(self) -> None:
        """Give up what is held; closing twice is allowed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        with suppress(*([WidegramError] if error else [])):
            self.close()


class Closeable(Protocol):
    """What can be closed."""

    def close(self) -> None:
        """Give up what is held."""


class OnFailure:
    """A ``with`` block that calls ``undo``, one after another, where it fails, and not else.

    Any error and any stop is a failure, and is passed on; an error of ``undo`` does not take its
    place.
    """

    def __init__(self, *undo: Callable[[], object]) -> None:
        self._undo = undo

    def __enter__(self) -> None:
        """Nothing: what may have to be undone is done already."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            for undo in self._undo:
                with suppress(OSError, WidegramError):
                    undo()


class ClosedOnFailure(OnFailure):
    """Closes ``held`` where its block fails: what is open while its owner is being made, when
    nobody else would close it."""

    def __init__(self, held: Closeable) -> None:
        super().__init__(held.close)
