"""Raw data sets to floating point inputs: select, split, learn what inputs need, do it, write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from widegram.data import encoding, treatment
from widegram.data.columns import TableOptions
from widegram.data.distinct import check_distinct
from widegram.data.encoding import Encoding
from widegram.data.raw_files import open_raw
from widegram.data.selecting import Selection, is_drawn, select
from widegram.data.treatment import Treatment
from widegram.data.zca import check_eps, check_zca_room
from widegram.errors import WidegramError, shown
from widegram.machine.budgets import budget
from widegram.validation.arrays import choice, file_path, integer
from widegram.validation.choices import NORMALIZATIONS

FORMAT = "widegram-data"
MARK = {"format": FORMAT, "format_version": 1}
"""Attributes of every data file."""
TABLE = f"{treatment.GROUP}/table"
_BLOCK_SHARE = 16
OVERHEAD = 2**16
"""Bytes of a data file beside its arrays, at most."""


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
    * ``columns``: those of a table, in one line
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
    columns: str | None
    treatment: str
    note: str


def prepare(  # noqa: PLR0913 - public: by keyword, one for each option of the command
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
    target: str | None = None,
    category: Sequence[str] = (),
    drop: Sequence[str] = (),
    accept_unseen: bool = False,
) -> Prepared:
    """Write ``/train/x``, ``/train/y``, ``/test/x``, ``/test/y`` of a data set to an HDF5 file.

    x is float32 of shape (n, H, W, C) or (n, D), y int64 (or float64 targets), ``index`` the rows
    in the source. Root attributes: source, normalize, seed, mean, std. ``/statistics`` has what
    :func:`widegram.data.applying.apply` does to other inputs.

    * ``source``: 'digits', an IDX file or directory (MNIST family), a CIFAR directory,
      .npy / .npz / .h5 / .mat with labels (see :mod:`widegram.data.labelled`), or a table
      (.csv, .tsv, .parquet)
    * ``train``, ``test``: rows to draw at random; None takes all, in the order of the source, or,
      where the source has no test split, holds out a fifth at random
    * ``balanced``: as many training rows of every class as of any other, as far as it has so many;
      without ``train`` as many as the smallest class has
    * ``seed``: of the draws; where nothing is drawn, one other than 0 is noted
    * ``normalize``: 'standardize' and 'channel' subtract the mean and divide by the standard
      deviation, of the chosen training rows, of each channel of images or feature of vectors,
      'global' those of all numbers; 'unit-norm' divides every input by its Euclidean norm,
      'unit-square' by the root of the mean of its squares; 'none' only converts
    * ``zca``: whiten what ``normalize`` made, regularised by this times the mean eigenvalue
      (:mod:`widegram.data.zca`)
    * ``labels``: those of an array file that does not hold them
    * ``target``, ``category``, ``drop``: of a table: the column of labels, columns whose numbers
      are categories, columns left out (:mod:`widegram.data.encoding`)
    * ``accept_unseen``: give texts of test rows that no training row holds zeros, and say so

    Raises :class:`WidegramError` for anything that cannot be read or written.
    """
    # With h5py, which takes long: what only computes does without.
    from widegram.durable.outputs import check_target

    path = file_path(out, "out")
    source = str(file_path(source, "source"))
    labels = None if labels is None else str(file_path(labels, "labels"))
    normalize = choice(normalize, "normalize", NORMALIZATIONS)
    eps = None if zca is None else check_eps(zca)
    train = None if train is None else integer(train, "train", 1)
    test = None if test is None else integer(test, "test", 0)
    seed = integer(seed, "seed", 0)
    options = TableOptions(target, names(category, "category"), names(drop, "drop"))
    check_target(path, overwrite)
    check_distinct([path], [source, labels])
    raw = open_raw(source, labels, options)
    refuse_unseen(accept_unseen and raw.table is None, source)
    chosen, held_out = select(raw, train, test, seed, balanced)
    parts = {"train": chosen} | ({"test": held_out} if held_out else {})
    block = block_bytes(memory)
    table, notes = None, [raw.note] if raw.note else []
    if seed and not is_drawn(raw, train, test, balanced):
        notes.append(f"{raw.name} has its own split, and all rows are taken: seed {seed} is unused")
    if raw.table is not None:
        table = encoding.learn(raw.table, target, options.dropped, chosen, block)
        parts, found = encoding.encoded(table, raw.table, parts, accept_unseen, block)
        notes += found
    if eps is not None:
        check_zca_room(int(np.prod(parts["train"].shape[1:])), memory, learning=True)
    treated = treatment.learn(parts["train"], normalize, eps, block)
    kept = treated.datasets()
    how = {"source": raw.name, "seed": seed, "balanced": balanced}
    how |= treated.summary() | treated.statistics()
    if table is not None:
        kept[TABLE] = table.to_bytes()
        how["columns"] = table.described()
    check_room_for(path, parts, sum(array.nbytes for array in kept.values()))
    write(path, parts, treated, kept, how, overwrite, block)
    return _prepared(path, raw.name, parts, treated, table, notes)


def _prepared(
    out: Path,
    source: str,
    parts: Mapping[str, Selection],
    treated: Treatment,
    table: Encoding | None,
    notes: Sequence[str],
) -> Prepared:
    train, test = parts["train"], parts.get("test")
    return Prepared(
        out=str(out),
        source=source,
        train_shape=train.shape,
        test_shape=test.shape if test else None,
        labels=train.split.y is not None,
        normalize=treated.normalize,
        zca=treated.zca.eps if treated.zca else None,
        zca_regulariser=treated.zca.regulariser if treated.zca else None,
        mean=tuple(treated.scaling.mean.tolist()),
        std=tuple(treated.scaling.std.tolist()),
        classes=_counts(train, table),
        columns=None if table is None else table.described(),
        treatment=treated.described(),
        note="; ".join(notes),
    )


def refuse_unseen(asked: bool, source: str) -> None:
    """Raise WidegramError where categories of what is no table are to be accepted."""
    if asked:
        raise WidegramError(f"{source}: is no table; accept_unseen (--accept-unseen) is of tables")


def names(value: Any, name: str) -> tuple[str, ...]:
    """Names of columns, each once.

    Raises WidegramError for what is no list of texts.
    """
    if isinstance(value, str) or not all(isinstance(each, str) for each in value):
        raise WidegramError(f"{name} is {shown(value)}; it must be a list of names of columns")
    return tuple(dict.fromkeys(value))


def _counts(part: Selection, table: Encoding | None) -> dict[str, int] | None:
    """How many rows have each label; None where labels are no integers of shape (n,)."""
    y = part.labels
    if y is None or y.ndim != 1 or y.dtype.kind not in "iu":
        return None
    labels, sizes = np.unique(y, return_counts=True)
    levels = table.target.levels if table is not None and table.target is not None else None
    called = [str(label) if levels is None else levels[label] for label in labels.tolist()]
    return dict(zip(called, sizes.tolist(), strict=True))


def block_bytes(memory: str | int | None) -> int:
    """Bytes of a block of rows in float64: a share of the budget, since several are in work."""
    return budget(memory) // _BLOCK_SHARE


def check_room_for(target: Path, parts: Mapping[str, Selection], more: int = 0) -> None:
    """Refuse inputs, labels and ``more`` bytes that do not fit on the disk."""
    from widegram.durable.outputs import check_disk

    rows = sum(
        len(part.indices) * (4 * int(np.prod(part.shape[1:])) + 16) for part in parts.values()
    )
    check_disk(target, rows + more + OVERHEAD)


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
        new.finish(rest, MARK | dict(attributes))
