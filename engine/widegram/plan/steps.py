"""The steps of a group: typed, with all that a backend needs to run them.

A step runs on planes, at the displacements of its column of :attr:`~widegram.plan.program.Program.
active`. The kinds of steps are the classes here; what one reads or fills besides planes (stores,
factors of images, sums, results) stands in it once :func:`resolved` has laid it out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple

from widegram.activations import Formula
from widegram.plan.counted import Counted
from widegram.plan.graph_building import Node
from widegram.plan.groups import Group
from widegram.plan.joined import Multiply
from widegram.plan.masks import Mask, Pair
from widegram.plan.operations import Add, Affine, Copy, Gather, Input, Output, Reduce
from widegram.plan.stores import Store


@dataclass(frozen=True)
class Value:
    """A plane.

    * ``node``: the one whose value it is
    * ``shape``: of the image that it lives on
    * ``sigma``: base displacements (rows, columns) to one of its own
    * ``slot``: its buffer, -1 before buffers are given out
    """

    node: int = field(compare=False)
    shape: Pair
    sigma: Pair
    slot: int = -1

    @property
    def lattice(self) -> tuple[Pair, Pair]:
        """What values of one buffer have in common."""
        return self.shape, self.sigma

    def at(self, slot: int) -> Value:
        """This value in a buffer."""
        return Value(self.node, self.shape, self.sigma, slot)


@dataclass(frozen=True)
class Step:
    """One operation on planes.

    * ``node``: whose value it makes, loads, keeps or gives out.
    * ``out``: the value made, None where that leaves the planes.
    * ``inputs``: the values read.
    * ``at``: where its factors, sums or results stand, counted per image or per pair: what moves
      on where steps repeat.
    """

    kind: ClassVar[str]
    node: int = field(compare=False)
    out: Value | None
    inputs: tuple[Value, ...]
    at: int = 0

    def signature(self) -> Any:
        """Equal for steps that differ by their ``at`` alone."""
        return replace(self, at=0)


@dataclass(frozen=True)
class Making(Step):
    """A step that makes a value of the group."""

    out: Value


@dataclass(frozen=True)
class MakeInput(Making):
    """The products of the inputs' pixels."""

    kind: ClassVar[str] = "input"


@dataclass(frozen=True)
class Load(Making):
    """A value from its store; ``scale``: what a sum that is kept is to be multiplied by."""

    kind: ClassVar[str] = "load"
    store: Store = field(kw_only=True)
    scale: float = field(default=1.0, compare=False)

    def signature(self) -> Any:
        return replace(self, at=0, store=self.store.shown)


@dataclass(frozen=True)
class Window(Making):
    """A convolution, and the activation of node ``act`` behind it where it has a formula; a second
    input is added to the result. ``hides``: as of :class:`Point`."""

    kind: ClassVar[str] = "window"
    affine: Affine = field(kw_only=True)
    formula: Formula | None = None
    act: int = field(default=-1, compare=False)
    hides: bool = False

    @property
    def n_factors(self) -> int:
        """The number of factors of an image that it reads at each pixel."""
        return (self.formula.n_factors if self.formula else 0) + self.hides

    def signature(self) -> Any:
        return replace(self, at=0, formula=None), self.formula and shown(self.formula)


@dataclass(frozen=True)
class Point(Making):
    """The activation of node ``act``. ``hides``: K and T behind it are multiplied by one factor
    more of each image, which stands behind those of the formula."""

    kind: ClassVar[str] = "point"
    formula: Formula = field(kw_only=True)
    act: int = field(default=-1, compare=False)
    hides: bool = False

    @property
    def n_factors(self) -> int:
        """The number of factors of an image that it reads at each pixel."""
        return self.formula.n_factors + self.hides

    def signature(self) -> Any:
        return type(self), self.out, self.inputs, shown(self.formula)


@dataclass(frozen=True)
class Sum(Making):
    """The sum of two values."""

    kind: ClassVar[str] = "add"


@dataclass(frozen=True)
class Product(Making):
    """The product of two values, T by the product rule."""

    kind: ClassVar[str] = "multiply"


@dataclass(frozen=True)
class Storing(Step):
    """A step that fills a store."""

    store: Store = field(kw_only=True)

    def signature(self) -> Any:
        return replace(self, at=0, store=self.store.shown)


@dataclass(frozen=True)
class Keeping(Storing):
    """A value to its store; ``every``: of which rows and columns, 1 for all of them."""

    kind: ClassVar[str] = "copy"
    every: Pair = (1, 1)


@dataclass(frozen=True)
class Pooling(Storing):
    """Sums over windows of both images, added to the pooled planes."""

    kind: ClassVar[str] = "pool"
    pool: Gather = field(kw_only=True)


@dataclass(frozen=True)
class Reducing(Storing):
    """The sum over all pixels, added to that of other planes; ``scale`` times it is the value."""

    kind: ClassVar[str] = "reduce"
    scale: float = field(kw_only=True)


@dataclass(frozen=True)
class Counting(Reducing):
    """A reduction in which pairs of pixels count as often as ``counted`` says."""

    kind: ClassVar[str] = "count"
    counted: Counted = field(kw_only=True)


@dataclass(frozen=True)
class Result(Step):
    """The kernel."""

    kind: ClassVar[str] = "output"


def shown(formula: Formula) -> Any:
    """What the code of a formula depends on."""
    return formula.code, formula.constants, formula.n_factors


class Planned(NamedTuple):
    """A step, and the displacements of ``value`` (made or read) at which it runs."""

    step: Step
    value: Value
    mask: Mask


def steps_of(nodes: tuple[Node, ...], group: Group, masks: list[Mask]) -> list[Planned]:
    """What a group does, in order, as far as it is needed; formulas are the operations' own."""
    return _Writer(nodes, group, masks).run()


class _Writer:
    def __init__(self, nodes: tuple[Node, ...], group: Group, masks: list[Mask]) -> None:
        self.nodes, self.group, self.masks = nodes, group, masks
        self.readers: list[list[int]] = [[] for _ in nodes]
        for k, node in enumerate(nodes):
            for j in node.inputs if masks[k].any() else ():
                self.readers[j].append(k)
        # Nodes whose planes are another's.
        self.alias: dict[int, int] = {}
        self.found: list[Planned] = []

    def run(self) -> list[Planned]:
        done: set[int] = set()
        for i in self.group.members:
            if i in done or not self.masks[i].any() or self.unread(i):
                continue
            end = self.make(i)
            done.add(end)
            for k in self.readers[end]:
                self.keep(k, self.alias.get(end, end))
        return self.found

    def unread(self, i: int) -> bool:
        """Whether a value is stored and read from its store alone."""
        readers = [self.nodes[k].operation for k in self.readers[i]]
        stored = self.nodes[i].operation.stored
        return stored and bool(readers) and all(reader.at_once for reader in readers)

    def value(self, i: int) -> Value:
        return Value(i, self.nodes[i].shape, self.group.sigma[i])

    def add(self, step: Making) -> None:
        self.found.append(Planned(step, step.out, self.masks[step.out.node]))

    def make(self, i: int) -> int:
        """Add the steps of node i; the node that they end with."""
        node, out = self.nodes[i], self.value(i)
        inputs = tuple(self.value(self.alias.get(j, j)) for j in node.inputs
                       if not node.operation.stored)  # fmt: skip
        match node.operation:
            case Input():
                self.add(MakeInput(i, out, ()))
            case operation if operation.stored:
                store = Store(node.shape, operation.reduced)
                self.add(Load(i, out, (), store=store, scale=operation.sum_scale))
            case Affine() as affine:
                return self.window(i, affine, inputs)
            case operation if operation.formula is not None:
                self.add(Point(i, out, inputs, formula=operation.formula, act=i))
            case Add():
                self.add(Sum(i, out, inputs))
            case Multiply():
                self.add(Product(i, out, inputs))
            case Output():
                self.found.append(Planned(Result(i, None, inputs), inputs[0], self.masks[i]))
            case _:
                self.alias[i] = inputs[0].node
        return i

    def window(self, i: int, affine: Affine, inputs: tuple[Value, ...]) -> int:
        """A convolution, with the activation that is its only reader."""
        end, act, formula = i, -1, None
        if len(self.readers[i]) == 1:
            (reader,) = self.readers[i]
            formula = self.nodes[reader].operation.formula
            end, act = (reader, reader) if formula is not None else (i, -1)
        out = self.value(end)
        for part, mask, reads in affine.parts(self.masks[end]):
            read = inputs if reads else ()
            step = Window(end, out, read, affine=part, formula=formula, act=act)
            if mask.any():
                self.found.append(Planned(step, out, mask))
        return end

    def keep(self, k: int, source: int) -> None:
        """Fill the store of node k, if it is one, with value ``source``."""
        operation, value = self.nodes[k].operation, self.value(source)
        store, inputs = Store(self.nodes[k].shape, operation.reduced), (value,)
        step: Storing
        match operation:
            case Copy():
                step = Keeping(k, None, inputs, store=store)
            case Gather():
                step = Pooling(k, None, inputs, store=store, pool=operation)
            case Counted():
                scale = operation.scale
                step = Counting(k, None, inputs, store=store, scale=scale, counted=operation)
            case Reduce():
                step = Reducing(k, None, inputs, store=store, scale=operation.scale)
            case _:
                return
        mask = operation.needs(self.masks[k], value.shape) & self.masks[source]
        self.found.append(Planned(step, value, mask))


@dataclass(frozen=True)
class Places:
    """Where a backend keeps what steps read and fill besides planes.

    * ``formulas``: the one chosen for each node that applies one.
    * ``factors``: where those of a node begin, in numbers per image.
    * ``stores``: that of each node that is kept.
    * ``outputs``: the nodes whose kernels are results, in order.
    * ``fields``: 2 where T is carried, else 1.
    """

    formulas: Mapping[int, Formula]
    factors: Mapping[int, int]
    stores: Mapping[int, Store]
    outputs: Sequence[int]
    fields: int


def resolved(steps: Sequence[Step], places: Places) -> tuple[Step, ...]:
    """The steps with formulas, stores and places."""
    return tuple(_resolved(step, places) for step in steps)


def _resolved(step: Step, places: Places) -> Step:
    match step:
        case Window(act=act) | Point(act=act) if act >= 0:
            return replace(step, formula=places.formulas[act], at=places.factors[act])
        case Load(node=node) | Storing(node=node):
            store = places.stores[node]
            return replace(step, store=store, at=store.offset if store.reduced else 0)
        case Result(node=node):
            return replace(step, at=places.outputs.index(node) * places.fields)
    return step
