"""Tiles of a combination, read from the Gram files of its kernels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from widegram.backends.evaluator import Advance, Evaluator, Tile
from widegram.closing import ClosedOnFailure
from widegram.combining.recipe import Recipe
from widegram.errors import OutOfRange, WidegramError
from widegram.gramfile import GramFile, Header
from widegram.gramfile.checked import CheckedMatrix
from widegram.tiling import End, ends

Array = NDArray[np.float64]


class CombinedEvaluator(Evaluator):
    """Reads what others have computed; float64 between the files and the result.

    ``header`` is of the combined file. Ingredients are added or multiplied in the recipe's order.
    Raises WidegramError for one that is missing, damaged, unfinished or not what the recipe says.
    """

    def __init__(self, recipe: Recipe, header: Header) -> None:
        self.keys, self.dtype = header.keys, header.dtype
        self._recipe, self._header, self._held = recipe, header, ExitStack()
        self._matrices: dict[str, list[CheckedMatrix]] = {}
        with ClosedOnFailure(self):
            self._files = [self._opened(n) for n in range(len(recipe.ingredients))]
            for key, kernel, end in self._datasets():
                self._matrices[key] = [
                    CheckedMatrix(file, kernel, *self._end_of(n, end))
                    for n, file in enumerate(self._files)
                ]

    def tile(
        self, rows: range, cols: range, symmetric: bool, progress: Advance | None = None
    ) -> Tile:
        place = slice(rows.start, rows.stop), slice(cols.start, cols.stop)
        found: Tile = {}
        for key, matrices in self._matrices.items():
            blocks = (matrix[place].astype(np.float64) for matrix in matrices)
            found[key] = self._rounded(self._together(blocks))
        if progress is not None:
            progress(len(rows) * len(cols))
        return found

    def diagonal(self, rows: range, second: bool = False) -> dict[str, Array]:
        found: dict[str, Array] = {}
        for key, kernel, end in self._datasets():
            own = [
                file.diagonal(kernel, self._end_of(n, end), second)
                for n, file in enumerate(self._files)
            ]
            # What one file does not hold the combination cannot.
            none = np.full(len(rows), np.nan)
            values = (none if one is None else one[rows.start : rows.stop] for one in own)
            found[key] = self._together(values)
        return found

    def close(self) -> None:
        self._held.close()

    def _opened(self, n: int) -> GramFile:
        ingredient, wanted = self._recipe.ingredients[n], self._header
        file = self._held.enter_context(GramFile(Path(ingredient.file)))
        file.require_complete()
        found = file.header
        inputs = wanted.x1_fingerprint, wanted.x2_fingerprint
        if (
            found.network_fingerprint != ingredient.fingerprint
            or (found.x1_fingerprint, found.x2_fingerprint) != inputs
            or found.symmetric != wanted.symmetric
        ):
            raise WidegramError(f"{ingredient.file}: is not the file that was combined")
        return file

    def _datasets(self) -> Iterator[tuple[str, str, End]]:
        """Path, kernel and end of every dataset of the combined file."""
        for end in ends(self._header.depths, self._header.heads):
            for kernel in self._header.kernels:
                yield end.path(kernel), kernel, end

    def _end_of(self, n: int, end: End) -> End:
        """Where an ingredient is read out for one end of the combined file."""
        own = self._recipe.ingredients[n].end
        depth = end.depth if own.depth is None else own.depth
        return End(depth, end.head if own.head is None else own.head)

    def _together(self, values: Iterator[Array]) -> Array:
        """The weighted sum, or the product, of arrays of one shape; NaN where one has it.

        Raises OutOfRange where float64 cannot hold a number of them.
        """
        total: Array | None = None
        for ingredient, value in zip(self._recipe.ingredients, values, strict=True):
            scaled = _product(value, np.full((), ingredient.weight))
            if total is None:
                total = scaled
            elif self._recipe.op == "product":
                total = _product(total, scaled)
            else:
                with np.errstate(over="ignore"):
                    total = total + scaled
        assert total is not None
        if np.isinf(total).any():
            raise _outside("float64")
        return total

    def _rounded(self, value: Array) -> NDArray[np.floating]:
        """``value`` in the file's dtype; refuses what that cannot hold, at either end of its
        range."""
        with np.errstate(over="ignore", under="ignore"):
            stored = value.astype(self.dtype)
        if not np.isfinite(stored).all() or _lost(stored, value != 0):
            raise _outside(self.dtype)
        return stored


def _product(one: Array, other: Array) -> Array:
    with np.errstate(over="ignore", under="ignore"):
        found: Array = one * other
    if _lost(found, (one != 0) & (other != 0)):
        raise _outside("float64")
    return found


def _lost(found: NDArray[np.floating], wanted: NDArray[np.bool_]) -> bool:
    """Whether a number that is not 0 has fallen below those of full precision."""
    return bool((wanted & (np.abs(found) < np.finfo(found.dtype).tiny)).any())


def _outside(dtype: str) -> OutOfRange:
    hint = "; combine to --dtype float64" if dtype == "float32" else "; scale it by weights or data"
    return OutOfRange(f"a combined entry is outside of the range of {dtype}{hint}")
