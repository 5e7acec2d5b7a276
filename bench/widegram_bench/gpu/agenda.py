"""The parts of the run on a card in their order, the time each may take, the packages it needs.

What matters most comes first. Every part of the first half keeps some time whatever the parts
before it do: one that hangs costs its own limit and no more. The second half fills what is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from widegram_bench.gpu.cases import Case

_SMOKE = "forms_agree or zero_and_repeated"
# Tests of a card: the name of a part -> pytest's -k.
TESTS = {"smoke": _SMOKE, "golden values": "golden", "properties": f"not golden and not ({_SMOKE})"}
# Seconds: what the parts before it leave, the most it may take, the share of it for measuring (the
# rest is for starting, compiling, and stopping in time).
_TIMES = {
    "card": (10, 40, 1.0), "compiled": (30, 100, 0.9), "smoke": (25, 75, 1.0),
    "own": (18, 60, 0.2), "peer": (30, 90, 0.5),
    "profile": (15, 40, 0.8), "golden values": (50, 150, 1.0), "properties": (15, 50, 1.0),
    "bound": (10, 45, 1.0),
}  # fmt: skip
# Less is not worth a start; this much a part gets even where that takes from later ones.
SHORTEST, _FLOOR = 5.0, 10.0
_NEEDS = {
    "everything": ("numpy", "numba", "numba_cuda", "xxhash"),
    "tests": ("pytest", "h5py"),
    "peer": ("jax",),
}


@dataclass(frozen=True)
class AgendaPart:
    """A process of its own. ``certain``: time is kept for it."""

    kind: str
    case: Case | None = None
    certain: bool = True

    @property
    def key(self) -> tuple[str, ...]:
        """What :mod:`widegram_bench.gpu.part` takes besides the kind."""
        return self.case.key if self.case else ()

    @property
    def title(self) -> str:
        """What names it in the results."""
        return " ".join([self.kind, *self.key])

    @property
    def least(self) -> float:
        """Seconds that are kept for it."""
        return _TIMES[self.kind][0] if self.certain else 0.0

    @property
    def share(self) -> float:
        """The share of its limit that is for measuring."""
        return _TIMES[self.kind][2]

    @property
    def needs(self) -> str:
        """What its packages are listed under, besides those of every part."""
        return "tests" if self.kind in TESTS else self.kind


def plan(cases: Sequence[Case], tests: bool, peers: bool) -> list[AgendaPart]:
    """All parts; ``tests`` and ``peers``: those as well."""
    goals = [case for case in cases if case.target or case.ratio]
    parts = [AgendaPart("card"), *([AgendaPart("compiled")] if len(cases) > 1 else [])]
    parts += [AgendaPart("smoke")] if tests else []
    for case in goals:
        parts.append(AgendaPart("own", case))
        if peers and case.ratio:
            parts.append(AgendaPart("peer", case))
    parts.append(AgendaPart("profile"))
    parts += [AgendaPart("golden values"), AgendaPart("properties")] if tests else []
    rest = [AgendaPart("bound", case) for case in goals]
    rest += [AgendaPart("peer", c) for c in goals if peers and c.batches and not c.ratio]
    for case in (case for case in cases if case not in goals):
        rest.append(AgendaPart("own", case))
        rest += [AgendaPart("peer", case)] if peers and case.batches else []
    return parts + [AgendaPart(p.kind, p.case, certain=False) for p in rest]


def limit(part: AgendaPart, later: Sequence[AgendaPart], left: float) -> float:
    """Seconds that a part may take of those left, so that the later ones keep theirs; its share
    where there are too few for all."""
    left, kept = max(0.0, left), sum(other.least for other in later)
    wanted = part.least + kept
    fair = left - kept if left >= wanted else left * part.least / wanted
    return min(_TIMES[part.kind][1], max(fair, min(_FLOOR, left)))


def lacking() -> dict[str, str]:
    """What this Python has not: 'everything', 'tests' or 'peer' -> the names of packages."""
    absent = {
        need: [name.replace("_", "-") for name in names if find_spec(name) is None]
        for need, names in _NEEDS.items()
    }
    return {need: ", ".join(names) for need, names in absent.items() if names}
