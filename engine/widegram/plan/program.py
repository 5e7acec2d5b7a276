"""A group as a straight program of plane operations, with the displacements at which each runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from widegram.plan.graph import Node
from widegram.plan.groups import Group
from widegram.plan.masks import Mask, Pair, displacements
from widegram.plan.operations import (
    Act,
    Add,
    Affine,
    Copy,
    Gather,
    Input,
    Keep,
    Norm,
    Output,
    Reduce,
)

Kind = Literal["input", "load", "window", "point", "add", "copy", "pool", "reduce", "output"]
STORING = ("copy", "pool", "reduce")


@dataclass(frozen=True)
class Step:
    """One plane operation.

    ``out``: the node whose value it makes (for copy, pool and reduce: whose store it fills; for
    load: whose store it reads). ``inputs``: nodes whose planes it reads. ``act``: the Act or Norm
    node applied at the end, -1 without.
    """

    kind: Kind
    out: int
    inputs: tuple[int, ...] = ()
    affine: Affine | None = None
    act: int = -1


@dataclass(frozen=True)
class Slot:
    """A plane buffer shared by values of one shape: image shape, scale, halo (rows, columns)."""

    shape: Pair
    sigma: Pair
    lo: Pair
    hi: Pair


@dataclass(frozen=True)
class Program:
    """What one group does.

    ``displacements`` (n, 2): base displacements, on the torus where the group has one;
    ``active`` (n, steps): which steps run at each. ``slot_of``: buffer of each value.
    """

    group: Group
    steps: tuple[Step, ...]
    displacements: NDArray[np.int64]
    active: NDArray[np.bool_]
    slots: tuple[Slot, ...]
    slot_of: dict[int, int]

    @property
    def segments(self) -> int:
        """Rectangles that a buffer holds at once: those of a torus plane (numbered 2 (row half) +
        column half, so 0 and 2 where only rows wrap), or those of several displacements."""
        rows, cols = self.group.torus
        return 1 + 2 * bool(rows) + bool(cols)


def build_program(nodes: tuple[Node, ...], group: Group, masks: list[Mask]) -> Program:
    """The program of one group; empty where nothing of it is needed."""
    steps = _steps(nodes, group, masks)
    base, active = _schedule(nodes, group, steps, masks)
    slots, slot_of = _allocate(nodes, group, steps)
    return Program(group, steps, base, active, slots, slot_of)


def fuse_sums(nodes: tuple[Node, ...], program: Program) -> Program:
    """The program with each sum that is the only reader of a plain window made in one step with it:
    a window step whose second input is added to its result."""
    made = {step.out: n for n, step in enumerate(program.steps) if step.kind == "window"}
    readers = [i for step in program.steps for i in step.inputs]
    steps, dropped = list(program.steps), set()
    for n, step in enumerate(program.steps):
        for i, other in (step.inputs[::-1], step.inputs) if step.kind == "add" else ():
            window = program.steps[made[i]] if i in made else None
            if window is None or window.act >= 0 or readers.count(i) > 1 or n in dropped:
                continue
            steps[n] = Step("window", step.out, (*window.inputs, other), window.affine)
            dropped.add(made[i])
            break
    if not dropped:
        return program
    kept = [n for n in range(len(steps)) if n not in dropped]
    left = tuple(steps[n] for n in kept)
    slots, slot_of = _allocate(nodes, program.group, left)
    return replace(
        program, steps=left, active=program.active[:, kept], slots=slots, slot_of=slot_of
    )


def in_place(nodes: tuple[Node, ...], program: Program) -> Program:
    """The program with every value in the buffer of the first value that its step reads, where
    that one is not read again and has its shape."""
    last = {i: n for n, step in enumerate(program.steps) for i in step.inputs}
    same = {
        step.out: step.inputs[0]
        for n, step in enumerate(program.steps)
        if step.kind in ("window", "point") and last[step.inputs[0]] == n
    }
    slots, slot_of = _allocate(nodes, program.group, program.steps, same)
    return replace(program, slots=slots, slot_of=slot_of)


def _steps(nodes: tuple[Node, ...], group: Group, masks: list[Mask]) -> tuple[Step, ...]:
    readers = _readers(nodes)
    alias: dict[int, int] = {}
    fused: set[int] = set()
    steps: list[Step] = []

    def made(i: int) -> None:
        """Fill those stores that are needed and read value i."""
        for k in readers[i]:
            if not masks[k].any():
                continue
            match nodes[k].operation:
                case Copy():
                    steps.append(Step("copy", k, (alias.get(i, i),)))
                case Gather():
                    steps.append(Step("pool", k, (alias.get(i, i),)))
                case Reduce():
                    steps.append(Step("reduce", k, (alias.get(i, i),)))

    for i in group.members:
        if i in fused or not masks[i].any():
            continue
        inputs = tuple(alias.get(j, j) for j in nodes[i].inputs)
        match nodes[i].operation:
            case Input():
                steps.append(Step("input", i))
            case Gather() | Reduce() | Copy():
                steps.append(Step("load", i))
            case Affine() as affine:
                users = [k for k in readers[i] if masks[k].any()]
                if len(users) == 1 and isinstance(nodes[users[0]].operation, Act | Norm):
                    steps.append(Step("window", users[0], inputs, affine, users[0]))
                    fused.add(users[0])
                    made(users[0])
                    continue
                steps.append(Step("window", i, inputs, affine))
            case Act() | Norm():
                steps.append(Step("point", i, inputs, None, i))
            case Keep():
                alias[i] = inputs[0]
            case Add():
                steps.append(Step("add", i, inputs))
            case Output():
                steps.append(Step("output", i, inputs))
        made(i)
    return tuple(steps)


def _readers(nodes: tuple[Node, ...]) -> list[list[int]]:
    readers: list[list[int]] = [[] for _ in nodes]
    for k, node in enumerate(nodes):
        for j in node.inputs:
            readers[j].append(k)
    return readers


def _schedule(
    nodes: tuple[Node, ...], group: Group, steps: tuple[Step, ...], masks: list[Mask]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Base displacements in order (the centre first), and the steps active at each."""
    where: dict[tuple[int, int], list[int]] = {(0, 0): []}
    for n, step in enumerate(steps):
        if step.kind in STORING:
            value = step.inputs[0]
            mask = nodes[step.out].operation.needs(masks[step.out], nodes[value].shape)
            mask = mask & masks[value]
        else:
            value, mask = step.out, masks[step.out]
        d = displacements(mask) * np.array(group.sigma[value])
        for axis in (0, 1):
            if group.torus[axis]:
                d[:, axis] %= group.torus[axis]
        for key in {(int(a), int(b)) for a, b in d}:
            where.setdefault(key, []).append(n)
    base = sorted(where, key=lambda d: (d != (0, 0), d))
    active = np.zeros((len(base), len(steps)), dtype=np.bool_)
    for row, key in enumerate(base):
        active[row, where[key]] = True
    return np.array(base, dtype=np.int64), active


def _allocate(
    nodes: tuple[Node, ...],
    group: Group,
    steps: tuple[Step, ...],
    same: dict[int, int] | None = None,
) -> tuple[tuple[Slot, ...], dict[int, int]]:
    """Buffers: a value keeps its buffer to its last reader; equal shapes share.

    ``same``: values that take the buffer of another, which they read last, where shapes allow.
    """
    same = same or {}
    last: dict[int, int] = {}
    lo: dict[tuple[Pair, Pair], Pair] = {}
    hi: dict[tuple[Pair, Pair], Pair] = {}

    def key(i: int) -> tuple[Pair, Pair]:
        return nodes[i].shape, group.sigma[i]

    for n, step in enumerate(steps):
        for i in step.inputs:
            last[i] = n
            if step.affine is not None:
                lo[key(i)] = _larger(lo.get(key(i), (0, 0)), step.affine.lo)
                hi[key(i)] = _larger(hi.get(key(i), (0, 0)), step.affine.hi)
    slots: list[Slot] = []
    slot_of: dict[int, int] = {}
    free: dict[tuple[Pair, Pair], list[int]] = {}
    for n, step in enumerate(steps):
        taken = same.get(step.out)
        if taken is not None and key(taken) == key(step.out):
            slot_of[step.out] = slot_of[taken]
        elif step.kind not in (*STORING, "output"):
            taken = None
            kind = key(step.out)
            pool = free.setdefault(kind, [])
            if not pool:
                slots.append(Slot(*kind, lo.get(kind, (0, 0)), hi.get(kind, (0, 0))))
                pool.append(len(slots) - 1)
            slot_of[step.out] = pool.pop()
        for i in set(step.inputs):
            if last[i] == n and i != taken:
                free[key(i)].append(slot_of[i])
    return tuple(slots), slot_of


def _larger(a: Pair, b: Pair) -> Pair:
    return max(a[0], b[0]), max(a[1], b[1])
