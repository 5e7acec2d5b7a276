"""`widegram combine` as a library call: from Gram files of the same inputs to one more."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from widegram import __version__
from widegram.combining.evaluator import CombinedEvaluator
from widegram.combining.recipe import Ingredient, Recipe, check_op, check_weights, recipe
from widegram.computing.filling import GramResult, fill
from widegram.computing.gram import nothing_to_do, rechecked
from widegram.data.distinct import check_distinct
from widegram.durable.outputs import check_target
from widegram.errors import WidegramError
from widegram.gramfile import GramFile, Header, create
from widegram.gramfile.opening import read
from widegram.gramfile.writing import opened, refuse_other_run
from widegram.machine.budgets import budget
from widegram.machine.progress import ProgressCallback
from widegram.tiling import WHOLE, End
from widegram.validation.arrays import choice, file_path, integer
from widegram.validation.choices import DTYPES, KERNELS
from widegram.validation.kernel_names import in_order, listed

_DEVICE = "cpu"  # adds and multiplies; what computed the kernels their own files say


class _Chosen(NamedTuple):
    """What is combined of a file: its header, and where it is read out."""

    path: Path
    header: Header
    end: End


def combine(  # noqa: PLR0913 - public: by keyword, one for each option of the command
    files: Sequence[str | Path],
    out: str | Path,
    *,
    weights: Sequence[float] | None = None,
    op: str = "sum",
    get: Sequence[str] | None = None,
    end: End = WHOLE,
    dtype: str | None = None,
    tile: int | None = None,
    memory: str | int | None = None,
    overwrite: bool = False,
    check: bool = False,
    progress: ProgressCallback | None = None,
    profile: bool = False,
) -> GramResult:
    """Write the weighted sum, or the product, of kernels of Gram files to the Gram file ``out``.

    Both are kernels where the ingredients are (Schur's product theorem), and ``out`` is a Gram
    file as any other, for solve, eig, predict and this function: its datasets, and K(x, x) of its
    inputs, are ``sum_i weights[i] K_i`` or ``prod_i K_i``, entry by entry, computed in float64.
    The order of ``files`` changes no bit. Its ``network`` names the ingredients, with their files,
    for `verify`. An unfinished ``out`` of the same ingredients is resumed.

    ``get``: which of 'nngp' and 'ntk', by default those that all files have. ``end``: the depth of
    those files that are depth sweeps, the head of those that have heads; without it all files need
    the same depths and heads, and all of them are combined. ``dtype``: 'float32' or 'float64', by
    default the widest of the files. ``tile``, ``memory``, ``overwrite``, ``check``,
    ``progress`` and ``profile`` as for :func:`widegram.gram`.

    Raises :class:`WidegramError` for fewer than two files, one that is missing, damaged, unfinished
    or of other inputs than the first, for weights that are not positive, and for entries outside of
    the range of ``dtype``.
    """
    path = file_path(out, "out")
    op = check_op(op)
    if isinstance(files, str) or not isinstance(files, Sequence) or len(files) < 2:
        raise WidegramError("combine needs two or more Gram files")
    shares = check_weights(weights, len(files), op)
    check_distinct([path], files)
    tile = None if tile is None else integer(tile, "tile", 1)
    bytes_ = budget(memory)
    chosen = [_choose(file_path(file, "files"), end) for file in files]
    made = recipe(op, [_ingredient(*one) for one in zip(chosen, shares, strict=True)])
    wanted = _header(made, chosen, get, end, dtype)
    new = overwrite or not path.exists()
    with ExitStack() as held:
        wanted = _with_tile(path, wanted, tile, new)
        source = held.enter_context(CombinedEvaluator(made, wanted))
        if new:
            check_target(path, overwrite)
            create(path, wanted, overwrite)
        writer = held.enter_context(opened(path, wanted, new))
        damaged = rechecked(writer, check) if not new and (check or not writer.complete) else []
        if writer.complete:
            return nothing_to_do(wanted)
        result = fill(writer, source, _DEVICE, bytes_, progress, profile=profile)
    return result._replace(damaged_tiles=len(damaged))


def _choose(path: Path, end: End) -> _Chosen:
    """A file, and those ingredients of ``end`` that it has."""
    with GramFile(path) as file:
        file.require_complete()
        own = End(end.depth if file.depths else None, end.head if file.heads else None)
        file.keys(*own)  # refuses a depth or head that it has not
        return _Chosen(path, file.header, own)


def _ingredient(one: _Chosen, weight: float) -> Ingredient:
    header = one.header
    with GramFile(one.path) as file:
        network = file.network
    place = str(one.path.resolve())
    return Ingredient(header.network_fingerprint, weight, one.end, network, place)


def _left(one: _Chosen) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Depths and heads that are not chosen from."""
    depth, head = one.end
    return one.header.depths if depth is None else (), one.header.heads if head is None else ()


def _header(
    made: Recipe,
    chosen: Sequence[_Chosen],
    get: Sequence[str] | None,
    end: End,
    dtype: str | None,
) -> Header:
    """The header of the combined file, with the first file's tile; refuses files that do not
    belong together."""
    first = chosen[0]
    for other in chosen[1:]:
        _check_same(first, other)
    if end != WHOLE and all(one.end == WHOLE for one in chosen):
        raise WidegramError("none of the files has depths or heads to choose from")
    kernels = _kernels(chosen, get)
    widest = np.result_type(*(one.header.dtype for one in chosen)).name
    header = first.header
    depths, heads = _left(first)
    return Header(
        network=made.to_json(),
        network_fingerprint=made.fingerprint(),
        x1_fingerprint=header.x1_fingerprint,
        x2_fingerprint=header.x2_fingerprint,
        x1_location=header.x1_location,
        x2_location=header.x2_location,
        n1=header.n1,
        n2=header.n2,
        kernels=kernels,
        depths=depths,
        heads=heads,
        dtype=widest if dtype is None else choice(dtype, "dtype", DTYPES),
        symmetric=header.symmetric,
        device=_DEVICE,
        program_version=__version__,
        tile=header.tile,
        diagonals=True,
    )


def _check_same(first: _Chosen, other: _Chosen) -> None:
    one, two = first.header, other.header
    problem = ""
    if one.symmetric != two.symmetric:
        problem = "one is the matrix of x with itself, the other one of x with x2"
    elif one.x1_fingerprint != two.x1_fingerprint:
        problem = "they are of other inputs x"
    elif one.x2_fingerprint != two.x2_fingerprint:
        problem = "they are of other inputs x2"
    elif _left(first) != _left(other):
        problem = "they have other depths or heads; choose with --depth and --head"
    if problem:
        raise WidegramError(f"{first.path} and {other.path} cannot be combined: {problem}")


def _kernels(chosen: Sequence[_Chosen], get: Sequence[str] | None) -> tuple[str, ...]:
    """The kernels to combine, of those that all files have."""
    there = [k for k in KERNELS if all(k in one.header.kernels for one in chosen)]
    wanted = there if get is None else listed(get)
    for kernel in wanted:
        for one in chosen:
            if kernel not in one.header.kernels:
                raise WidegramError(f"{one.path}: has no kernel {kernel!r}")
    if not wanted:
        raise WidegramError(
            "the files have no kernel in common: " + ", ".join(
                f"{one.path} has {','.join(one.header.kernels)}" for one in chosen
            )
        )  # fmt: skip
    return in_order(wanted)


def _with_tile(path: Path, header: Header, tile: int | None, new: bool) -> Header:
    """The header with the tile that is asked for, or that an unfinished file has; refuses the file
    of another run."""
    if new:
        return header if tile is None else replace(header, tile=tile)
    file, found = read(path)
    file.close()
    wanted = replace(header, tile=tile or found.tile)
    refuse_other_run(path, found, wanted)
    return wanted
