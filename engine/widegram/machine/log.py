"""Messages of the library: the logger ``widegram``, silent unless the caller listens."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

logger = logging.getLogger("widegram")


@contextmanager
def announced(
    message: str, seconds: float = 1.5, first: Callable[[], bool] = lambda: True
) -> Iterator[None]:
    """Log ``message``, unless it is empty, if the block is still running after ``seconds`` and
    ``first``, asked then, says that nobody has said it before."""
    if not message:
        yield
        return

    def say() -> None:
        if first():
            logger.info(message)

    timer = threading.Timer(seconds, say)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
