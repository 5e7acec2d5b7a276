"""Arrays kept while there is room for them."""

from __future__ import annotations

import numpy as np

from widegram.machine.byte_cache import ByteCache


def numbers(n: int) -> np.ndarray:
    return np.zeros(n, dtype=np.uint8)


def test_the_least_recently_used_goes_first() -> None:
    cache: ByteCache[str, np.ndarray] = ByteCache(10)
    for key in "abc":
        cache.keep(key, numbers(3))
    assert cache.find("a") is not None  # now b is the oldest
    cache.keep("d", numbers(3))
    assert [key for key in "abcd" if cache.find(key) is not None] == ["a", "c", "d"]
    assert cache.nbytes == 9


def test_the_newest_stays_whatever_it_takes() -> None:
    cache: ByteCache[str, np.ndarray] = ByteCache(10)
    cache.keep("a", numbers(3))
    large = numbers(100)
    assert cache.keep("b", large) is large
    assert cache.find("a") is None
    assert cache.find("b") is large


def test_what_is_used_is_not_dropped() -> None:
    cache: ByteCache[str, np.ndarray] = ByteCache()
    for n, key in enumerate("abcd", 1):
        cache.keep(key, numbers(n))
    assert cache.shrink(5, used={"a", "c"}) == [2, 4]
    assert cache.shrink(0, used={"a", "c"}) == []
    assert cache.nbytes == 4
    cache.clear()
    assert cache.nbytes == 0
