"""Which programs the patch form can hold, and the patch that needs the fewest instructions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import gcd

import numpy as np
from numpy.typing import NDArray

from widegram.cuda.context import Context
from widegram.cuda.factors import EXTRA
from widegram.cuda.generated import SHARED_BYTES, WARP, Ints
from widegram.cuda.registers import filled
from widegram.cuda.sums import Sums
from widegram.cuda.window_sums import windows
from widegram.plan.buffers import ANYWHERE, allocate
from widegram.plan.cells import Space, space
from widegram.plan.masks import Pair
from widegram.plan.program import Program
from widegram.plan.steps import Counting, Keeping, Point, Pooling, Step, Window
from widegram.plan.whole_planes import alike, slots, whole

# Registers that a thread may use; in float32 16 warps run at once on a multiprocessor with them.
REGISTERS = {"float32": 128, "float64": 136}
# Of these, the share of planes and edges that leaves enough for addresses and what is in flight.
_FOR_PLANES = {"float32": 76, "float64": 64}
_WORDS = {"float32": 1, "float64": 2}
# Bytes that one instruction loads at most.
VECTOR = 16
# Warps of a block share what is copied. One alone waits for it: flattened networks, a plane a pair,
# took 45 ns an entry so, 21 layers of 32 x 32, and 37 in strips, on an H200.
_LEAST_WARPS, _MOST_WARPS = 2, 8
# The text of a layer grows with a patch, and the instruction cache does not.
_MOST_PIXELS = 32
# Planes in memory go on for that many rows behind the last one, so that turned patches are whole.
_MOST_ROWS = EXTRA + 1
# Instructions of an element and layer that do not depend on the patch, about.
_FIXED = 28.0


@dataclass(frozen=True)
class Patch:
    """``rows`` x ``columns`` pixels a lane, ``down`` x ``along`` lanes a plane, ``side_by_side``
    planes a warp, ``warps`` warps a block."""

    rows: int
    columns: int
    down: int
    along: int
    side_by_side: int
    warps: int

    @property
    def lanes(self) -> int:
        """Lanes of a plane."""
        return self.down * self.along

    @property
    def planes(self) -> int:
        """Planes of a block."""
        return self.side_by_side * self.warps


def vector(patch: Patch, dtype: str) -> int:
    """Numbers of a row of a patch that one instruction loads."""
    return gcd(patch.columns, VECTOR // np.dtype(dtype).itemsize)


def fits(context: Context, program: Program) -> bool:
    """Whether a program can be written in this form."""
    return choose(context, program) is not None


def choose(context: Context, program: Program) -> Patch | None:
    """The patch of a program; None where it does not fit this form."""
    planes, steps = whole(space(program), context.steps(program))
    if not all(map(_held, steps)) or not alike(planes, steps):
        return None
    (((height, width), _),) = planes.lattices
    most = most_factors(steps)
    found = [
        (_cost(context, planes, patch, most), patch)
        for patch in _patches(height, width)
        if _registers(context, steps, patch) <= _FOR_PLANES[context.dtype]
        and _shared_bytes(context, steps, (height, width), patch, most) <= SHARED_BYTES
        and all(_whole_windows(step, patch) for step in steps)
    ]
    # The strip form, by the same estimate: two shuffles and halos a field, all factors one by one.
    strip = _FIXED + 3 * len(context.fields) + 2 * most
    found = [(cost, patch) for cost, patch in found if cost <= strip]
    # Of equal patches, narrow ones: lanes side by side then read their vectors from all banks.
    return min(found, key=lambda pair: (pair[0], pair[1].columns), default=(0.0, None))[1]


def _held(step: Step) -> bool:
    """Whether this form has the step: windows of 3 x 3 and of a pixel, planes kept whole, sums that
    count every pair of pixels once."""
    match step:
        case Window(affine=conv):
            return conv.window == (1, 1) or conv.lo == conv.hi == (1, 1)
        case Keeping(every=every):
            return every == (1, 1)
        case _:
            return not isinstance(step, Counting)


def most_factors(steps: Sequence[Step]) -> int:
    """The most factors that an image has at a pixel for one step."""
    formulas = [step.formula for step in steps if isinstance(step, Window | Point)]
    return max((formula.n_factors for formula in formulas if formula), default=1)


def grouped(base: NDArray[np.integer], patch: Patch) -> Ints:
    """Rows of the kernel's table in groups that are equal modulo (rows, columns)."""
    return filled(_groups(base, patch), patch.planes)


def _groups(base: NDArray[np.integer], patch: Patch) -> list[NDArray[np.integer]]:
    key = base[:, 0] % patch.rows * patch.columns + base[:, 1] % patch.columns
    return [base[key == value] for value in np.unique(key)]


def _patches(height: int, width: int) -> Iterator[Patch]:
    """All patches into which a plane can be cut, with all sizes of a block."""
    for rows in range(1, _MOST_ROWS + 1):
        for columns in range(1, _MOST_PIXELS // rows + 1):
            down, along = height // rows, width // columns
            whole = (down * rows, along * columns) == (height, width)
            if not whole or not 1 < down * along <= WARP:
                continue
            for warps in range(max(_LEAST_WARPS, -(-width // WARP)), _MOST_WARPS + 1):
                yield Patch(rows, columns, down, along, WARP // (down * along), warps)


def _registers(context: Context, steps: Sequence[Step], patch: Patch) -> int:
    """Registers that planes and edges take."""
    planes = slots(allocate(steps, ANYWHERE)[0]) * len(context.fields)
    cut = any(not conv.circular for conv in windows(steps))
    edges = patch.rows // 2 + patch.columns // 2 + 4 if cut else 0
    return (planes * patch.rows * patch.columns + edges) * _WORDS[context.dtype]


def _shared_bytes(
    context: Context, steps: Sequence[Step], shape: Pair, patch: Patch, factors: int
) -> int:
    """Shared memory of a block: two halves with factors of both images, and sums."""
    numbers = 4 * factors * shape[0] * shape[1]
    sums = Sums(context, steps, WARP * patch.warps)
    return numbers * np.dtype(context.dtype).itemsize + sums.nbytes


def _whole_windows(step: Step, patch: Patch) -> bool:
    """Whether a pool's windows lie inside patches, at least two of them along both axes.

    The planes of a block are at displacements that differ by whole patches; with two windows
    between them they add to different pooled planes.
    """
    if not isinstance(step, Pooling):
        return True
    sides = zip((patch.rows, patch.columns), step.pool.strides, strict=True)
    return all(side % stride == 0 and side >= 2 * stride for side, stride in sides)


def _use(space: Space, patch: Patch) -> float:
    """The share of the work on elements of displacements that count."""
    places = sum(len(group) + -len(group) % patch.planes for group in _groups(space.base, patch))
    return len(space.base) / places * patch.lanes * patch.side_by_side / WARP


def _cost(context: Context, space: Space, patch: Patch, factors: int) -> float:
    """Instructions of an element and layer, about: shuffles, vectors of factors, their copying."""
    ends = (patch.down > 1) / patch.rows + (patch.along > 1) / patch.columns
    vectors = 2 * factors / vector(patch, context.dtype)
    copies = 4 * factors * patch.lanes / (WARP * patch.warps)
    each = _FIXED + 2 * len(context.fields) * ends + vectors + copies
    return each / _use(space, patch)
