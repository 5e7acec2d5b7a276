"""Messages of the library: the logger ``widegram``, silent unless the caller listens."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger("widegram")


@contextmanager
def announced(message: str, seconds: float = 1.5) -> Iterator[None]:
    """Log ``message``, unless it is empty, if the block is still running after ``seconds``."""
    if not message:
        yield
        return
    timer = threading.Timer(seconds, logger.info, (message,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
