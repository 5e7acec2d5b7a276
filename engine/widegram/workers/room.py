"""How many bytes may be on their way at once."""

from __future__ import annotations

import asyncio


class Room:
    """At most ``most`` bytes are taken at a time; what is larger gets all of them. For one event
    loop."""

    def __init__(self, most: int) -> None:
        self.most, self._used = most, 0
        self._changed = asyncio.Condition()

    async def take(self, size: int) -> None:
        """Wait for ``size`` bytes."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._used or self._used + size <= self.most)
            self._used += size

    def give(self, size: int) -> None:
        """``size`` bytes are free again."""
        if not size:
            return

        async def tell() -> None:
            async with self._changed:
                self._used -= size
                self._changed.notify_all()

        self._telling = asyncio.ensure_future(tell())
