"""Raw data sets to floating point inputs: select, split, normalize, write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from widegram.data.cifar import has_cifar, open_cifar
from widegram.data.digits import open_digits
from widegram.data.distinct import check_distinct
from widegram.data.formats import Table, split_spec
from widegram.data.idx import has_idx, is_idx, open_idx
from widegram.data.labelled import SUFFIXES, open_labelled
from widegram.data.raw import RawData, Split
from widegram.data.statistics import Scaling, apply, check_held, measure
from widegram.errors import WidegramError
from widegram.machine import interrupts
from widegram.machine.budgets import budget
from widegram.validation.arrays import choice, file_path, integer
from widegram.validation.choices import NORMALIZATIONS
from widegram.validation.reading import existing_file

FORMAT = "widegram-data"
_TEST_SHARE = 5
_BLOCK_SHARE = 16
_OVERHEAD = 2**16


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What was written.

    * ``out``, ``source``: the file, and what it was made from
    * ``train_shape``, ``test_shape``: of the inputs; None where nothing was held out
    * ``labels``: whether there are any
    * ``normalize``: how inputs were scaled
    * ``mean``, ``std``: of the raw training inputs, a value for each channel of images or feature
      of vectors
    * ``note``: what the user should know
    """

    out: str
    source: str
    train_shape: tuple[int, ...]
    test_shape: tuple[int, ...] | None
    labels: bool
    normalize: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    note: str


@dataclass(frozen=True)
class _Selection:
    """Rows ``indices``, in this order, of one split."""

    split: Split
    indices: np.ndarray


def prepare(
    source: str | Path,
    out: str | Path,
    *,
    train: int | None = None,
    test: int | None = None,
    normalize: str = "standardize",
    seed: int = 0,
    labels: str | None = None,
    overwrite: bool = False,
    memory: str | int | None = None,
) -> Prepared:
    """Write ``/train/x``, ``/train/y``, ``/test/x``, ``/test/y`` of a data set to an HDF5 file.

    x is float32 of shape (n, H, W, C) or (n, D), y int64 (or float64 targets), ``index`` the rows
    in the source. Root attributes: source, normalize, seed, mean, std.

    * ``source``: 'digits', an IDX file or directory (MNIST family), a CIFAR-10 directory, or
      .npy / .npz / .h5 with labels (see :mod:`widegram.data.labelled`)
    * ``train``, ``test``: rows to draw at random; None takes all, in the order of the source, or,
      where the source has no test split, holds out a fifth at random
    * ``seed``: of the draws
    * ``normalize``: 'standardize' subtracts the mean and divides by the standard deviation, of the
      chosen training rows, of each channel of images or feature of vectors; 'unit-norm' divides
      every input by its Euclidean norm; 'none' only converts
    * ``labels``: those of an array file that does not hold them

    Raises :class:`WidegramError` for anything that cannot be read or written.
    """
    # With h5py, which takes long: what only computes does without.
    from widegram.durable.outputs import check_disk, check_target

    target = file_path(out, "out")
    source = str(file_path(source, "source"))
    labels = None if labels is None else str(file_path(labels, "labels"))
    normalize = choice(normalize, "normalize", NORMALIZATIONS)
    train = None if train is None else integer(train, "train", 1)
    test = None if test is None else integer(test, "test", 0)
    seed = integer(seed, "seed", 0)
    check_target(target, overwrite)
    check_distinct([target], [source, labels])
    raw = open_raw(source, labels)
    block = budget(memory) // _BLOCK_SHARE
    chosen, held_out = _select(raw, train, test, seed)
    scaling = _statistics(chosen, block)
    parts = {"train": chosen} | ({"test": held_out} if held_out else {})
    check_disk(target, sum(_bytes(part) for part in parts.values()) + _OVERHEAD)
    _write(target, parts, normalize, scaling, {"source": raw.name, "seed": seed}, overwrite, block)
    return Prepared(
        out=str(target),
        source=raw.name,
        train_shape=(len(chosen.indices), *_input_shape(chosen.split.x)),
        test_shape=(len(held_out.indices), *_input_shape(held_out.split.x)) if held_out else None,
        labels=chosen.split.y is not None,
        normalize=normalize,
        mean=tuple(scaling.mean.tolist()),
        std=tuple(scaling.std.tolist()),
        note=raw.note,
    )


def open_raw(source: str, labels: str | None = None) -> RawData:
    """The data set that ``source`` names, in whichever of the known formats it is."""
    path, _ = split_spec(source)
    if labels is not None and path.suffix.lower() not in SUFFIXES:
        raise WidegramError(f"{source}: brings its own labels; leave out the labels {labels!r}")
    if source == "digits":
        return open_digits()
    if path.suffix.lower() in SUFFIXES and not path.is_dir():
        return open_labelled(source, labels)
    if path.is_dir():
        if has_idx(path):
            return open_idx(path)
        if has_cifar(path):
            return open_cifar(path)
        raise WidegramError(
            f"{path}: holds neither IDX files (train-images-idx3-ubyte) nor CIFAR-10 batches"
        )
    if is_idx(existing_file(path)):
        return open_idx(path)
    raise WidegramError(
        f"{path}: unknown data; give digits, an IDX file, a directory of IDX files or CIFAR-10 "
        "batches, or .npy, .npz, .h5 (unpack archives first)"
    )


def _select(
    raw: RawData, train: int | None, test: int | None, seed: int
) -> tuple[_Selection, _Selection | None]:
    """The training and test rows; the test rows of a seed do not depend on ``train``."""
    for split in (raw.train, raw.test):
        if split is not None:
            _check_numbers(split.x)
    total = raw.train.x.shape[0]
    if not total:
        raise WidegramError(f"{raw.train.x.name}: is empty")
    if raw.test is not None:
        if _input_shape(raw.test.x) != _input_shape(raw.train.x):
            raise WidegramError(f"{raw.name}: its training and test inputs differ in shape")
        chosen = _Selection(raw.train, _draw(raw.train, train, [seed, 0]))
        held_out = _Selection(raw.test, _draw(raw.test, test, [seed, 1]))
        return chosen, held_out if len(held_out.indices) else None
    if test is None:
        test = max(0, min(total // _TEST_SHARE, total - (train or 0)))
    train = total - test if train is None else train
    if train + test > total or train < 1:
        raise WidegramError(
            f"{raw.name}: has {total} inputs, too few for {train} training and {test} test inputs"
        )
    order = np.random.default_rng(seed).permutation(total)
    chosen = _Selection(raw.train, order[test : test + train])
    return chosen, _Selection(raw.train, order[:test]) if test else None


def _draw(split: Split, count: int | None, seed: list[int]) -> np.ndarray:
    total = split.x.shape[0]
    if count is None:
        return np.arange(total)
    if count > total:
        raise WidegramError(f"{split.x.name}: has {total} inputs, {count} were asked for")
    return np.random.default_rng(seed).permutation(total)[:count]


def _check_numbers(table: Table) -> None:
    shape = table.shape[1:]
    if len(shape) not in (1, 2, 3) or 0 in shape:
        raise WidegramError(
            f"{table.name}: has shape {table.shape}; expected (n, D), (n, H, W) or (n, H, W, C)"
        )
    if table.dtype.kind not in "iubf":
        raise WidegramError(f"{table.name}: holds {table.dtype}, numbers are needed")


def _input_shape(table: Table) -> tuple[int, ...]:
    """(D,) or (H, W, C); images without a channel axis get one."""
    shape = table.shape[1:]
    return (*shape, 1) if len(shape) == 2 else shape


def _bytes(part: _Selection) -> int:
    return len(part.indices) * (4 * int(np.prod(_input_shape(part.split.x))) + 16)


def _blocks(part: _Selection, indices: np.ndarray, block: int) -> Iterator[np.ndarray]:
    """The rows ``indices`` in float64, at most ``block`` bytes at a time."""
    shape = _input_shape(part.split.x)
    step = max(1, block // (8 * int(np.prod(shape))))
    for lo in range(0, len(indices), step):
        interrupts.check()
        yield _take(part.split.x, indices[lo : lo + step], step).reshape(-1, *shape)


def _take(table: Table, indices: np.ndarray, window: int) -> np.ndarray:
    """Rows in any order, read in ascending runs of at most ``window`` rows."""
    order = np.argsort(indices, kind="stable")
    wanted = indices[order]
    rows = np.empty((len(indices), *table.shape[1:]))
    done = 0
    while done < len(wanted):
        lo = int(wanted[done])
        end = int(np.searchsorted(wanted, lo + window))
        run = table.rows(lo, int(wanted[end - 1]) + 1)
        rows[order[done:end]] = run[wanted[done:end] - lo]
        done = end
    bad = np.flatnonzero(~np.isfinite(rows.reshape(len(rows), -1)).all(axis=1))
    if len(bad):
        raise WidegramError(f"{table.name}: row {indices[bad[0]]} holds NaN or an infinite value")
    return rows


def _statistics(part: _Selection, block: int) -> Scaling:
    """Mean and standard deviation per channel or feature; constants have std 1."""
    indices = np.sort(part.indices)
    x = part.split.x
    return measure(lambda: _blocks(part, indices, block), _input_shape(x)[-1], x.dtype)


def _write(
    target: Path,
    parts: dict[str, _Selection],
    normalize: str,
    scaling: Scaling,
    attributes: dict[str, str | int],
    overwrite: bool,
    block: int,
) -> None:
    from widegram.durable import reserve
    from widegram.durable.sealed import new_sealed

    def describe(file: Any) -> None:
        for name, part in parts.items():
            shape = (len(part.indices), *_input_shape(part.split.x))
            reserve(file, f"{name}/x", shape, np.float32)

    rest: dict[str, np.ndarray] = {}
    for name, part in parts.items():
        rest[f"{name}/index"] = part.indices
        if part.split.y is not None:
            rest[f"{name}/y"] = part.split.y[part.indices]
    how = {"normalize": normalize, "mean": scaling.mean, "std": scaling.std}
    with new_sealed(target, describe, overwrite=overwrite) as new:
        for name, part in parts.items():
            lo = 0
            for rows in _blocks(part, part.indices, block):
                scaled = apply(rows, normalize, scaling)
                check_held(scaled, rows, part.indices[lo:], part.split.x.name, normalize)
                new.append(f"{name}/x", scaled)
                lo += len(rows)
        new.finish(rest, {"format": FORMAT, "format_version": 1, **attributes, **how})
