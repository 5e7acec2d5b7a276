"""The least work that one entry of a plan needs, from the formulas themselves."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from widegram.activations import Formula
from widegram.cpu.kernels.processors import host
from widegram.cpu.kernels.vector_ops import VectorOps
from widegram.machine.dtypes import ITEMSIZE
from widegram.network import Network
from widegram.plan.formulas import choose_formulas, factor_layout
from widegram.plan.plan import build
from widegram.plan.steps import Window
from widegram.validation.choices import KERNELS

_NAMES = {"fadd": "add", "fsub": "add", "fmul": "multiply", "fdiv": "divide", "fma": "fma",
          "sqrt": "square_root"}  # fmt: skip


class _CountingBuilder:
    """Stands in for an IR builder: counts the operations it is asked for."""

    def __init__(self, counts: Counter[str]) -> None:
        self.counts = counts

    def __getattr__(self, name: str) -> Any:
        def emit(*args: Any, **kwargs: Any) -> None:
            self.counts[_NAMES.get(name, "other")] += 1

        return emit


class _Factors:
    """Factors of an image: any of them, for nothing."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __getitem__(self, n: int) -> None:
        return None


class _CountingOps(VectorOps):
    """The facade of operations, counting."""

    def __init__(self, dtype: str) -> None:
        self.counts: Counter[str] = Counter()
        super().__init__(_CountingBuilder(self.counts), dtype, host())

    def _intrinsic(self, name: str, *args: Any) -> None:
        self.counts[_NAMES.get(name, "other")] += 1

    def series(self, c: Any, fx: Any, fy: Any) -> tuple[None, None]:
        terms = fx.count - 1
        self.counts["fma"] += 2 * terms
        self.counts["multiply"] += terms
        return None, None


def operations(formula: Formula, dtype: str, ntk: bool) -> Counter[str]:
    """Vector operations of one activation on one element: kind -> count."""
    ops = _CountingOps(dtype)
    factors = _Factors(formula.n_factors)
    _, slope = formula.dual(ops, None, factors, factors, [None] * formula.n_constants)
    if ntk:
        ops.counts["multiply"] += 1
    del slope
    return ops.counts


def least_work(
    network: Network, dtype: str, get: tuple[str, ...] = KERNELS
) -> dict[str, Any]:
    """What one entry costs at least.

    ``element_layers``; ``per_element``: operations by kind of the last activation with its window
    and affine map (a separable 3 x 3 window is 4 additions, of any other size 2 (a + b - 2) / ab
    less by running sums are not assumed); ``l1_bytes`` loaded and stored per element; ``bytes``
    read per entry from beyond the cache: the factors and pixels of x'.
    """
    plan = build(network, get, None, dtype)
    formulas = choose_formulas(plan, 1.0, dtype)
    fields = 1 + plan.ntk
    counts: Counter[str] = Counter()
    if formulas:
        counts += operations(list(formulas.values())[-1], dtype, plan.ntk)
    window = _last_window(plan.cross.programs)
    counts["add"] += fields * (window[0] - 1 + window[1] - 1)
    counts["fma"] += fields
    item = ITEMSIZE[dtype]
    return {
        "element_layers": plan.element_layers,
        "per_element": dict(sorted(counts.items())),
        "l1_bytes": item * (fields * (window[0] + 1) + 1),
        "bytes": item * (factor_layout(plan, formulas).total + math.prod(network.input_shape)),
    }


def _last_window(programs: Any) -> tuple[int, int]:
    found = (1, 1)
    for program in programs:
        for step in program.steps:
            if isinstance(step, Window):
                found = step.affine.window
    return found
