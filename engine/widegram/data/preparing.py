"""Raw data sets to floating point inputs: select, split, learn what inputs need, do it, write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from widegram.data import treatment, whitening
from widegram.data.distinct import check_distinct
from widegram.data.raw_files import open_raw
from widegram.data.selecting import Selection, select
from widegram.data.treatment import Treatment
from widegram.machine.budgets import budget
from widegram.validation.arrays import choice, file_path, integer
from widegram.validation.choices import NORMALIZATIONS

FORMAT = "widegram-data"
_BLOCK_SHARE = 16
_OVERHEAD = 2**16


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What was written.

    * ``out``, ``source``: the file, and what it was made from
    * ``train_shape``, ``test_shape``: of the inputs; None where nothing was held out
    * ``labels``: whether there are any
    * ``normalize``: how inputs were scaled
    * ``zca``: eps of ZCA, None without; ``zca_regulariser``: what it added to eigenvalues
    * ``mean``, ``std``: of the raw training inputs, a value for each channel of images or feature
      of vectors, or one for all
    * ``classes``: training rows of each integer label, None where labels are none
    * ``treatment``: what was done to inputs, in one line
    * ``note``: what the user should know
    """

    out: str
    source: str
    train_shape: tuple[int, ...]
    test_shape: tuple[int, ...] | None
    labels: bool
    normalize: str
    zca: float | None
    zca_regulariser: float | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: dict[str, int] | None
    treatment: str
    note: str


def prepare(  # noqa: PLR0913  (an option each)
    source: str | Path,
    out: str | Path,
    *,
    train: int | None = None,
    test: int | None = None,
    balanced: bool = False,
    normalize: str = "standardize",
    zca: float | None = None,
    seed: int = 0,
    labels: str | None = None,
    overwrite: bool = False,
    memory: str | int | None = None,
) -> Prepared:
    """Write ``/train/x``, ``/train/y``, ``/test/x``, ``/test/y`` of a data set to an HDF5 file.

    x is float32 of shape (n, H, W, C) or (n, D), y int64 (or float64 targets), ``index`` the rows
    in the source. Root attributes: source, normalize, seed, mean, std. ``/statistics`` has what
    :func:`widegram.data.applying.apply` does to other inputs.

    * ``source``: 'digits', an IDX file or directory (MNIST family), a CIFAR directory, or
      .npy / .npz / .h5 with labels (see :mod:`widegram.data.labelled`)
    * ``train``, ``test``: rows to draw at random; None takes all, in the order of the source, or,
      where the source has no test split, holds out a fifth at random
    * ``balanced``: as many training rows of every class as of any other, as far as it has so many;
      without ``train`` as many as the smallest class has
    * ``seed``: of the draws
    * ``normalize``: 'standardize' and 'channel' subtract the mean and divide by the standard
      deviation, of the chosen training rows, of each channel of images or feature of vectors,
      'global' those of all numbers; 'unit-norm' divides every input by its Euclidean norm,
      'unit-square' by the root of the mean of its squares; 'none' only converts
    * ``zca``: whiten what ``normalize`` made, regularised by this times the mean eigenvalue
      (:mod:`widegram.data.whitening`)
    * ``labels``: those of an array file that does not hold them

    Raises :class:`WidegramError` for anything that cannot be read or written.
    """
    # With h5py, which takes long: what only computes does without.
    from widegram.durable.outputs import check_target

    target = file_path(out, "out")
    source = str(file_path(source, "source"))
    labels = None if labels is None else str(file_path(labels, "labels"))
    normalize = choice(normalize, "normalize", NORMALIZATIONS)
    eps = None if zca is None else whitening.check_eps(zca)
    train = None if train is None else integer(train, "train", 1)
    test = None if test is None else integer(test, "test", 0)
    seed = integer(seed, "seed", 0)
    check_target(target, overwrite)
    check_distinct([target], [source, labels])
    raw = open_raw(source, labels)
    chosen, held_out = select(raw, train, test, seed, balanced)
    if eps is not None:
        whitening.check_room(int(np.prod(chosen.shape[1:])), memory, learning=True)
    parts = {"train": chosen} | ({"test": held_out} if held_out else {})
    block = block_bytes(memory)
    treated = treatment.learn(chosen, normalize, eps, block)
    kept = treated.datasets()
    check_room_for(target, parts, sum(array.nbytes for array in kept.values()))
    how = {"source": raw.name, "seed": seed, "balanced": balanced}
    how |= treated.summary() | treated.statistics()
    write(target, parts, treated, kept, how, overwrite, block)
    found = treated.zca
    return Prepared(
        out=str(target),
        source=raw.name,
        train_shape=chosen.shape,
        test_shape=held_out.shape if held_out else None,
        labels=chosen.split.y is not None,
        normalize=normalize,
        zca=eps,
        zca_regulariser=found.regulariser if found else None,
        mean=tuple(treated.scaling.mean.tolist()),
        std=tuple(treated.scaling.std.tolist()),
        classes=counts(chosen),
        treatment=treated.described(),
        note=raw.note,
    )


def counts(part: Selection) -> dict[str, int] | None:
    """How many rows have each label; None where labels are no integers of shape (n,)."""
    y = part.labels
    if y is None or y.ndim != 1 or y.dtype.kind not in "iu":
        return None
    names, sizes = np.unique(y, return_counts=True)
    return {str(name): size for name, size in zip(names.tolist(), sizes.tolist(), strict=True)}


def block_bytes(memory: str | int | None) -> int:
    """Bytes of a block of rows in float64: a share of the budget, since several are in work."""
    return budget(memory) // _BLOCK_SHARE


def check_room_for(target: Path, parts: Mapping[str, Selection], more: int = 0) -> None:
    """Refuse inputs, labels and ``more`` bytes that do not fit on the disk."""
    from widegram.durable.outputs import check_disk

    rows = sum(
        len(part.indices) * (4 * int(np.prod(part.shape[1:])) + 16) for part in parts.values()
    )
    check_disk(target, rows + more + _OVERHEAD)


def write(
    target: Path,
    parts: Mapping[str, Selection],
    treated: Treatment,
    kept: Mapping[str, Any],
    attributes: Mapping[str, Any],
    overwrite: bool,
    block: int,
) -> None:
    """Write the rows of ``parts``, treated, their labels and numbers, the datasets ``kept``.

    ``parts`` are named by the groups that they go to, '' for the root.
    """
    from widegram.durable import reserve
    from widegram.durable.sealed import new_sealed

    def describe(file: Any) -> None:
        for name, part in parts.items():
            reserve(file, f"{name}/x".lstrip("/"), part.shape, np.float32)

    rest: dict[str, Any] = dict(kept)
    for name, part in parts.items():
        rest[f"{name}/index".lstrip("/")] = part.indices
        if part.labels is not None:
            rest[f"{name}/y".lstrip("/")] = part.labels
    with new_sealed(target, describe, overwrite=overwrite) as new:
        for name, part in parts.items():
            lo = 0
            for rows in part.blocks(block):
                made = treated.apply(rows, part.indices[lo:], part.split.x.name)
                new.append(f"{name}/x".lstrip("/"), made)
                lo += len(rows)
        new.finish(rest, {"format": FORMAT, "format_version": 1, **attributes})
