"""The forms that plane kernels are written in, by the registers of a processor.

All forms with the same ``chains`` give the same bits: they differ in the order in which pixels and
lanes are taken, not in what is computed of one. ``bench/NOTES.md`` has the measurements behind the
table; ``widegram bench roof --forms`` makes them again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from widegram.cpu.kernels.processors import Processor
from widegram.cpu.kernels.variants import PLUS, SQUARES, Variant


@dataclass(frozen=True)
class Form:
    """How a row is walked.

    * ``slices``: a pixel's lanes are cut into so many; a row is walked once for each
    * ``cuts``: cycles from the beginning of a pixel's chain of operations at which it is cut, so
      that pixels overlap (:mod:`widegram.cpu.kernels.pipelined`)
    * ``waits``: so many cuts at one place, behind the beginning of the first division or root: its
      result is used so many pixels later
    * ``bunch``: so many pixels, where sections do not overlap turn by turn: each goes over a bunch
      of pixels, and what a later one needs stands in memory (:mod:`widegram.cpu.kernels.bunches`)
    * ``charted``: a small packed plane has a chart of its pixels, and all its rows are walked as
      one (:mod:`widegram.cpu.kernels.chart_ir`)
    * ``held``: numbers in the code lie in memory, one vector each, and are operands there
    * ``chains``: Horner schemes side by side that a polynomial is divided into
    """

    slices: int = 1
    cuts: tuple[int, ...] = ()
    waits: int = 0
    bunch: int = 0
    charted: bool = False
    held: bool = False
    chains: int = 2

    @property
    def behind(self) -> int:
        """How many pixels are begun before one is finished."""
        return len(self.cuts) + self.waits

    def text(self) -> str:
        """A key of its own for every form."""
        parts = [f"slices{self.slices}", *(f"cut{cycles}" for cycles in self.cuts)]
        parts += [f"waits{self.waits}"] * (self.waits > 0) + ["held"] * self.held
        parts += [f"bunch{self.bunch}"] * (self.bunch > 0)
        parts += ["chart"] * self.charted
        return "_".join([*parts, f"chains{self.chains}"])


PLAIN = Form()
WIDE = 32  # pixels of a row from which on forms no longer depend on their number
_HALVES, _QUARTERS, _WHOLE = Form(2), Form(4), Form(1, (21,), held=True)
_TWO, _THREE, _BUNCHES = Form(waits=2), Form(waits=3), Form(waits=1, bunch=8)
_CHARTED, _TWO_CHARTED = replace(_BUNCHES, charted=True), replace(_TWO, charted=True)
# Kinds whose pixels are read without loops, and codes that are straight-line code.
_READ_AT_ONCE = ("tap", *SQUARES)
_RECTIFIED = ("relu", "relu_nonnegative", "abrelu")
_STRAIGHT = (*_RECTIFIED, *(f"{code}_or_zero" for code in _RECTIFIED), "erf")
# The largest square windows whose pixels overlap, by registers and dtype, elsewhere 3: the sums of
# larger ones take all registers, or overlapping gains nothing; the largest that take charts, since
# sums are read anew where runs begin.
_MOST_CARRIED = {((16, 32), "float32"): 8, ((16, 32), "float64"): 8, ((32, 64), "float64"): 8}
_MOST_CHARTED = 5
# By registers and the bytes of one, dtype, code ('' for all others) of what pixels can overlap in:
# forms by the pixels that a row has at least (packed rows come in two runs, so that theirs are half
# as long). Everything else is plain.
_TABLE = {
    ((16, 32), "float32", ""): {8: _BUNCHES, 0: _WHOLE},
    ((16, 32), "float32", "erf"): {0: _BUNCHES},
    ((16, 32), "float64", ""): {0: _BUNCHES},
    ((32, 64), "float32", ""): {12: _THREE, 0: PLAIN},
    ((32, 64), "float32", "erf"): {16: _TWO, 0: PLAIN},
    ((32, 64), "float64", ""): {0: _THREE},
    ((32, 64), "float64", "erf"): {8: _TWO, 0: PLAIN},
    # Not measured: as many values find room in registers as with (16, 32).
    ((32, 16), "float32", ""): {0: _HALVES},
    ((32, 16), "float64", ""): {0: _HALVES},
    ((16, 16), "float32", ""): {0: _QUARTERS},
    ((16, 16), "float64", ""): {0: _QUARTERS},
}

# The same of small planes, where that differs.
_SMALL = {
    ((16, 32), "float32", ""): {0: _CHARTED},
    ((16, 32), "float32", "erf"): {0: _CHARTED},
    ((16, 32), "float64", ""): {0: _CHARTED},
    ((32, 64), "float32", ""): {12: _THREE, 0: _TWO_CHARTED},
    ((32, 64), "float32", "erf"): {12: PLAIN, 0: Form(waits=1, charted=True)},
    ((32, 64), "float64", ""): {12: _THREE, 0: _TWO_CHARTED},
    ((32, 64), "float64", "erf"): {12: _TWO, 0: _TWO_CHARTED},
}


def chosen(
    variant: Variant, processor: Processor, width: int = WIDE, small: bool = False
) -> Form:
    """The form of a kernel on a processor, for rows of ``width`` pixels; ``small``: whether
    its planes have charts."""
    most = _MOST_CARRIED.get((processor.registers, variant.dtype), 3)
    size = SQUARES.get(variant.kind.removesuffix(PLUS), 1)
    if not (_straight(variant) and size <= most):
        return PLAIN
    rows = [(processor.registers, variant.dtype, code) for code in (variant.code, "")]
    table = _TABLE | _SMALL if small and size <= _MOST_CHARTED else _TABLE
    widths = next((table[row] for row in rows if row in table), {0: PLAIN})
    return next(form for least, form in widths.items() if width >= least)


def known(variant: Variant) -> list[Form]:
    """All forms that a kernel can be written in and that were of use somewhere; of small planes
    those with a chart too."""
    found = [PLAIN, Form(chains=1), _HALVES, Form(2, held=True), _QUARTERS]
    if _straight(variant):
        found += [Form(1, cuts, held=True) for cuts in ((21,), (25,))]
        found += [Form(2, cuts, held=True) for cuts in ((21,), (36,), (21, 36), (24, 44))]
        found.append(Form(2, (21, 36), held=True, chains=1))
        found += [Form(waits=1), _TWO, _THREE, Form(waits=4)]
        found += [Form(waits=1, bunch=pixels) for pixels in (4, 8, 16, 32)]
    return found


def _straight(variant: Variant) -> bool:
    """Whether a pixel can be cut into sections: its code has no loops."""
    return variant.kind.removesuffix(PLUS) in _READ_AT_ONCE and variant.code in _STRAIGHT
