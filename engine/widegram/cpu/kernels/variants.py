"""Which plane kernels there are: their names and numbers, without what writes them."""

from __future__ import annotations

from dataclasses import dataclass

# Pairs of inputs that a vector holds.
LANES = {"float32": 16, "float64": 8}
# Numbers in the table of parameters: gain, bias and the activation's constants; behind them, where
# a window has one, its contribution.
N_PARAMS = 8
# How displacements share a plane: with zeros between them, or as neighbours on a torus.
GAPS, WRAPS = 1, 2
PLUS = "+"  # ends the names of kinds that add a plane to their result
# Square windows at stride 1 whose sums are carried in registers.
SQUARES = {f"box{n}": n for n in range(2, 9)}
# Windows of this many rows or columns are summed at a cost that does not depend on their size.
LARGE = 5
LARGE_KIND = "large"
# Beside the rows of a large window: the beginning of the next block, and the row itself.
ROWS_OF_SCRATCH = 2
# Cells whose inputs the kind ``inputs`` makes at once, side by side in the table of cells; their
# planes stand ``k_in`` bytes apart, T is not written.
BATCH = 4


@dataclass(frozen=True)
class Variant:
    """One plane kernel, for one activation and one dtype.

    * ``kind``: what it does to planes, such as a kind of window (:func:`kind_of_window`)
    * ``code``: that of the activation, 'none' without
    * ``ntk``: whether T is carried
    * ``paired``: whether x differs per lane, so that its factors are vectors like those of x'
    * ``packed``: how several displacements share a plane, 0 where they do not
      (:mod:`widegram.cpu.kernels.packed_ir`): with GAPS of zeros, or WRAPS as on a torus
    * ``contribution``: whether T is that of its parameters and gain t, not K + gain t
    * ``hides``: whether K and T are multiplied by the last factor of both images
    * ``fresh``: whether T of what it reads first is 0, and not read
    """

    kind: str
    code: str
    ntk: bool
    paired: bool
    dtype: str
    packed: int = 0
    contribution: bool = False
    hides: bool = False
    fresh: bool = False

    def text(self) -> str:
        """A key of its own for every variant."""
        flags = f"{self.ntk:d}|{self.paired:d}|{self.packed:d}"
        more = "|contribution" * self.contribution + "|hides" * self.hides + "|fresh" * self.fresh
        return f"{self.kind}|{self.code}|{flags}|{self.dtype}{more}"


def kind_of_window(window: tuple[int, int], strides: tuple[int, int], sources: int) -> str:
    """The kind of kernel that suits a window; ``sources``: planes that are read, a second one is
    added to the result."""
    if not sources:
        return "constant"
    plus = PLUS if sources > 1 else ""
    if window == (1, 1):
        return "tap" + plus
    if strides == (1, 1) and window[0] == window[1] <= max(SQUARES.values()):
        return f"box{window[0]}{plus}"
    return (LARGE_KIND if strides == (1, 1) and max(window) >= LARGE else "box") + plus
