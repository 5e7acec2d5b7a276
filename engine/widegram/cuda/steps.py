"""The steps of a program with everything that its source text needs, and repetitions among them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from widegram.activations import Formula
from widegram.cuda.factors import DeviceLayout
from widegram.cuda.kernel import SHARED_BYTES
from widegram.cuda.layout import Space, Store, Stores, space
from widegram.cuda.writer import Writer
from widegram.plan.graph import Affine, Gather, Pair, Reduce
from widegram.plan.plan import Plan
from widegram.plan.program import STORING, Program

_LONGEST_PERIOD = 24


@dataclass(frozen=True)
class Value:
    """A plane: image shape, position among the space's kinds, buffer number."""

    shape: Pair
    kind: int
    slot: int


@dataclass(frozen=True)
class Job:
    """One step. ``number``: column of its active flag; ``at``: offset of its factors per image.

    ``out``: the value made (None for storing steps and outputs); ``inputs``: values read;
    ``store``: what is filled or loaded; ``every``: of which rows and columns, 1 for all of them;
    ``output``: position among the outputs.
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
    output: int = -1
    every: Pair = (1, 1)

    def signature(self) -> Any:
        """Equal for steps with the same text but for their number and their factors."""
        formula = self.formula
        shown = formula and (formula.code, formula.constants, formula.n_factors)
        return replace(self, number=0, at=0, formula=None), shown


@dataclass(frozen=True)
class Loop:
    """``times`` repetitions of ``jobs``; each adds len(jobs) to numbers, ``shift`` to factors."""

    jobs: tuple[Job, ...]
    times: int
    shift: tuple[int, ...]


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
            job = replace(job, store=context.stores.of[step.out])
        if step.kind == "reduce":
            assert isinstance(operation, Reduce)
            job = replace(job, scale=operation.scale)
        if step.kind == "pool":
            assert isinstance(operation, Gather)
            job = replace(job, pool=operation, scale=operation.scale)
        if step.kind == "output":
            job = replace(job, output=context.plan.outputs.index(step.out))
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


def rolled(jobs: list[Job]) -> list[Job | Loop]:
    """The steps with repeated runs as loops, so that a network's text does not grow with depth."""
    out: list[Job | Loop] = []
    n = 0
    while n < len(jobs):
        best = (0, 1, 1)
        for period in range(1, min(_LONGEST_PERIOD, (len(jobs) - n) // 2) + 1):
            times = _repeats(jobs, n, period)
            best = max(best, ((times - 1) * period, times, -period))
        saved, times, period = best[0], best[1], -best[2]
        if not saved:
            out.append(jobs[n])
            n += 1
            continue
        first, second = jobs[n : n + period], jobs[n + period : n + 2 * period]
        shift = tuple(b.at - a.at for a, b in zip(first, second, strict=True))
        out.append(Loop(tuple(first), times, shift))
        n += times * period
    return out


def write_steps(write: Writer, jobs: list[Job], one: Callable[[Job, str], None]) -> None:
    """Write all steps, repeated runs as loops; ``one`` writes a step, given where its factors are
    in an image's."""
    for item in rolled(jobs):
        if isinstance(item, Job):
            one(item, str(item.at))
            continue
        with _loop_over(write, item) as places:
            for job, at in zip(item.jobs, places, strict=True):
                one(job, at)


@contextmanager
def _loop_over(write: Writer, loop: Loop) -> Iterator[list[str]]:
    """A loop over repetitions; gives the offset of each job's factors in the current one.

    Where all factors move on by the same number, that is what the loop counts in: no product is
    left for the compiler to take out.
    """
    r, moving = write.name("r"), {shift for shift in loop.shift if shift}
    step = next(iter(moving)) if len(moving) == 1 else 1
    write(f"{r} = 0")
    with write.block(f"while {r} < {loop.times * step}:"):
        turns = {0: "", step: f" + {r}"}
        yield [
            f"{job.at}{turns.get(shift, f' + {r} * {shift // step}')}"
            for job, shift in zip(loop.jobs, loop.shift, strict=True)
        ]
        write(f"{r} += {step}")


def _repeats(jobs: list[Job], n: int, period: int) -> int:
    """How often the ``period`` steps from n on stand one after the other."""
    times = 1
    while n + (times + 1) * period <= len(jobs):
        for q in range(period):
            one, two = jobs[n + q], jobs[n + times * period + q]
            step = jobs[n + period + q].at - one.at
            if one.signature() != two.signature() or two.at - one.at != times * step:
                return times
        times += 1
    return times
