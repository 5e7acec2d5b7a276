"""Arrays that are kept while there is room for them; the least recently used goes first."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Collection, Hashable
from threading import Lock
from typing import Generic, Protocol, TypeVar


class Sized(Protocol):
    """What takes memory."""

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        ...


Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value", bound=Sized)


class ByteCache(Generic[Key, Value]):
    """Values by key, together at most ``most`` bytes, but the newest one whatever it takes.

    Threads may share it.
    """

    def __init__(self, most: float = math.inf) -> None:
        self.most = most
        self._kept: OrderedDict[Key, Value] = OrderedDict()
        self._lock = Lock()

    @property
    def nbytes(self) -> int:
        """Bytes that are kept."""
        with self._lock:
            return self._bytes()

    def find(self, key: Key) -> Value | None:
        """The value of ``key``, which becomes the most recently used, or None."""
        with self._lock:
            value = self._kept.get(key)
            if value is not None:
                self._kept.move_to_end(key)
            return value

    def keep(self, key: Key, value: Value) -> Value:
        """Keep ``value``, and drop others while there is no room."""
        with self._lock:
            self._kept[key] = value
            self._kept.move_to_end(key)
            self._drop(self.most, {key})
        return value

    def shrink(self, most: float, used: Collection[Key] = ()) -> list[int]:
        """Drop values other than those ``used`` until at most ``most`` bytes are left, as far as
        that goes; the bytes of each."""
        with self._lock:
            return self._drop(most, used)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._kept.clear()

    def _bytes(self) -> int:
        return sum(value.nbytes for value in self._kept.values())

    def _drop(self, most: float, used: Collection[Key]) -> list[int]:
        dropped: list[int] = []
        over = self._bytes() - most
        if over <= 0:  # without a look at every key: hashes of networks take their time
            return dropped
        for key in [key for key in self._kept if key not in used]:
            if over <= 0:
                break
            dropped.append(self._kept.pop(key).nbytes)
            over -= dropped[-1]
        return dropped
