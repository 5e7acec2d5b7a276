"""Looking for damage: checksums of every finished tile, symmetry, a sample computed again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from widegram.durable.contents import checksum
from widegram.durable.hdf5 import Unreadable, hdf5_errors
from widegram.errors import Damaged
from widegram.gramfile.diagonals import Stretch, flags_path, values_path
from widegram.gramfile.opinion import Opinion, TileComputer, second_opinion
from widegram.gramfile.view import GramFile
from widegram.gramfile.writing import TOLERANCES
from widegram.machine import interrupts
from widegram.machine.progress import ProgressCallback, counting
from widegram.tiling import WHOLE, End

_BLOCK = 16
_SHOWN = 8
Keys = tuple[str, ...]
Block = tuple[tuple[int, int], range, range]  # of a tile: rows, columns

Tiles = Callable[[list[tuple[range, range]], bool], Iterator[dict[str, np.ndarray]]]


class InputComputer(TileComputer, Protocol):
    """What computes diagonals too."""

    def diagonal(self, rows: range, second: bool = False) -> dict[str, np.ndarray]:
        """K(x, x) of inputs of x1, or of x2, (len(rows),), one for each dataset."""
        ...


class Computers(NamedTuple):
    """What computes tiles again.

    * ``own``: what filled the file; ``tiles(spans, symmetric)``: its tiles of some (rows, columns),
      one after another
    * ``dense``: another method, which can compute ``dense_entries`` entries; ``dense_note`` says
      why that is none
    """

    own: InputComputer
    tiles: Tiles
    dense: TileComputer | None = None
    dense_entries: int = 0
    dense_note: str = ""


class Damage(NamedTuple):
    """One problem in words, and the tile, or the stretch of a diagonal, that has to be computed
    again to mend it, if that does."""

    text: str
    tile: tuple[int, int] | None = None
    stretch: Stretch | None = None


@dataclass(frozen=True, kw_only=True)
class VerifyReport:
    """What a check of a gram file found.

    * ``file``, ``complete``
    * ``tiles``, ``tiles_checked``: in all, and finished with their checksums compared, counted as
      ``gram`` does: a mirror image with its own
    * ``entries_recomputed``: computed again by the same method; ``max_difference``: the largest
      difference relative to the largest value; ``note``: why none were
    * ``dense_entries``, ``dense_difference``, ``dense_note``: the same by the dense reference, a
      different method, of each dataset, relative to the values around an entry
    * ``damage``: a line for each problem, empty for a good file
    * ``damaged_tiles``: those (row, column) to compute again for that; ``damaged_stretches``: of
      K(x, x), the inputs of a tile row ('x1', row) or tile column ('x2', column)
    * ``repaired``: the lines of damage that there was before a repair
    * ``metadata_intact``: false where another program, or damage, has changed what describes the
      datasets, and no value
    """

    file: str
    complete: bool
    tiles: int
    tiles_checked: int
    entries_recomputed: int
    max_difference: float
    note: str
    dense_entries: int
    dense_difference: float
    dense_note: str
    damage: tuple[str, ...]
    damaged_tiles: tuple[tuple[int, int], ...] = ()
    damaged_stretches: tuple[Stretch, ...] = ()
    repaired: tuple[str, ...] = ()
    metadata_intact: bool = True

    @property
    def ok(self) -> bool:
        """Whether no damage was found."""
        return not self.damage

    @property
    def _can_be_repaired(self) -> bool:
        return bool(self.damaged_tiles or self.damaged_stretches) or not self.metadata_intact

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready form, with ``ok``."""
        return {**asdict(self), "ok": self.ok}

    def raise_if_damaged(self) -> None:
        """Raise :class:`Damaged` with the problems in one line."""
        if self.damage:
            shown = "; ".join(self.damage[:_SHOWN])
            more = len(self.damage) - _SHOWN
            raise Damaged(
                f"{self.file}: is damaged: {shown}"
                + (f"; and {more} more" if more > 0 else "")
                + ("; run verify --repair" if self._can_be_repaired else "")
                + (" or compute it again" if self._can_be_repaired else "; compute it again")
                + " with --overwrite"
            )


def verify(
    path: str | Path,
    evaluator: Callable[[GramFile], Computers | str] | None = None,
    sample: int = 4,
    seed: int = 0,
    progress: ProgressCallback | None = None,
    end: End = WHOLE,
) -> VerifyReport:
    """Check a gram file, one tile at a time; of a sweep or Readouts the datasets of ``end`` alone,
    if it names a depth or a head.

    ``evaluator(file)`` gives what recomputes a 16 x 16 block in each of ``sample`` finished tiles
    (chosen by ``seed``) and single entries by another method, or a sentence why nothing can; None
    skips that. ``progress`` counts tiles. Raises :class:`Damaged` if HDF5 cannot read
    the file, WidegramError if it is not a gram file, is missing, or is being written.
    """
    try:
        with GramFile(path, shard=True) as file, hdf5_errors(file.path):
            finished = file.finished()
            keys = file.keys(*end)
            found = [*_state_damage(file), *_checksum_damage(file, finished, keys, progress)]
            found += _diagonal_damage(file, keys)
            computers = evaluator(file) if evaluator else "no tiles were recomputed"
            entries, difference, note = 0, 0.0, ""
            dense, dense_note = Opinion(0, 0.0, []), ""
            if isinstance(computers, str):
                note = dense_note = computers
            else:
                again = list(_blocks(file, finished, sample, seed))
                entries, difference, wrong = _recompute(file, keys, computers, again)
                dense, dense_note = _dense(file, finished, keys, computers, seed)
                found += [*wrong, *map(Damage, dense.damage)]
            done, total = file.tiles()
            return VerifyReport(
                file=str(path),
                complete=file.complete,
                tiles=total,
                tiles_checked=done,
                entries_recomputed=entries,
                max_difference=difference,
                note=note,
                dense_entries=dense.entries,
                dense_difference=dense.difference,
                dense_note=dense_note,
                damage=tuple(dict.fromkeys(one.text for one in found if one.text)),
                damaged_tiles=tuple(sorted({one.tile for one in found if one.tile})),
                damaged_stretches=tuple(sorted({one.stretch for one in found if one.stretch})),
                metadata_intact=file.metadata_intact(),
            )
    except Unreadable as error:
        raise Damaged(str(error)) from error


def _state_damage(file: GramFile) -> Iterator[Damage]:
    json.loads(file.header.network)
    if file.metadata_damaged():
        yield Damage("its metadata is not what was written")
    flags = file.flags()
    for i, j in np.argwhere(flags > 1).tolist():
        yield Damage(f"the flag of tile {i}, {j} is {flags[i, j]}, not 0 or 1", _upper(file, i, j))
    layout = file.header.layout
    wanted = (one for tile in layout.tiles() for one in layout.both(tile)) if file.complete else ()
    missing = [tile for tile in wanted if flags[tile] != 1]
    if missing:
        yield Damage(f"it says complete, but {len(missing)} tiles are not finished")
        yield from (Damage("", _upper(file, i, j)) for i, j in missing)


def _upper(file: GramFile, i: int, j: int) -> tuple[int, int]:
    """The tile that is computed: in a symmetric matrix the one on or above the diagonal."""
    return (min(i, j), max(i, j)) if file.symmetric else (i, j)


def _checksum_damage(
    file: GramFile, finished: np.ndarray, keys: Keys, progress: ProgressCallback | None
) -> Iterator[Damage]:
    grid = file.header.grid
    tiles = np.argwhere(finished)
    sums, at = {key: file.sums(key) for key in keys}, file.header.layout.at
    tell = counting(progress, len(tiles), "tiles")
    for count, (i, j) in enumerate(tiles.tolist(), 1):
        interrupts.check()
        rows, cols = grid.rows(i), grid.cols(j)
        for key in keys:
            block = file.block(key, rows, cols)
            where = f"{key} rows {rows.start}-{rows.stop - 1}, columns {cols.start}-{cols.stop - 1}"
            if checksum(block) != int(sums[key][at((i, j))]):
                yield Damage(f"{where}: wrong checksum", _upper(file, i, j))
            elif not np.isfinite(block).all():
                yield Damage(f"{where}: not finite", _upper(file, i, j))
            elif grid.symmetric and i <= j and finished[j, i]:
                mirror = block if i == j else file.block(key, cols, rows)
                if not np.array_equal(block, mirror.T):
                    yield Damage(f"{where}: not symmetric", (i, j))
        tell(count)


def _diagonal_damage(file: GramFile, keys: Keys) -> Iterator[Damage]:
    places = file.header.places._replace(keys=keys)
    for stretch, text in places.damage(lambda path: file.raw(path)[...], file.complete):
        yield Damage(text, stretch=stretch)


def _blocks(
    file: GramFile, finished: np.ndarray, sample: int, seed: int
) -> Iterator[Block]:
    """Some finished tiles, and the rows and columns of a block in each."""
    grid, generator = file.header.grid, np.random.default_rng(seed)
    tiles = [tile for tile in file.header.layout.tiles() if finished[tile]]
    chosen = generator.permutation(len(tiles))[:sample]
    for i, j in (tiles[k] for k in sorted(chosen.tolist())):
        rows = _part(grid.rows(i), generator)
        cols = rows if grid.symmetric and i == j else _part(grid.cols(j), generator)
        yield (i, j), rows, cols


def _recompute(
    file: GramFile, keys: Keys, computers: Computers, blocks: list[Block]
) -> tuple[int, float, list[Damage]]:
    """Entries computed again, their largest relative difference, and what is wrong."""
    entries, worst = 0, 0.0
    damage: list[Damage] = []
    made = computers.tiles([(rows, cols) for _, rows, cols in blocks], file.symmetric)
    for (tile, rows, cols), arrays in zip(blocks, made, strict=True):
        for key in keys:
            difference = _difference(file, arrays[key], file.block(key, rows, cols))
            worst = max(worst, difference)
            # Written so that NaN counts as damage.
            if not difference <= TOLERANCES[file.header.dtype]:
                where = f"{key} rows {rows.start}-{rows.stop - 1}, columns {cols.start}-"
                where += f"{cols.stop - 1}: differs from the recomputed values by {difference:.1e}"
                damage.append(Damage(where, tile))
        entries += len(rows) * len(cols)
        for stretch, span in _stretches(file, tile, rows, cols):
            difference = _diagonal_difference(file, keys, computers.own, stretch, span)
            worst = max(worst, difference)
            if not difference <= TOLERANCES[file.header.dtype]:
                where = f"{stretch.text(keys[0], file.header.grid)}: differs from the recomputed "
                damage.append(Damage(f"{where}values by {difference:.1e}", stretch=stretch))
    return entries, worst, damage


def _difference(file: GramFile, wanted: np.ndarray, found: np.ndarray) -> float:
    """The largest difference of two blocks, relative to the largest value."""
    wanted, found = wanted.astype(np.float64), found.astype(np.float64)
    scale = max(np.abs(wanted).max(), np.finfo(file.header.dtype).tiny)
    return float(np.abs(wanted - found).max() / scale)


def _stretches(
    file: GramFile, tile: tuple[int, int], rows: range, cols: range
) -> Iterator[tuple[Stretch, range]]:
    """The finished stretches of the diagonals that have the inputs of a tile, and which of them its
    block has."""
    places = file.header.places
    for side, number, span in zip(places.sides, tile, (rows, cols), strict=False):
        stretch = Stretch(side, number)
        if number in places.span(side) and file.raw(flags_path(side))[places.at(stretch)] == 1:
            yield stretch, span


def _diagonal_difference(
    file: GramFile, keys: Keys, computer: InputComputer, stretch: Stretch, span: range
) -> float:
    """The largest relative difference of K(x, x) of some inputs; 0 where the file says of one that
    it is outside of the range."""
    places = file.header.places
    first = places.inputs(stretch).start + span.start - stretch.span(places.grid).start
    found = {
        key: file.raw(values_path(stretch.side, key))[first : first + len(span)].astype(np.float64)
        for key in keys
    }
    if any(np.isnan(values).any() for values in found.values()):
        return 0.0
    wanted = computer.diagonal(span, stretch.second)
    return max(_difference(file, wanted[key], found[key]) for key in keys)


def _dense(
    file: GramFile, finished: np.ndarray, keys: Keys, computers: Computers, seed: int
) -> tuple[Opinion, str]:
    """The second opinion, and why there is none."""
    if computers.dense is None or not computers.dense_entries:
        return Opinion(0, 0.0, []), computers.dense_note
    generator = np.random.default_rng(seed + 1)
    opinion = second_opinion(
        file, finished, keys, computers.dense, computers.dense_entries, generator
    )
    if finished.any() and not opinion.entries:
        return opinion, "no entry lies within what the dense reference can hold in float64"
    return opinion, ""


def _part(span: range, generator: np.random.Generator) -> range:
    """At most 16 consecutive indices of a tile's rows or columns."""
    length = min(_BLOCK, len(span))
    start = span.start + int(generator.integers(len(span) - length + 1))
    return range(start, start + length)
