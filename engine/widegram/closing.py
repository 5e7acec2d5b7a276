"""What is closed at the end of a block."""

from __future__ import annotations

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


class ClosedOnFailure:
    """A ``with`` block that closes ``held`` where it fails, by an error or a stop, and not else.

    For what is open while its owner is being made, when nobody else would close it. An error of
    ``close()`` does not take the place of the block's.
    """

    def __init__(self, held: Closeable) -> None:
        self._held = held

    def __enter__(self) -> None:
        """Nothing: it is open already."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            with suppress(WidegramError):
                self._held.close()
