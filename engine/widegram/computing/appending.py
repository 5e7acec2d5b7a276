"""A finished Gram file grown by new inputs: a new one, of which what is old is copied.

Beside ``K.h5`` a file ``K.h5.append`` is filled as any other, and takes its name once it is
complete. Until then ``K.h5`` is as it was, and the same command goes on after a kill.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from widegram.backends.evaluator import Advance, Evaluator, Tile
from widegram.backends.job import Job
from widegram.closing import ClosedOnFailure, Closing
from widegram.computing.devices import continues
from widegram.data import Source
from widegram.durable.outputs import is_own_plain
from widegram.errors import WidegramError
from widegram.gramfile import GramFile, Header
from widegram.gramfile.checked import CheckedMatrix
from widegram.gramfile.header import same_but_patterns
from widegram.gramfile.opening import read
from widegram.tiling import ends
from widegram.validation.arrays import with_ending

Array = NDArray[np.float64]
ENDING = ".append"


def growing(path: Path) -> Path:
    """Where a file grows."""
    return with_ending(path, ENDING)


class Old(Closing):
    """A finished file that is copied from.

    ``shape``: its rows and columns; ``matrices``: by dataset, their checksums compared.
    """

    def __init__(self, path: Path) -> None:
        self.file = GramFile(path)
        with ClosedOnFailure(self):
            self.file.require_complete()
            found = self.file.header
            self._place = os.stat(path)
            self.shape = found.n1, found.n2
            self.matrices = {
                end.path(kernel): CheckedMatrix(self.file, kernel, *end)
                for end in ends(found.depths, found.heads)
                for kernel in found.kernels
            }
            self._diagonals: dict[tuple[str, bool], Array] = {}

    def diagonal(self, key: str, rows: range, second: bool) -> Array | None:
        """K(x, x) of its inputs as they are stored, NaN for one out of range; None where it has no
        places for them."""
        if not self.file.header.diagonals:
            return None
        if (key, second) not in self._diagonals:
            self._diagonals[key, second] = self.file.stored_diagonal(key, second)
        return self._diagonals[key, second][rows.start : rows.stop]

    def is_all_of(self, wanted: Header) -> bool:
        """Whether it has all inputs already."""
        return self.shape == (wanted.n1, wanted.n2)

    def check_place(self) -> None:
        """Raise :class:`WidegramError` where another file has its name by now."""
        path = self.file.path
        try:
            same = os.path.samestat(self._place, os.stat(path))
        except OSError:
            same = False
        if not same:
            raise WidegramError(
                f"{path}: was replaced while it grew; what was computed is in {growing(path)}"
            )

    def close(self) -> None:
        self.file.close()


def opened_old(path: Path, wanted: Header, device: str, job: Job) -> Old:
    """The finished file ``path``, which is to become the one that ``wanted`` describes.

    Raises :class:`WidegramError` where there is none, it is unfinished or virtual, of another
    network, dtype, device or other kernels, depths or heads, of another kind, or its inputs are not
    the first of the job's.
    """
    if not path.exists():
        raise WidegramError(
            f"{path}: does not exist; there is nothing to append to: leave --append out"
        )
    old = Old(path)
    with ClosedOnFailure(old):
        problem = _problem(old.file, wanted, device, job)
        if problem:
            raise WidegramError(f"{path}: cannot be appended to: {problem}")
        return old


def growing_header(grown: Path, wanted: Header, tile: int | None) -> Header:
    """The header of a file that grows already; raises :class:`WidegramError` where it grows to
    something else, or is a link."""
    if not is_own_plain(grown):
        raise WidegramError(
            f"{grown}: is in the way and no file that this program left; move it elsewhere"
        )
    file, found = read(grown)
    file.close()
    wanted = replace(wanted, tile=tile or found.tile, device=found.device)
    differences = found.differences(wanted)
    if differences:
        raise WidegramError(
            f"{grown}: something else was being appended: {'; '.join(differences)}; run that "
            "command again to finish it, or remove this file"
        )
    return wanted


def _problem(file: GramFile, wanted: Header, device: str, job: Job) -> str:
    """What differs but for more inputs, or why it cannot grow; empty where nothing does."""
    found = file.header
    if found.elsewhere is not None:
        return "it is virtual; join its shards without --virtual first"
    same = ("n1", "n2", "tile", "x1_fingerprint", "x1_location", "x2_location")
    like = replace(wanted, **{name: getattr(found, name) for name in same})
    if not wanted.symmetric and not found.symmetric:
        like = replace(like, x2_fingerprint=found.x2_fingerprint)
    if continues(found.device, device):
        like = replace(like, device=found.device)
    differences = found.differences(like)
    if differences:
        return "; ".join(differences)
    return _of_inputs("x", job.x1, found.n1, found.x1_fingerprint) or (
        "" if job.x2 is None else _of_inputs("x2", job.x2, found.n2, found.x2_fingerprint)
    )


def _of_inputs(name: str, source: Source, rows: int, fingerprint: str) -> str:
    """Why inputs do not begin with those ``rows`` of a ``fingerprint``; empty where they do."""
    if len(source) < rows:
        return f"{source.name} has {len(source)} rows, and it was made from {rows}"
    first = source.first(rows).fingerprint()
    if first == fingerprint:
        return ""
    what = "patterns" if same_but_patterns(first, fingerprint) else "inputs"
    return (
        f"the first {rows} rows of {source.name} are not the {what} {name} that it was made from; "
        "give the old inputs with the new ones behind them"
    )


class GrowingEvaluator(Evaluator):
    """Copies what ``old`` has, and lets ``made`` compute the rest.

    ``copied``: entries of each matrix that were copied.
    """

    def __init__(self, made: Evaluator, old: Old) -> None:
        self._made, self._old = made, old
        self.copied = 0
        self.keys, self.dtype, self.cost = made.keys, made.dtype, made.cost
        self.workers, self.stoppable = made.workers, made.stoppable
        self.series_error, self.device_name = made.series_error, made.device_name

    def tile(
        self, rows: range, cols: range, symmetric: bool, progress: Advance | None = None
    ) -> Tile:
        n1, n2 = self._old.shape
        down, across = _cut(rows, n1), _cut(cols, n2)
        if not down[0] or not across[0]:
            return self._made.tile(rows, cols, symmetric, progress)
        found = {key: np.empty((len(rows), len(cols)), one.dtype)
                 for key, one in self._old.matrices.items()}  # fmt: skip
        mirrored = symmetric and rows == cols
        for i, part in enumerate(down):
            for j, columns in enumerate(across):
                if not part or not columns or (mirrored and i > j):
                    continue
                if i == j == 0:
                    block = self._from_old(part, columns)
                    twice = symmetric and rows != cols
                    self.copied += len(part) * len(columns) * (2 if twice else 1)
                    if progress is not None:
                        progress(len(part) * len(columns))
                else:
                    block = self._made.tile(part, columns, symmetric, progress)
                _put(found, block, (part, columns), (rows, cols))
                if mirrored and i < j:
                    _put(found, {key: one.T for key, one in block.items()}, (columns, part),
                         (rows, cols))  # fmt: skip
                    if progress is not None:
                        progress(len(part) * len(columns))
        return found

    def _from_old(self, rows: range, cols: range) -> Tile:
        place = slice(rows.start, rows.stop), slice(cols.start, cols.stop)
        return {key: one[place] for key, one in self._old.matrices.items()}

    def diagonal(self, rows: range, second: bool = False) -> dict[str, Array]:
        known, new = _cut(rows, self._old.shape[second])
        stored = {key: self._old.diagonal(key, known, second) for key in self.keys}
        if not known or any(one is None for one in stored.values()):
            return self._made.diagonal(rows, second)
        parts = [{key: one for key, one in stored.items() if one is not None}]
        parts += [self._made.diagonal(new, second)] if new else []
        return {key: np.concatenate([part[key] for part in parts]) for key in self.keys}

    def columns_kept(self, tile: int, rows: int) -> int:
        return self._made.columns_kept(tile, rows)

    def prepare(self, rows: range, cols: range) -> None:
        n1, n2 = self._old.shape
        if rows.stop > n1 or cols.stop > n2:
            self._made.prepare(rows, cols)

    def round_to(self, dtype: str) -> None:
        self._made.round_to(dtype)

    def close(self) -> None:
        self._made.close()
        self._old.close()


def _cut(span: range, at: int) -> tuple[range, range]:
    """What of a range lies before ``at``, and the rest."""
    at = min(max(at, span.start), span.stop)
    return range(span.start, at), range(at, span.stop)


def _put(
    whole: Tile, block: Tile, place: tuple[range, range], inside: tuple[range, range]
) -> None:
    """Put a block of a tile into it."""
    rows, cols = (
        slice(part.start - all_.start, part.stop - all_.start)
        for part, all_ in zip(place, inside, strict=True)
    )
    for key, values in block.items():
        whole[key][rows, cols] = values
