"""Sums over the windows of convolutions: how far they reach, and sums along a line of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from widegram.cuda.text_ops import TextOps
from widegram.plan.masks import Pair
from widegram.plan.operations import Affine
from widegram.plan.steps import Step, Window


@dataclass(frozen=True)
class Reach:
    """The pixels that windows take in before and behind their own, along rows and columns.

    ``rows_always``, ``columns_always``: whether every window larger than a pixel does so at all.
    """

    up: int = 0
    down: int = 0
    left: int = 0
    right: int = 0
    rows_always: bool = True
    columns_always: bool = True

    @property
    def rows(self) -> int:
        """Rows above and below."""
        return self.up + self.down

    @property
    def columns(self) -> int:
        """Columns to both sides."""
        return self.left + self.right


def windows(steps: Sequence[Step]) -> list[Affine]:
    """The convolutions whose windows are larger than a pixel."""
    found = [step.affine for step in steps if isinstance(step, Window)]
    return [affine for affine in found if affine.window != (1, 1)]


def reach(steps: Sequence[Step]) -> Reach:
    """How far the windows of a program reach."""
    found = windows(steps)
    if not found:
        return Reach()
    (up, left), (down, right) = (
        (max(pair[0] for pair in pairs), max(pair[1] for pair in pairs))
        for pairs in ([a.lo for a in found], [a.hi for a in found])
    )
    always = [all(a.window[axis] > 1 for a in found) for axis in (0, 1)]
    return Reach(up, down, left, right, *always)


def over_edge(ops: TextOps, edge: str, value: str, total: str) -> str:
    """``total`` and what comes over an edge: all of ``value``, or that times the edge's factor."""
    return ops.fma(edge, value, total) if edge else ops.add(value, total)


def sums_along(
    ops: TextOps, line: Sequence[str], edges: Sequence[str], sides: Pair = (1, 1)
) -> list[str]:
    """Sums of every number of a line with those next to it, ``sides``: how many before and behind.

    The first and the last of the line, as many, only take part. ``edges``: the factors of the edges
    between numbers, '' where an edge is never dead.
    """
    if sides == (1, 1):
        return _threes(ops, line, edges)
    before, behind = sides
    end = len(line) - behind
    # After k rounds, number n of ``later`` has what comes over the next k edges.
    later, earlier = dict(enumerate(line)), dict(enumerate(line))
    for k in range(1, behind + 1):
        wanted = range(before + behind - k, len(line) - k)
        later = {n: over_edge(ops, edges[n], later[n + 1], line[n]) for n in wanted}
    for k in range(1, before):
        wanted = range(k, end - before + k)
        earlier = {n: over_edge(ops, edges[n - 1], earlier[n - 1], line[n]) for n in wanted}
    if not before:
        return [later[n] for n in range(end)]
    return [over_edge(ops, edges[n - 1], earlier[n - 1], later[n]) for n in range(before, end)]


def _threes(ops: TextOps, line: Sequence[str], edges: Sequence[str]) -> list[str]:
    """Sums of three; two of them share the pair at an edge that is never dead."""
    found: list[str] = []
    while len(found) < len(line) - 2:
        n = len(found)
        before, one, two = line[n : n + 3]
        if n + 2 < len(line) - 1 and not edges[n + 1]:
            pair = ops.add(one, two)
            found.append(over_edge(ops, edges[n], before, pair))
            found.append(over_edge(ops, edges[n + 2], line[n + 3], pair))
        else:
            inner = over_edge(ops, edges[n], before, one)
            found.append(over_edge(ops, edges[n + 1], two, inner))
    return found
