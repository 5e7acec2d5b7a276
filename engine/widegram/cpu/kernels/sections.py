"""Which section of a pixel's chain each operation belongs to, and their order in a turn."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from widegram.cpu.kernels.forms import Form
from widegram.cpu.kernels.recording import Recorded

# What a cycle has room for: instructions of a unit, and of all units. Others take no unit.
UNITS = {"load": "load", "fadd": "add", "fsub": "add", "fmul": "multiply", "fma": "multiply",
         "fdiv": "divide", "sqrt": "divide"}  # fmt: skip
_ROOM = {"load": 2, "add": 2, "multiply": 2, "divide": 1}
_WIDTH = 4


def cuts(nodes: Sequence[Recorded], form: Form) -> list[int]:
    """Where a form cuts the chain of a pixel, in cycles; waits are behind the beginning of its
    first division or root."""
    slow = [node.start for node in nodes if UNITS.get(node.name) == "divide"]
    return sorted([*form.cuts, *([min(slow) + 1] * form.waits if form.waits else [])])


def place(
    nodes: Sequence[Recorded], outputs: Sequence[Any], cuts: Sequence[int]
) -> dict[Recorded, int]:
    """Give every node its section; the last section in which each is used.

    A node stands where it can begin, and later where that costs neither time nor a register: what
    it is made of is there anyway.
    """
    last = len(cuts)
    for node in nodes:
        first = bisect_right(cuts, node.start) if node.section is None else node.section
        node.section = max([first, *(_section(n) for n in node.nodes if not n.address)])
    users: dict[Recorded, list[int]] = {node: [] for node in nodes}
    for value in outputs:
        if isinstance(value, Recorded):
            users[value].append(last)
    whole = max(node.start + node.cycles for node in nodes)
    behind = dict.fromkeys(nodes, 0)
    for node in reversed(nodes):
        behind[node] += node.cycles
        soonest = min(users[node], default=_section(node))
        later = soonest > _section(node) and behind[node] <= whole - cuts[soonest - 1]
        there = (n.address or max(users[n], default=0) >= soonest for n in node.nodes)
        if node.free or (later and node.name != "store" and (len(node.nodes) == 1 or all(there))):
            node.section = soonest
        for n in node.nodes:
            users[n].append(_section(node))
            behind[n] = max(behind[n], behind[node])
    return {node: max(users[node], default=_section(node)) for node in nodes}


def ordered(nodes: Sequence[Recorded]) -> list[Recorded]:
    """The order of a turn, all sections of which begin at once: what has the longest chain behind
    it in its section comes first, as far as there are units for it."""
    behind = dict.fromkeys(nodes, 0)
    for node in reversed(nodes):
        behind[node] += node.cycles
        for n in _before(node):
            behind[n] = max(behind[n], behind[node])
    left = sorted(
        (node for node in nodes if not node.address), key=lambda n: (-behind[n], n.section)
    )
    ready: dict[Recorded, int] = {}
    order: list[Recorded] = []
    now = 0
    while left:
        room, width = dict(_ROOM), _WIDTH
        for node in list(left):
            unit = UNITS.get(node.name)
            if unit is not None and not (width and room[unit]):
                continue
            if any(ready.get(n, now + 1) > now for n in _before(node) if not n.address):
                continue
            if unit is not None:
                room[unit] -= 1
                width -= 1
            ready[node] = now + node.cycles
            order.append(node)
            left.remove(node)
        now += 1
    return order


def _before(node: Recorded) -> list[Recorded]:
    """What comes before a node in the same section."""
    return [n for n in (*node.nodes, *node.after) if n.section == node.section]


def _section(node: Recorded) -> int:
    assert node.section is not None
    return node.section
