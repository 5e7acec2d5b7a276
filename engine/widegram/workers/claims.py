"""Which worker does which part of the work: spans of one order, and again what was lost."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

# A group that takes longer than this many times the usual one is given to a second worker too.
_LATE = 4.0


@dataclass(eq=False)
class Claim:
    """Some ``items`` that ``worker`` has since ``begun``; ``twice``: another one has them too."""

    items: list[int]
    worker: str
    begun: float
    twice: bool = False


@dataclass
class _Span:
    low: int
    high: int
    owner: str = ""

    def __len__(self) -> int:
        return self.high - self.low


@dataclass
class Claims:
    """Items 0 to ``count`` - 1, of which neighbours share data, given out to workers.

    Each worker goes through a span of its own, so that it meets the data again that it has; one
    that has none left takes half of the longest. What a worker lost comes first; at the end a group
    that does not come back is given to a second worker, and the first answer counts.
    """

    count: int
    left: int = field(init=False)
    usual: float = 0.0  # seconds of a group, the slowest so far
    patience: float = 1.0  # seconds that a group may take in any case

    def __post_init__(self) -> None:
        self.left = self.count
        self._spans = [_Span(0, self.count)]
        self._again: deque[int] = deque()
        self._done = bytearray(self.count)
        self._flying: list[Claim] = []
        self._stopped = False

    @property
    def in_work(self) -> bool:
        """Whether some worker has a group."""
        return bool(self._flying)

    @property
    def waiting(self) -> int:
        """Items that no worker has."""
        return sum(map(len, self._spans)) + len(self._again)

    def settle(self, workers: Sequence[str]) -> None:
        """Before anything is taken: these workers are there."""

    def fair(self, groups: int) -> float:
        """Items of a group that leaves work for others, who take ``groups`` at a time."""
        return self.waiting / groups

    def take(self, worker: str, most: int, now: float) -> Claim | None:
        """The next group of at most ``most`` items; None where nothing is left to begin."""
        if self._stopped:
            return None
        items: list[int] = []
        while self._again and len(items) < most:
            items.append(self._again.popleft())
        if not items:
            items = self._next(worker, most, now)
        if items:
            group = Claim(items, worker, now)
            self._flying.append(group)
            return group
        return self._late(worker, now)

    def finish(self, group: Claim, now: float) -> list[int]:
        """The items of a group that has come back which nobody has brought before."""
        self._drop(group)
        new = [item for item in group.items if not self._done[item]]
        for item in new:
            self._done[item] = 1
        self.left -= len(new)
        self.usual = max(self.usual, now - group.begun)
        return new

    def give_back(self, group: Claim) -> bool:
        """Give what no other worker has of a lost group to be done again.

        False, and nothing to be done, for a group that has come back.
        """
        if group not in self._flying:
            return False
        self._drop(group)
        elsewhere = {item for other in self._flying for item in other.items}
        self._again.extend(
            item for item in group.items if not self._done[item] and item not in elsewhere
        )
        return True

    def late(self, now: float) -> bool:
        """Whether some group takes so long that a second worker should have it."""
        return any(self._is_late(group, now) for group in self._flying)

    def stop(self) -> None:
        """Begin nothing more."""
        self._spans, self._stopped = [], True
        self._again.clear()

    def leave(self, worker: str) -> None:
        """Make the span of a worker that is gone anyone's."""
        for span in self._spans:
            if span.owner == worker:
                span.owner = ""

    def _next(self, worker: str, most: int, now: float) -> list[int]:
        self._spans = [span for span in self._spans if len(span)]
        if not self._spans:
            return []
        own = [s for s in self._spans if s.owner == worker]
        free = [s for s in self._spans if not s.owner]
        found = max(own or free or self._spans, key=len)
        if found.owner not in (worker, ""):
            # The second half: the owner goes on where it is.
            middle = found.low + len(found) // 2
            found.high, found = middle, _Span(middle, found.high)
            self._spans.append(found)
        found.owner = worker
        low, found.low = found.low, min(found.low + most, found.high)
        return list(range(low, found.low))

    def _late(self, worker: str, now: float) -> Claim | None:
        for group in self._flying:
            if group.worker != worker and not group.twice and self._is_late(group, now):
                group.twice = True
                second = Claim(list(group.items), worker, now, twice=True)
                self._flying.append(second)
                return second
        return None

    def _is_late(self, group: Claim, now: float) -> bool:
        return now - group.begun > max(_LATE * self.usual, self.patience)

    def _drop(self, group: Claim) -> None:
        if group in self._flying:
            self._flying.remove(group)
        for other in self._flying:
            if other.items == group.items:
                other.twice = False  # It is alone again.
