"""The plan of a network: what every backend runs, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from widegram.machine.remembering import remembered
from widegram.network.inputs import InputPart, parts_of
from widegram.network.model import Network
from widegram.plan.graph import build_graph, is_vector
from widegram.plan.graph_building import Node
from widegram.plan.groups import Group, partition
from widegram.plan.masks import Mask, displacements
from widegram.plan.needs import needed
from widegram.plan.operation_base import Array
from widegram.plan.operations import Input, Output
from widegram.plan.program import Program, build_program
from widegram.plan.scales import degrees, scaled
from widegram.plan.steps import Point, Reducing, Step, Window
from widegram.validation.choices import KERNELS

# Of plans that are kept, together. What they make later, of an image with itself, is as much again.
_KEPT_BYTES = 2**23


@dataclass(frozen=True)
class Schedule:
    """Needs and programs for one purpose. ``programs`` are in the order in which they run."""

    masks: list[Mask]
    programs: tuple[Program, ...]


@dataclass(frozen=True)
class Plan:
    """A network planned into displacement planes.

    ``cross`` computes the kernel of two different inputs; :meth:`itself` what an input needs of
    itself: the variances of every activation and, if wanted, its own kernel values.
    ``outputs`` are the positions of the Output nodes, ``keys`` the names of the datasets they
    fill: "nngp", "ntk", or "depth/<l>/nngp" of a sweep, "head/<name>/nngp" of Readouts.
    """

    network: Network
    nodes: tuple[Node, ...]
    groups: tuple[Group, ...]
    get: tuple[str, ...]
    vector: bool
    cross: Schedule

    @property
    def ntk(self) -> bool:
        """Whether T is carried."""
        return "ntk" in self.get

    @property
    def channels(self) -> int:
        """Numbers of a pixel, all of a vector or of a list of inputs."""
        shape = self.network.input_shape
        return math.prod(shape) if self.vector else shape[-1]

    @cached_property
    def parts(self) -> tuple[InputPart, ...]:
        """Where each input of a list lies in its row; () where the input is none."""
        return parts_of(self.network.inputs)

    @cached_property
    def divisor(self) -> int | Array:
        """What an inner product of numbers is divided by: those of a pixel, of a list of inputs
        (D,) for each number."""
        if not self.parts:
            return self.channels
        return np.repeat([float(p.shape[-1]) for p in self.parts], [p.size for p in self.parts])

    @cached_property
    def outputs(self) -> tuple[int, ...]:
        return tuple(i for i, n in enumerate(self.nodes) if n.operation.read_out)

    @cached_property
    def exponents(self) -> tuple[int, ...]:
        """The exponent of every output, whose kernels come times 4^exponent."""
        operations = (self.nodes[i].operation for i in self.outputs)
        return tuple(o.exponent for o in operations if isinstance(o, Output))

    @cached_property
    def degrees(self) -> tuple[int, ...] | None:
        """The degree d of every output, with K(a x, b y) = (a b)^d K(x, y); None where not every
        operation of the network is homogeneous."""
        found = degrees(self.nodes)
        return None if found is None else tuple(found[i] for i in self.outputs)

    @cached_property
    def input_exponent(self) -> int:
        """All inputs are to be multiplied by 2^this, where they have no powers of their own."""
        return next(n.operation.exponent for n in self.nodes if isinstance(n.operation, Input))

    @cached_property
    def keys(self) -> tuple[tuple[str, int, str], ...]:
        """(dataset, position in ``outputs``, kernel) of everything that is computed."""
        found = []
        for n, i in enumerate(self.outputs):
            operation = self.nodes[i].operation
            assert isinstance(operation, Output)
            found += [(operation.end.path(kernel), n, kernel) for kernel in self.get]
        return tuple(found)

    def itself(self, outputs: bool) -> Schedule:
        """The schedule of an input with itself."""
        if outputs not in self._itself:
            masks = needed(self.nodes, outputs=outputs, variances=True)
            self._itself[outputs] = Schedule(masks, _programs(self.nodes, self.groups, masks))
        return self._itself[outputs]

    @cached_property
    def _itself(self) -> dict[bool, Schedule]:
        """The schedules that were asked for: several runners ask for the same."""
        return {}

    @cached_property
    def element_layers(self) -> int:
        """Elements times Conv or Dense layers that one entry costs."""
        return self._layers(range(len(self.nodes)))

    def _layers(self, members: Iterable[int]) -> int:
        """Elements times layers of some nodes."""
        return sum(
            self.nodes[i].operation.layers * _elements(self.nodes[i], self.cross.masks[i])
            for i in members
        )

    def bytes_per_pair(self, itemsize: int) -> int:
        """Working memory of one pair: plane buffers of the largest group, and all stores."""
        fields = 1 + self.ntk
        buffers = [sum(s.pixels for s in p.slots) * p.segments for p in self.cross.programs]
        stores = sum(
            _elements(node, mask)
            for node, mask in zip(self.nodes, self.cross.masks, strict=True)
            if node.operation.stored and not node.operation.reduced
        )
        return (max(buffers, default=0) + stores) * fields * itemsize

    def describe(self) -> dict[str, Any]:
        """The plan as JSON-ready data: stages with layers, shapes, displacements, and cost."""
        stages = []
        for program in self.cross.programs:
            members = [i for i in program.group.members if self.cross.masks[i].any()]
            stages.append(
                {
                    "torus": list(program.group.torus),
                    "displacements": len(program.displacements),
                    "steps": [_describe_step(self.nodes, step) for step in program.steps],
                    "values": [
                        {
                            "operation": type(self.nodes[i].operation).__name__,
                            "shape": list(self.nodes[i].shape),
                            "displacements": int(self.cross.masks[i].sum()),
                        }
                        for i in members
                    ],
                    "element_layers": self._layers(members),
                }
            )
        return {
            "stages": stages,
            "element_layers": self.element_layers,
            "bytes_per_pair": {
                "float32": self.bytes_per_pair(4),
                "float64": self.bytes_per_pair(8),
            },
        }


def build(
    network: Network,
    get: tuple[str, ...] = KERNELS,
    depths: tuple[int, ...] | None = None,
    dtype: str = "float64",
    one_shape: bool = False,
    largest: float = 1.0,
    received: float = 1.0,
) -> Plan:
    """Plan ``network`` for the kernels in ``get``, read out at ``depths`` of its Repeat.

    Constants are rounded to ``dtype``, the arithmetic of the planes. ``one_shape``: what strided
    convolutions make is stored, so that planes of one program have one shape. ``largest``: the
    largest variance of an input pixel, of which a homogeneous network does not depend;
    ``received``: the largest sum of absolute weights of the edges to a vertex of a pattern.

    Raises WidegramError for ``depths`` without exactly one top-level Repeat.
    """
    depths = None if depths is None else tuple(depths)
    of = network, depths, dtype, received
    if _is_left(*of):
        return _ordinary(*of, tuple(get), one_shape)
    graph = build_graph(*of)
    made = scaled(graph, dtype, largest)
    if made is graph:
        return _ordinary(*of, tuple(get), one_shape)
    return _planned(network, made, tuple(get), one_shape)


@remembered(_KEPT_BYTES)
def _is_left(
    network: Network, depths: tuple[int, ...] | None, dtype: str, received: float
) -> bool:
    """Whether the graph is left as it is whatever the inputs, each of which has its own power."""
    graph = build_graph(network, depths, dtype, received)
    return degrees(graph) is not None and scaled(graph, dtype, 1.0) is graph


@remembered(_KEPT_BYTES)  # a second kernel of a network of small images is mostly its plan
def _ordinary(
    network: Network, depths: tuple[int, ...] | None, dtype: str, received: float,
    get: tuple[str, ...], one_shape: bool,
) -> Plan:  # fmt: skip
    """The plan of inputs of ordinary size: the same for all of them."""
    return _planned(network, build_graph(network, depths, dtype, received), get, one_shape)


def _planned(
    network: Network, graph: tuple[Node, ...], get: tuple[str, ...], one_shape: bool
) -> Plan:
    nodes, groups = partition(graph, one_shape)
    masks = needed(nodes)
    cross = Schedule(masks, _programs(nodes, tuple(groups), masks))
    return Plan(network, nodes, tuple(groups), get, is_vector(network), cross)


def _programs(
    nodes: tuple[Node, ...], groups: tuple[Group, ...], masks: list[Mask]
) -> tuple[Program, ...]:
    return tuple(build_program(nodes, group, masks) for group in groups)


def _elements(node: Node, mask: Mask) -> int:
    """Pixel pairs of a value at the displacements of ``mask``."""
    d = np.abs(displacements(mask))
    return int(np.prod(np.array(node.shape) - d, axis=1).sum())


def _describe_step(nodes: tuple[Node, ...], step: Step) -> str:
    text = step.kind
    match step:
        case Window(affine=affine, act=act):
            text += affine.describe() + (nodes[act].operation.describe() if act >= 0 else "")
        case Point() | Reducing():
            text += nodes[step.node].operation.describe()
    return text
