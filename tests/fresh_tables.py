"""Tables that are made anew, where a test changes what shapes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from widegram.cpu import kept_tables


@contextmanager
def fresh_tables() -> Iterator[None]:
    """Inside, no tables of before are known, and behind it none of those made inside."""
    kept_tables._kept.clear()
    try:
        yield
    finally:
        kept_tables._kept.clear()
