"""Reading one item ahead of the one in use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from widegram.machine import interrupts

Item = TypeVar("Item")


def prefetched(fetch: Callable[[int], Item], count: int) -> Iterator[Item]:
    """fetch(0), ..., fetch(count - 1): a thread makes each while the one before is in use.

    At most two items are alive, so that ``fetch`` may write them to two buffers in turn.
    """
    with ThreadPoolExecutor(1) as reader:
        ahead = reader.submit(fetch, 0) if count else None
        for index in range(count):
            assert ahead is not None
            interrupts.check()
            item = ahead.result()
            if index + 1 < count:
                ahead = reader.submit(fetch, index + 1)
            yield item
