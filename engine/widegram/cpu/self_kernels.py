"""Every image with itself, in double precision: variances, factors and diagonal entries.

At d = 0 an image with itself has K = q, the variance, so that each activation is evaluated at c = 1
exactly (:meth:`Formula.variance`), here in NumPy. Behind a pool or a global pool q also needs the
image's covariances at d != 0: those planes run through the engine, paired (a lane is an image),
with the d = 0 values handed in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass, replace
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from widegram.backends.self_runs import SelfRuns
from widegram.cpu.kept_tables import tables_of
from widegram.cpu.kernels.variants import LANES
from widegram.cpu.map_tables import planes_of
from widegram.cpu.together import is_little, results
from widegram.cpu.workspace import Workspace, aligned
from widegram.data.masked import is_masked
from widegram.data.scaled_rows import split
from widegram.machine.dtypes import FLOOR
from widegram.plan.attention import Attend, RootAttend
from widegram.plan.formulas import FactorLayout
from widegram.plan.graph_building import Node
from widegram.plan.maps import pairs
from widegram.plan.operation_base import Centre, Flags
from widegram.plan.operations import Input, Reduce
from widegram.plan.outside import Outside
from widegram.plan.plan import Plan, Schedule
from widegram.plan.program import Program
from widegram.plan.steps import Storing
from widegram.plan.stores import Store

Array = NDArray[np.float64]
_DTYPE = "float64"
_LANES = LANES[_DTYPE]
_PIXELS = 1 << 15
_SQUARES = 1024
# What a number takes in float64 over one of a pair in float32.
_COST = 4.0


@dataclass(frozen=True)
class _Run:
    """Some images on their way: the variances ``squares`` (n, h, w) of their pixels, of a list of
    inputs for each, their patterns (n, numbers and zeros), K and T of every node so far at d = 0,
    and the factors (n, F). ``visible``: the pixels (n, h, w) of every node so far that are, None
    where nothing is masked.
    """

    squares: Sequence[Array]
    patterns: Array
    values: dict[int, Centre]
    factors: Array
    outside: Outside
    visible: dict[int, Flags] | None

    def part(self, at: slice) -> _Run:
        """Some of the images, on their own from here on but for the factors."""
        visible = self.visible
        return _Run(
            [one[at] for one in self.squares], self.patterns[at],
            {i: (k[at], t[at]) for i, (k, t) in self.values.items()},
            self.factors[at], self.outside.part(at),
            None if visible is None else {i: flags[at] for i, flags in visible.items()},
        )  # fmt: skip


def is_pointwise(plan: Plan, schedule: Schedule) -> bool:
    """Whether images with themselves need no planes, but numbers at each pixel."""
    return all(len(p.displacements) == 1 for p in schedule.programs) and not any(
        (node.operation.accumulates or node.operation.at_once)
        and (mask.any() or isinstance(node.operation, Attend))
        for node, mask in zip(plan.nodes, schedule.masks, strict=True)
    )


class SelfKernelRunner:
    """Runs images against themselves. One per thread.

    ``outputs``: also compute the kernels. ``dtype``: of the factors, which sets the smallest
    standard deviation.
    """

    def __init__(self, plan: Plan, layout: FactorLayout, outputs: bool, dtype: str) -> None:
        self.plan, self.layout, self.outputs = plan, layout, outputs
        self.dtype, self.floor = dtype, FLOOR[dtype]
        self.schedule = plan.itself(outputs)
        self.needed = [bool(mask.any()) for mask in self.schedule.masks]
        self.pointwise = is_pointwise(plan, self.schedule)
        pixels = [math.prod(node.shape) for node in plan.nodes]
        # Element-layers of a pair in float32 that take as long as an image.
        self.cost = _COST * (4 * sum(pixels) if self.pointwise else plan.element_layers)
        # Images that are run together, but for what needs planes.
        self.each = 1 if self.pointwise else _LANES
        largest = max(n for n, node in zip(pixels, plan.nodes, strict=True) if not node.inputs)
        self.step = max(1, min(_SQUARES, _PIXELS // largest) // self.each) * self.each
        self.ahead = self._without_planes()
        if not self.pointwise:
            self.tables = tables_of(plan, self.schedule, layout, _DTYPE, paired=True)
            sizes = [node.shape[0] * node.shape[1] for node in plan.nodes]
            self.own = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
            self._allocate()

    def _without_planes(self) -> list[bool]:
        """Of each node whether its values at d = 0 follow from such values alone."""
        found: list[bool] = []
        for node in self.plan.nodes:
            made = node.operation
            stored = made.accumulates or made.at_once or isinstance(made, Reduce | Attend)
            alone = self.pointwise or not stored
            found.append(alone and all(found[j] for j in node.inputs))
        return found

    def _allocate(self) -> None:
        self.work = Workspace(self.tables, _DTYPE, paired=True)
        self.own_k, self.own_t = (aligned((int(self.own[-1]), _LANES), _DTYPE) for _ in range(2))

    def another(self) -> SelfKernelRunner:
        """This runner for another thread: tables are shared, working memory is not."""
        made = copy(self)
        if not made.pointwise:
            made._allocate()
        return made

    @property
    def nbytes(self) -> int:
        """Working memory of one runner."""
        if self.pointwise:
            return 0
        planes = Workspace.bytes(self.tables, _DTYPE)
        return planes + self.own_k.nbytes + self.own_t.nbytes

    def run(self, x: Array) -> SelfRuns:
        """Run images ``x`` (n, h, w, C), float64, with their patterns as
        :meth:`~widegram.data.scaled_rows.ScaledRows.whole` has them; vectors are (n, 1, 1, D)."""
        own = self.empty(len(x))
        for lo in range(0, len(x), self.step):
            self.fill(x[lo : lo + self.step], own, lo)
        return own

    @np.errstate(all="ignore")  # What leaves the range is counted as lost.
    def of_squares(self, squares: Array) -> SelfRuns:
        """Run vectors given by their mean squares (n,), which are masked where the vectors are."""
        own = self.empty(len(squares))
        for lo in range(0, len(squares), _SQUARES):
            part = squares[lo : lo + _SQUARES].reshape(-1, 1, 1)
            run = self._begin([part], [part[..., None]], np.empty((len(part), 0)))
            for program in self.schedule.programs:
                for i in program.group.members:
                    self._node(i, run)
            self._keep(own, lo, len(part), run)
        return own

    def _begin(self, squares: Sequence[Array], inputs: Sequence[Array], patterns: Array) -> _Run:
        """``inputs``: images (n, h, w, C), or each of a list, in which masked numbers are marked
        where the network has a mask."""
        outside = Outside(self.plan, self.layout, self.dtype)
        visible = None
        if self.plan.network.mask is not None:
            visible = {
                i: np.asarray(~is_masked(inputs[node.operation.part]).all(axis=-1))
                for i, node in enumerate(self.plan.nodes) if isinstance(node.operation, Input)
            }  # fmt: skip
        factors = np.empty((len(patterns), self.layout.total))
        return _Run(squares, patterns, {}, factors, outside, visible)

    def _inputs(self, x: Array) -> list[Array]:
        """Images (n, h, w, C), as they are or of each of a list of inputs (n, D)."""
        if not self.plan.parts:
            return [x]
        return [x[:, part.numbers].reshape(len(x), *part.shape) for part in self.plan.parts]

    def empty(self, n: int) -> SelfRuns:
        """Room for the results of n images."""
        kinds = len(self.plan.outputs)
        factors = aligned((n, self.layout.total + 1), self.dtype)
        factors[:, -1] = 0
        values = np.zeros((kinds, n)), np.zeros((kinds, n))
        return SelfRuns(factors, *values, np.zeros(n), whole=self.outputs)

    @np.errstate(all="ignore")
    def fill(self, x: Array, own: SelfRuns, lo: int) -> None:
        """Run at most ``step`` images; their results are ``lo`` onwards."""
        count = len(x)
        x, patterns = split(x, self.plan.channels)
        if lacking := -count % self.each:
            x, patterns = (
                np.concatenate([a, np.repeat(a[-1:], lacking, axis=0)]) for a in (x, patterns)
            )
        inputs = self._inputs(x)
        squares = [np.einsum("nhwc,nhwc->nhw", each, each) / each.shape[-1] for each in inputs]
        run = self._begin(squares, inputs, patterns)
        for program in self.schedule.programs:
            for i in program.group.members:
                if self.ahead[i]:
                    self._node(i, run)
        if self.pointwise:
            self._keep(own, lo, count, run)
            return
        for begin in range(0, count, _LANES):
            at = slice(begin, begin + _LANES)
            block = run.part(at)
            self._block(x[at], block)
            self._keep(own, lo + begin, min(_LANES, count - begin), block)

    def _block(self, x: Array, run: _Run) -> None:
        """The planes of as many images as there are lanes, and the values that follow from them."""
        lanes_x = aligned((*x.shape[1:], _LANES), _DTYPE)
        lanes_x[...] = np.moveaxis(x / np.sqrt(self.plan.divisor), 0, -1)
        self.work.clear()
        for n, program in enumerate(self.schedule.programs):
            for i in program.group.members:
                if not self.ahead[i]:
                    self._node(i, run)
            if len(program.steps):
                self._planes(n, program, lanes_x, run)

    def _keep(self, own: SelfRuns, lo: int, count: int, run: _Run) -> None:
        """Results of one block."""
        own.factors[lo : lo + count, :-1] = run.factors[:count]
        if not self.outputs:
            own.lost[lo : lo + count] = run.outside.worst(count)
        if self.outputs:
            for at, i in enumerate(self.plan.outputs):
                k, t = run.values[i]
                lost = run.outside.at(i, count)
                own.lost[lo : lo + count] = np.maximum(own.lost[lo : lo + count], lost)
                own.nngp[at, lo : lo + count] = k[:count, 0, 0]
                own.ntk[at, lo : lo + count] = t[:count, 0, 0]

    def _planes(self, n: int, program: Program, x: Array, run: _Run) -> None:
        for step in program.steps:
            # The storing steps read these; their own input, not what an alias stands for.
            for i in self.plan.nodes[step.node].inputs if isinstance(step, Storing) else ():
                node = self.plan.nodes[i]
                at = slice(self.own[i], self.own[i] + node.shape[0] * node.shape[1])
                self.own_k[at] = run.values[i][0].reshape(_LANES, -1).T
                self.own_t[at] = run.values[i][1].reshape(_LANES, -1).T
        lanes = self._lane_factors(run)
        self.work.run_itself(n, x, lanes, self.own_k, self.own_t, self.own)

    def _covariances(self, i: int) -> Array:
        """K (lanes, pixels, pixels) of images with themselves, of a value that is stored."""
        store, shape = self.tables.of[i], self.plan.nodes[i].shape
        there = pairs(planes_of(store, shape, self.tables.index), shape)
        pixels = shape[0] * shape[1]
        first = np.repeat(np.arange(pixels), np.diff(there.begin))
        values = self.work.scratch[store.offset :]
        found = np.empty((_LANES, pixels, pixels))
        for lane in range(_LANES):
            found[lane, first, there.second] = values[there.place * _LANES + lane]
        return found

    def _lane_factors(self, run: _Run) -> Array:
        """The factors so far, (F, lanes)."""
        lanes = aligned((max(self.layout.total, 1), _LANES), _DTYPE)
        lanes[: self.layout.total] = run.factors.T
        return lanes

    def _node(self, i: int, run: _Run) -> None:
        """Values (K, T), (n, h, w), of node i at d = 0, and its factors."""
        node, formula = self.plan.nodes[i], self.layout.formulas.get(i)
        if run.visible is not None and node.inputs:
            below = [run.visible[j] for j in node.inputs]
            run.visible[i] = node.operation.visible(below, node.shape)
            node = replace(node, operation=node.operation.seeing(below[0]))
        if formula is not None:
            q = node.operation.normalised(run.values[node.inputs[0]][0])
            made = formula.factors(q, self.floor)
            at = self.layout.offsets[i]
            n = len(run.patterns)
            size = made[0].size // n * len(made)
            run.factors[:, at : at + size] = np.moveaxis(made, 0, 1).reshape(n, -1)
        elif count := node.operation.numbers:
            at = self.layout.offsets[i]
            made = run.patterns[:, :count]
            if isinstance(node.operation, Attend):
                made = node.operation.coefficients(self._covariances(node.inputs[0]))
            elif isinstance(node.operation, RootAttend):
                made = node.operation.coefficients(len(run.patterns))
            # As the planes will have them.
            run.factors[:, at : at + count] = made.astype(self.dtype)
        if self.needed[i]:
            run.values[i] = self._value(i, node, run)
            run.outside.see(i, run.values)

    def _value(self, i: int, node: Node, run: _Run) -> Centre:
        operation = node.operation
        if isinstance(operation, Input):
            squares = run.squares[operation.part]
            return squares, np.zeros_like(squares)
        if not self.pointwise and isinstance(operation, Reduce):
            return self._sums(self.tables.of[i], operation.scale)
        if operation.at_once:
            self.work.run_map(i, self._lane_factors(run))
        if operation.accumulates or operation.at_once:
            return self._centre(self.tables.of[i])
        sources = [run.values[j] for j in node.inputs]
        return operation.at_zero(sources, node.shape, self.layout.formulas.get(i))

    def _sums(self, store: Store, scale: float) -> Centre:
        at = [store.offset, store.t_offset]
        found = [scale * self.work.sums[a : a + _LANES].reshape(-1, 1, 1) for a in at]
        return found[0], found[1] if self.plan.ntk else np.zeros_like(found[0])

    def _centre(self, store: Store) -> Centre:
        """The plane D = 0 of a pool's store."""
        h, w = store.shape
        plane = self.tables.index[store.index + (h - 1) * (2 * w - 1) + w - 1]
        found = []
        for offset in (store.offset, store.t_offset)[: 1 + self.plan.ntk]:
            at = offset + plane * _LANES
            part = self.work.scratch[at : at + h * w * _LANES].reshape(h, w, _LANES)
            found.append(np.moveaxis(part, -1, 0).copy())
        return found[0], found[1] if self.plan.ntk else np.zeros_like(found[0])


class SelfKernelPool:
    """Runners like :class:`SelfKernelRunner`, one to a thread of ``pool``.

    The working memory of all ``count`` of them takes at most ``memory`` bytes, but there is always
    one. What they compute does not depend on their number. Calls must not come from the pool's own
    threads.
    """

    def __init__(
        self, plan: Plan, layout: FactorLayout, outputs: bool, dtype: str,
        pool: ThreadPoolExecutor, threads: int, memory: int,
    ) -> None:  # fmt: skip
        first = SelfKernelRunner(plan, layout, outputs, dtype)
        most = memory // first.nbytes if first.nbytes else threads
        self.count = max(1, min(threads, most))
        self.first, self.pool = first, pool
        self._free: SimpleQueue[SelfKernelRunner] = SimpleQueue()
        for runner in (first, *(first.another() for _ in range(self.count - 1))):
            self._free.put(runner)

    def run(self, x: Array) -> SelfRuns:
        """Run images ``x`` (n, h, w, C), float64; vectors are (n, 1, 1, D)."""
        own, first = self.first.empty(len(x)), self.first
        step = first.step
        if not first.pointwise:  # every thread has some
            step = min(step, first.each * -(-len(x) // (first.each * self.count)))
        starts = range(0, len(x), step)

        def part(lo: int) -> None:
            runner = self._free.get()
            try:
                runner.fill(x[lo : lo + step], own, lo)
            finally:
                self._free.put(runner)

        here = is_little(len(x) * first.cost, self.count)
        for _ in results(self.pool, part, starts, here):
            pass
        return own
