"""What all plane kernels share: their arguments and address arithmetic.

A plane is rows x cols pixels of ``lanes`` numbers, one lane per pair of images. Every kernel has
the same arguments, addresses as 64-bit integers:

    geometry  int64, the columns of Geometry (below)
    params    gain, bias, then the activation's constants
    k_in, t_in    the first pixel that the first output pixel reads
    k_out, t_out  the first output pixel
    fx, fy    factors of the first output pixel, of x and of x'
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import auto
from typing import Any

from llvmlite import ir

from widegram.cpu.kernels.fields import Field
from widegram.cpu.kernels.vector_ops import INDEX, VectorOps

N_PARAMS = 8
GAPS, WRAPS = 1, 2


class Geometry(Field):
    """The first argument of a plane kernel; strides in numbers, not bytes."""

    ROWS = auto()
    COLS = auto()
    IN_ROW = auto()
    IN_COL = auto()
    OUT_ROW = auto()
    OUT_COL = auto()
    FX_ROW = auto()
    FX_COL = auto()
    FX_PLANE = auto()
    FY_ROW = auto()
    FY_COL = auto()
    FY_PLANE = auto()
    WINDOW_ROWS = auto()
    WINDOW_COLS = auto()
    STRIDE_ROWS = auto()
    STRIDE_COLS = auto()
    BUFFER = auto()
    COUNT = auto()


@dataclass(frozen=True)
class Variant:
    """One compiled kernel: ``kind`` as above, ``code`` of the activation ('none' without).

    ``paired``: x differs per lane, so that its factors are vectors like those of x'.
    ``packed``: several displacements share a plane (:mod:`widegram.cpu.kernels.packed_ir`), with
    GAPS of zeros between them or as neighbours on a torus (WRAPS).
    """

    kind: str
    code: str
    ntk: bool
    paired: bool
    dtype: str
    packed: int = 0

    def text(self) -> str:
        """A key of its own for every variant."""
        flags = f"{self.ntk:d}|{self.paired:d}|{self.packed:d}"
        return f"{self.kind}|{self.code}|{flags}|{self.dtype}"


class PlaneCode:
    """A kernel under construction: its arguments, and the pieces that all kinds need."""

    def __init__(self, builder: ir.IRBuilder, variant: Variant, args: tuple[Any, ...]) -> None:
        self.builder = builder
        self.variant = variant
        self.ops = VectorOps(builder, variant.dtype)
        self._read(args)

    def _read(self, args: tuple[Any, ...]) -> None:
        """Take the arguments apart."""
        geometry, self.params, self.k_in, self.t_in, self.k_out, self.t_out, self.fx, self.fy = args
        (
            self.rows,
            self.cols,
            self.in_row,
            self.in_col,
            self.out_row,
            self.out_col,
            self.fx_row,
            self.fx_col,
            self.fx_plane,
            self.fy_row,
            self.fy_col,
            self.fy_plane,
            self.window_rows,
            self.window_cols,
            self.stride_rows,
            self.stride_cols,
            self.buffer,
            self.count,
        ) = (self.integer(geometry, n) for n in range(len(Geometry)))

    @property
    def fields(self) -> int:
        """1, or 2 where T is carried."""
        return 1 + self.variant.ntk

    def pixel(self, base: Any, row: Any, row_step: Any, col: Any, col_step: Any) -> Any:
        """Address of a pixel."""
        return self.offset(self.offset(base, row, row_step), col, col_step)

    def offset(self, base: Any, n: Any, step: Any) -> Any:
        """``base`` moved by n steps."""
        return self.builder.add(base, self.ops.bytes(n, step))

    def integer(self, base: Any, n: int) -> Any:
        """The n-th 64-bit integer at ``base``."""
        address = self.builder.add(base, ir.Constant(INDEX, 8 * n))
        return self.builder.load(self.builder.inttoptr(address, INDEX.as_pointer()))

    def param(self, n: int) -> Any:
        """The n-th parameter, in all lanes."""
        return self.ops.splat(
            self.offset(self.params, ir.Constant(INDEX, n), ir.Constant(INDEX, 1))
        )
