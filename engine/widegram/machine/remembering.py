"""Results of a function that are kept for the next call, bounded by the bytes that they hold."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy as np

from widegram.machine.byte_cache import ByteCache

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class _Weighed(NamedTuple):
    value: Any
    nbytes: int


def remembered(
    most: int,
) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]:
    """As :func:`functools.lru_cache`, by bytes in place of a count: results are kept while all of
    them hold at most ``most`` together; one that holds more by itself is made again each time.

    Arguments must be hashable and results never changed. Threads may share the function; two that
    ask for the same at once may both make it. The function's ``kept`` is its cache.
    """

    def decorate(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        kept: ByteCache[Any, _Weighed] = ByteCache(most)

        @wraps(function)
        def found(*args: Arguments.args, **named: Arguments.kwargs) -> Result:
            key = args, tuple(sorted(named.items()))
            known = kept.find(key)
            if known is not None:
                result: Result = known.value
                return result
            result = function(*args, **named)
            size = held_bytes(result)
            if size <= most:
                kept.keep(key, _Weighed(result, size))
            return result

        found.kept = kept  # type: ignore[attr-defined]  # an attribute of a function
        return found

    return decorate


def held_bytes(value: Any) -> int:
    """Bytes of an object and of all that it refers to, each counted once: arrays, containers and
    attributes; classes and functions are no part of it."""
    total = 0
    seen: set[int] = set()
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, type):
            continue
        seen.add(id(one))
        total += sys.getsizeof(one)
        if isinstance(one, np.ndarray):
            total += 0 if one.flags.owndata else one.nbytes
        elif isinstance(one, dict):
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, tuple | list | set | frozenset):
            waiting += one
        else:
            waiting += vars(one).values() if hasattr(one, "__dict__") else ()
    return total
