"""Which plane buffer each value of a program gets, and which steps need none between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from widegram.plan.hiding import Shown
from widegram.plan.masks import Pair
from widegram.plan.steps import Making, Point, Step, Sum, Value, Window


@dataclass(frozen=True)
class Slot:
    """A plane buffer shared by values of one shape: image shape, scale, halo (rows, columns)."""

    shape: Pair
    sigma: Pair
    lo: Pair = (0, 0)
    hi: Pair = (0, 0)

    @property
    def pixels(self) -> int:
        """Pixels of a plane with its halo."""
        (h, w), lo, hi = self.shape, self.lo, self.hi
        return (h + lo[0] + hi[0]) * (w + lo[1] + hi[1])


@dataclass(frozen=True)
class Sharing:
    """Which buffers values share.

    * ``reuse``: the values that a step reads whose buffers its result may take, read the last time.
    * ``lowest``: whether the lowest free buffer is taken, so that equal parts of a network have
      equal buffers; else the one that was freed last, which a cache still holds.
    """

    reuse: Callable[[Step], tuple[Value, ...]]
    lowest: bool


def _windows_and_points(step: Step) -> tuple[Value, ...]:
    return step.inputs[:1] if isinstance(step, Window | Point) else ()


# No result stands where something is still read.
APART = Sharing(lambda step: (), lowest=False)
# What a window or an activation makes takes the place of what it reads first.
IN_PLACE = Sharing(_windows_and_points, lowest=False)
# A result may take the place of anything that its step reads; where threads share the pixels of a
# plane, the windows' not.
ANYWHERE = Sharing(lambda step: step.inputs, lowest=True)
BUT_WINDOWS = Sharing(lambda step: () if isinstance(step, Window) else step.inputs, lowest=True)


def allocate(
    steps: Sequence[Step], sharing: Sharing = APART
) -> tuple[tuple[Step, ...], tuple[Slot, ...]]:
    """The steps with a buffer for every value, and the buffers.

    A value keeps its buffer to its last reader; values of one shape and scale share.
    """
    last = {value.node: n for n, step in enumerate(steps) for value in step.inputs}
    place: dict[int, int] = {}
    free: dict[tuple[Pair, Pair], list[int]] = {}
    lattices: list[tuple[Pair, Pair]] = []
    placed: list[Step] = []

    def release(values: Iterable[Value]) -> None:
        for value in values:
            free.setdefault(value.lattice, []).append(value.slot)

    def taken(lattice: tuple[Pair, Pair]) -> int:
        slots = free.get(lattice)
        if not slots:
            lattices.append(lattice)
            return len(lattices) - 1
        return slots.pop(slots.index(min(slots)) if sharing.lowest else -1)

    for n, step in enumerate(steps):
        inputs = tuple(value.at(place[value.node]) for value in step.inputs)
        early = {value.node for value in sharing.reuse(step)}
        read = {value.node: value for value in inputs}
        dying = [read[node] for node in sorted(read) if last[node] == n]
        release(value for value in dying if value.node in early)
        out = step.out
        if isinstance(step, Making):
            node = step.out.node
            if node not in place:
                place[node] = taken(step.out.lattice)
            out = step.out.at(place[node])
            if node not in last:
                release([out])
        release(value for value in dying if value.node not in early)
        same = inputs == step.inputs and out == step.out
        placed.append(step if same else replace(step, inputs=inputs, out=out))
    lo, hi = _halos(placed)
    none = (0, 0)
    return tuple(placed), tuple(Slot(*g, lo.get(g, none), hi.get(g, none)) for g in lattices)


def _halos(
    steps: Sequence[Step],
) -> tuple[dict[tuple[Pair, Pair], Pair], dict[tuple[Pair, Pair], Pair]]:
    """What windows read around their sources, before and behind, by lattice."""
    lo: dict[tuple[Pair, Pair], Pair] = {}
    hi: dict[tuple[Pair, Pair], Pair] = {}
    for step in steps:
        if not isinstance(step, Window):
            continue
        for lattice in (value.lattice for value in step.inputs):
            lo[lattice] = _larger(lo.get(lattice, (0, 0)), step.affine.lo)
            hi[lattice] = _larger(hi.get(lattice, (0, 0)), step.affine.hi)
    return lo, hi


def _larger(a: Pair, b: Pair) -> Pair:
    return max(a[0], b[0]), max(a[1], b[1])


def fused_sums(steps: Sequence[Step]) -> dict[int, Step]:
    """The steps that are left, by their number, where each sum that is the only reader of a plain
    window is made in one step with it: the window's second input."""
    made, lone = makers(steps)
    left = dict(enumerate(steps))
    for n, step in enumerate(steps):
        for value, other in (step.inputs[::-1], step.inputs) if isinstance(step, Sum) else ():
            window = steps[made[value.node]]
            plain = isinstance(window, Window) and window.formula is None
            if not plain or value.node not in lone:
                continue
            left[n] = replace(window, node=step.node, out=step.out, inputs=(*window.inputs, other))
            del left[made[value.node]]
            break
    return left


def makers(steps: Sequence[Step]) -> tuple[dict[int, int], set[int]]:
    """The number of the last step that makes each node; the nodes that one step makes and one
    reads."""
    made = {step.out.node: n for n, step in enumerate(steps) if isinstance(step, Making)}
    makers = Counter(step.out.node for step in steps if isinstance(step, Making))
    readers = Counter(value.node for step in steps for value in step.inputs)
    return made, {node for node in made if makers[node] == readers[node] == 1}


def fused_hides(steps: Sequence[Step]) -> dict[int, Step]:
    """The steps that are left, by their number, where hiding masked pixels is one with the
    activation before it, whose only reader it is and behind whose factors its own stands; ``steps``
    are resolved."""
    made, lone = makers(steps)
    left = dict(enumerate(steps))
    for n, step in enumerate(steps):
        if not isinstance(step, Point) or not isinstance(step.formula, Shown):
            continue
        (value,) = step.inputs
        maker = left.get(made[value.node])
        if not isinstance(maker, Window | Point) or maker.formula is None or maker.hides:
            continue
        numbers = maker.formula.n_factors * value.shape[0] * value.shape[1]
        if value.node in lone and maker.at + numbers == step.at:
            left[n] = replace(maker, node=step.node, out=step.out, hides=True)
            del left[made[value.node]]
    return left
