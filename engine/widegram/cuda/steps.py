"""The steps of a program with everything that its source text needs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from widegram.activations import Formula
from widegram.cuda.factors import DeviceLayout
from widegram.cuda.kernel import SHARED_BYTES
from widegram.cuda.layout import Space, Store, Stores, space
from widegram.plan.masks import Pair
from widegram.plan.operations import Affine, Gather, Reduce
from widegram.plan.plan import Plan
from widegram.plan.program import STORING, Program


@dataclass(frozen=True)
class Value:
    """A plane: image shape, position among the space's kinds, buffer number."""

    shape: Pair
    kind: int
    slot: int


@dataclass(frozen=True)
class Job:
    """One step. ``number``: column of its active flag.

    ``at``: offset of its factors per image, of a reduced value's sums per pair, or its place in
    ``out`` per pair, counted in kernels; what moves on where steps repeat. ``out``: the value made
    (None for storing steps and outputs); ``inputs``: values read; ``store``: what is filled or
    loaded; ``every``: of which rows and columns, 1 for all of them.
    """

    kind: str
    number: int
    out: Value | None
    inputs: tuple[Value, ...]
    affine: Affine | None = None
    formula: Formula | None = None
    at: int = 0
    store: Store | None = None
    pool: Gather | None = None
    scale: float = 1.0
    every: Pair = (1, 1)

    def signature(self) -> Any:
        """Equal for steps with the same text but for their ``at``."""
        formula, store = self.formula, self.store
        shown = formula and (formula.code, formula.constants, formula.n_factors)
        kept = None if store is not None and store.reduced else store
        return replace(self, number=0, at=0, formula=None, store=kept), shown


@dataclass(frozen=True)
class Context:
    """What the kernels of a plan share; ``shared``: bytes of shared memory that a block may use."""

    plan: Plan
    layout: DeviceLayout
    stores: Stores
    dtype: str
    shared: int = SHARED_BYTES

    @property
    def fields(self) -> tuple[str, ...]:
        """'k', and 't' where T is carried."""
        return ("k", "t") if self.plan.ntk else ("k",)

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return self.plan.network.input_shape[-1]


def jobs_of(context: Context, program: Program) -> tuple[Space, list[Job]]:
    """The space of a program and its steps."""
    nodes = context.plan.nodes
    where = space(nodes, program)

    def value(i: int) -> Value:
        kind = where.kinds.index((nodes[i].shape, program.group.sigma[i]))
        return Value(nodes[i].shape, kind, program.slot_of[i])

    found = []
    for number, step in enumerate(program.steps):
        made = None if step.kind in (*STORING, "output") else value(step.out)
        operation = nodes[step.out].operation
        job = Job(step.kind, number, made, tuple(value(i) for i in step.inputs), step.affine)
        if step.act >= 0:
            job = replace(
                job, formula=context.layout.formulas[step.act], at=context.layout.offsets[step.act]
            )
        if step.kind in (*STORING, "load"):
            store = context.stores.of[step.out]
            job = replace(job, store=store, at=store.offset if store.reduced else 0)
        if step.kind == "reduce":
            assert isinstance(operation, Reduce)
            job = replace(job, scale=operation.scale)
        if step.kind == "pool":
            assert isinstance(operation, Gather)
            job = replace(job, pool=operation, scale=operation.scale)
        if step.kind == "output":
            job = replace(job, at=context.plan.outputs.index(step.out) * len(context.fields))
        found.append(job)
    return where, found


def in_place(jobs: list[Job], windows: bool) -> list[Job]:
    """The steps with buffers of their own: a result takes the place of an input read last.

    ``windows``: also that of a convolution's input, where a thread holds all it needs of it. Equal
    blocks of a network then use equal buffers, so that they can stand in a loop.
    """
    last: dict[int, int] = {}
    current: dict[int, int] = {}
    makers: list[list[int]] = []
    for n, job in enumerate(jobs):
        makers.append([current[value.slot] for value in job.inputs])
        for maker in makers[-1]:
            last[maker] = n
        if job.out is not None:
            current[job.out.slot] = n
    place: dict[int, int] = {}
    free: dict[int, list[int]] = {}
    out, used = [], 0
    for n, job in enumerate(jobs):
        inputs = tuple(
            replace(value, slot=place[maker])
            for value, maker in zip(job.inputs, makers[n], strict=True)
        )
        dying = {v.slot: v.kind for v, m in zip(inputs, makers[n], strict=True) if last[m] == n}
        apart = job.kind == "window" and not windows
        made = job.out
        if not apart:
            _release(free, dying)
        if made is not None:
            slots = free.setdefault(made.kind, [])
            if not slots:
                slots.append(used)
                used += 1
            place[n] = slots.pop(0)
            made = replace(made, slot=place[n])
            if n not in last:
                _release(free, {place[n]: made.kind})
        if apart:
            _release(free, dying)
        out.append(replace(job, inputs=inputs, out=made))
    return out


def _release(free: dict[int, list[int]], slots: dict[int, int]) -> None:
    """Give buffers (slot -> kind) back; the lowest is taken first."""
    for slot, kind in slots.items():
        free[kind] = sorted([*free.get(kind, []), slot])
