"""Runs generated kernels without a GPU: every thread of a block is a Python generator.

The same text is executed with a stand-in for ``numba.cuda``. Barriers and shuffles become
``yield``: all threads (of a block, of a warp) must arrive at the same place before any goes on.
"""

from __future__ import annotations

import ast
import math
import threading
import types
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np

WARP = 32


class _Waits(ast.NodeTransformer):
    """Barriers and shuffles as yields of what is waited for; sizes of arrays as lengths."""

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        if node.attr != "size":
            return node
        return ast.Call(ast.Name("len", ast.Load()), [node.value], [])

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if name == "syncthreads":
            value: ast.expr = ast.Constant(("barrier", node.lineno))
        elif name in ("shfl_sync", "shfl_xor_sync"):
            place = ast.Constant(("shuffle", node.lineno, node.col_offset, name))
            value = ast.Tuple([place, *node.args[1:]], ast.Load())
        else:
            return node
        return ast.Yield(value)


_UNWRITTEN = {np.float32: np.nan, np.float64: np.nan, np.int32: -(2**30)}


def _memory(value: Any) -> Any:
    """An array whose numbers are Python's, several times as fast as NumPy's and as exact; those in
    single precision are NumPy's, which round as they do."""
    plain = isinstance(value, np.ndarray) and value.dtype != np.float32
    return memoryview(value) if plain else value


class _Shared:
    """Shared memory of one block: the n-th array that a thread asks for is the same for all.

    It starts as NaN, whole numbers as large negative ones, so that reading what nobody wrote shows.
    """

    def __init__(self, arrays: list[Any], dynamic: int) -> None:
        self.arrays, self.dynamic = arrays, dynamic
        self.asked = 0

    def array(self, size: int, kind: Any, alignment: int = 1) -> Any:
        if self.asked == len(self.arrays):
            size = size or self.dynamic // np.dtype(kind).itemsize
            self.arrays.append(_memory(np.full(size, _UNWRITTEN[kind], dtype=kind)))
        self.asked += 1
        return self.arrays[self.asked - 1]


class _Index:
    """A thread or block index."""

    def __init__(self, x: int, y: int) -> None:
        self.x, self.y = x, y


class _Cuda:
    """The stand-in for numba.cuda, as one thread sees it."""

    def __init__(self, shared: _Shared, block: _Index, thread: _Index) -> None:
        self.shared, self.blockIdx, self.threadIdx = shared, block, thread

    @staticmethod
    def fma(a: Any, b: Any, c: Any) -> Any:
        return a * b + c


# Building a syntax tree in two threads at once fails in some versions of Python.
_PARSING = threading.Lock()


@lru_cache(maxsize=64)
def compile_text(text: str) -> Callable[[Any], Callable[..., Iterator[Any]]]:
    """A function from a stand-in to the kernel, whose calls give a thread's generator."""
    with _PARSING:
        tree = ast.parse(text)
        tree.body = [n for n in tree.body if not isinstance(n, ast.Import | ast.ImportFrom)]
        code = compile(ast.fix_missing_locations(_Waits().visit(tree)), "<kernel>", "exec")
    kinds = types.SimpleNamespace(int32=np.int32, float32=np.float32, float64=np.float64)

    def bind(cuda: _Cuda) -> Callable[..., Iterator[Any]]:
        names: dict[str, Any] = {"math": _MATH, "np": _NUMBERS, "cuda": cuda, "types": kinds}
        names |= _INSTRUCTIONS
        exec(code, names)
        kernel: Callable[..., Iterator[Any]] = names["kernel"]
        return kernel

    return bind


def _index(n: Any) -> Any:
    """An unsigned index: what is negative would be far outside."""
    if n < 0:
        raise IndexError(f"index {n} is negative")
    return n


# What texts use of NumPy, with Python's numbers where these are as exact.
_NUMBERS = types.SimpleNamespace(
    float32=np.float32, float64=float, int32=int, int64=int, uint32=np.uint32, uint64=_index
)

_MATH = types.SimpleNamespace(
    sqrt=lambda a: np.sqrt(a) if isinstance(a, np.float32) else math.sqrt(a),
    exp=lambda a: np.exp(a) if isinstance(a, np.float32) else math.exp(a),
    expm1=lambda a: np.expm1(a) if isinstance(a, np.float32) else math.expm1(a),
    fabs=abs,
)


def _saturated(a: Any, b: Any, c: Any) -> Any:
    found = a * b + c
    return type(found)(min(max(found, 0.0), 1.0))


def _rough(value: float) -> float:
    """The 20 leading bits."""
    mantissa, exponent = math.frexp(value)
    return math.ldexp(round(mantissa * 2.0**20), exponent - 20)


def _loaded(count: int) -> Callable[..., tuple]:
    """``count`` numbers from an aligned position on."""

    def load(array: Any, at: int) -> tuple:
        if at % count:
            raise IndexError(f"index {at} is no multiple of {count}")
        return tuple(array[at : at + count])

    return load


# Stand-ins for widegram.cuda.intrinsics, as rough as on a card: what refines them is tested too.
_INSTRUCTIONS: dict[str, Callable[..., Any]] = {
    "opaque": lambda n: n,
    "saturated": _saturated,
    "loaded2": _loaded(2),
    "loaded4": _loaded(4),
    "rough_reciprocal": lambda a: _rough(1.0 / a),
    "rough_inverse_root": lambda a: _rough(1.0 / math.sqrt(a)),
}


def launch(
    text: str, grid: tuple[int, int], threads: tuple[int, int], args: tuple, dynamic: int = 0
) -> None:
    """Run every block of a kernel, one after the other. ``dynamic``: bytes of the shared array
    without a size."""
    bind, args = compile_text(text), tuple(map(_memory, args))
    for by in range(grid[1]):
        for bx in range(grid[0]):
            arrays: list[np.ndarray] = []
            alive = []
            for ty in range(threads[1]):
                for tx in range(threads[0]):
                    cuda = _Cuda(_Shared(arrays, dynamic), _Index(bx, by), _Index(tx, ty))
                    # A kernel without waits is no generator: it has run when it returns.
                    alive.append(bind(cuda)(*args) or iter(()))
            _run(alive)


def _run(threads: list[Any]) -> None:
    """Let all threads run to their next wait until all have ended."""
    waits = [next(t, None) for t in threads]
    while any(w is not None for w in waits):
        kinds = {w if w is None or w[0] == "barrier" else w[0] for w in waits}
        if len(kinds) == 1 and next(iter(kinds))[0] == "barrier":
            waits = [_next(t, None) for t in threads]
            continue
        _shuffle(threads, waits)


def _shuffle(threads: list[Any], waits: list[Any]) -> None:
    """One exchange in every warp whose threads all wait at the same shuffle."""
    moved = False
    for lo in range(0, len(threads), WARP):
        group = waits[lo : lo + WARP]
        places = {w[0] if w is not None else None for w in group}
        if len(places) != 1 or None in places or next(iter(places))[0] != "shuffle":
            continue
        values = [w[1] for w in group]
        turned = next(iter(places))[-1] == "shfl_xor_sync"
        found = [values[lane ^ w[2] if turned else w[2]] for lane, w in enumerate(group)]
        waits[lo : lo + WARP] = [
            _next(t, v) for t, v in zip(threads[lo : lo + WARP], found, strict=True)
        ]
        moved = True
    if not moved:
        raise AssertionError(f"threads wait at different places: {set(map(str, waits))}")


def _next(thread: Any, value: Any) -> Any:
    try:
        return thread.send(value)
    except StopIteration:
        return None
