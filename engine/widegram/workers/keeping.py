"""Which worker does which part of the work where each keeps what it needs for its own parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from widegram.workers.claims import Claim, Claims


@dataclass
class KeptClaims(Claims):
    """Claims of one round of many, all on the same items, which stay with their workers.

    ``owners``: of each item, '' where it has none; the list goes on from round to round. What a
    worker leaves behind is anyone's, and then stays with whoever took it; so is what waits for one
    whose work is late. ``patience``: long enough for a worker to fetch what an item needs.
    """

    owners: list[str] = field(default_factory=list)
    patience: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._spans = []
        self._unbegun = list(range(self.count))

    @property
    def waiting(self) -> int:
        """Items that no worker has."""
        return len(self._unbegun) + len(self._again)

    def settle(self, workers: Sequence[str]) -> None:
        """Give every item an owner among ``workers``, and each as many as the others, but for one;
        no more items move than that takes."""
        if not workers:
            return
        for item, owner in enumerate(self.owners):
            if owner not in workers:
                self.owners[item] = ""
        load = Counter({worker: self.owners.count(worker) for worker in workers})
        for item in range(self.count):
            least = min(workers, key=load.__getitem__)
            owner = self.owners[item]
            if not owner or load[owner] > load[least] + 1:
                self.owners[item] = least
                load[least] += 1
                load[owner] -= 1

    def fair(self, groups: int) -> float:
        """See :meth:`Claims.fair`: all that a worker has, as others have their own."""
        return self.waiting

    def take(self, worker: str, most: int, now: float) -> Claim | None:
        """See :meth:`Claims.take`; what is taken stays with ``worker``."""
        group = super().take(worker, most, now)
        for item in group.items if group is not None else ():
            self.owners[item] = worker
        return group

    def stop(self) -> None:
        """See :meth:`Claims.stop`."""
        super().stop()
        self._unbegun = []

    def leave(self, worker: str) -> None:
        """See :meth:`Claims.leave`."""
        for item, owner in enumerate(self.owners):
            if owner == worker:
                self.owners[item] = ""

    def _next(self, worker: str, most: int, now: float) -> list[int]:
        late = {group.worker for group in self._flying if self._is_late(group, now)} - {worker}
        for owners in ({worker}, {""}, late):
            found = [item for item in self._unbegun if self.owners[item] in owners][:most]
            if found:
                taken = set(found)
                self._unbegun = [item for item in self._unbegun if item not in taken]
                return found
        return []
