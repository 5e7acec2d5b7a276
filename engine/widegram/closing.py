"""What is closed at the end of a block."""

from __future__ import annotations

from contextlib import suppress
from types import TracebackType
from typing import Self

from widegram.errors import WidegramError


class Closing:
    """The base of what has a ``close()``, which a ``with`` block calls at its end.

    Where the block has failed, an error of ``close()`` does not take the place of the block's.
    """

    def close(self) -> None:
        """Give up what is held; closing twice is allowed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(*([WidegramError] if error else [])):
            self.close()
