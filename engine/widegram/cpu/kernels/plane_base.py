"""What all plane kernels share: their arguments and address arithmetic.

A plane is rows x cols pixels of ``lanes`` numbers, one lane per pair of images. Every kernel has
the same arguments, addresses as 64-bit integers:

    geometry  int64, the columns of :class:`~widegram.cpu.kernels.fields.Geometry`
    params    gain, bias, the activation's constants; number 8 and 9: the contribution
    k_in, t_in    the first pixel that the first output pixel reads
    k_out, t_out  the first output pixel
    fx, fy    factors of the first output pixel, of x and of x'
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from widegram.cpu.kernels.fields import Geometry
from widegram.cpu.kernels.forms import Form
from widegram.cpu.kernels.processors import Processor
from widegram.cpu.kernels.variants import Variant
from widegram.cpu.kernels.vector_ops import INDEX, VectorOps


class PlaneCode:
    """A kernel under construction: its arguments, and the pieces that all kinds need."""

    def __init__(
        self,
        builder: ir.IRBuilder,
        variant: Variant,
        processor: Processor,
        form: Form,
        args: tuple[Any, ...],
    ) -> None:
        self.builder: Any = builder
        self.variant = variant
        self.ops = VectorOps(builder, variant.dtype, processor, form)
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
