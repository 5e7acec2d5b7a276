"""What is closed at the end of a block."""

from __future__ import annotations

from types import TracebackType
from typing import Self


class Closing:
    """The base of what has a ``close()``: a ``with`` block calls it, however the block ends."""

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
        self.close()
