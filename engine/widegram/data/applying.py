"""What was learnt from training inputs, done to new ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from widegram.data import treatment
from widegram.data.columns import TableOptions
from widegram.data.distinct import check_distinct
from widegram.data.encoding import Encoding, encoded
from widegram.data.preparing import (
    FORMAT,
    TABLE,
    block_bytes,
    check_room_for,
    refuse_unseen,
    write,
)
from widegram.data.raw_files import open_raw
from widegram.data.selecting import Selection, everything
from widegram.data.treatment import Treatment
from widegram.errors import WidegramError
from widegram.validation.arrays import file_path


@dataclass(frozen=True, kw_only=True)
class Applied:
    """What was written.

    * ``out``, ``source``, ``statistics``: the file, the new data, the file of what was learnt
    * ``shapes``: of the inputs, by their datasets: ``/x``, or ``/train/x`` and ``/test/x`` where
      the source keeps two parts
    * ``labels``: whether there are any
    * ``treatment``: what was done to inputs, in one line
    * ``note``: what the user should know
    """

    out: str
    source: str
    statistics: str
    shapes: dict[str, tuple[int, ...]]
    labels: bool
    treatment: str
    note: str


def apply(
    statistics: str | Path,
    source: str | Path,
    out: str | Path,
    *,
    labels: str | None = None,
    overwrite: bool = False,
    memory: str | int | None = None,
    accept_unseen: bool = False,
) -> Applied:
    """Write all rows of ``source``, in their order, as ``data prepare`` would have written them.

    ``/x`` is float32, ``/y`` the labels where there are any, ``/index`` the rows' numbers; a source
    with a test split of its own gives ``/train/x`` ... ``/test/index``. A row that was a training
    row becomes the same bits again.

    * ``statistics``: a file that :func:`widegram.data.prepare` wrote
    * ``source``, ``labels``: as that function takes them; a table, if a table was prepared, with
      the same columns, in any order, with or without its target
    * ``accept_unseen``: give texts that no training row held zeros, and say so

    Raises :class:`WidegramError` for anything that cannot be read or written, for a file without
    statistics, and for inputs of another shape.
    """
    # With h5py, which takes long: what only computes does without.
    from widegram.durable.outputs import check_target
    from widegram.durable.sealed import SealedFile

    target = file_path(out, "out")
    learnt = file_path(statistics, "statistics")
    source = str(file_path(source, "source"))
    labels = None if labels is None else str(file_path(labels, "labels"))
    check_target(target, overwrite)
    check_distinct([target], [str(learnt), source, labels])
    what = "prepared data; give a file that `widegram data prepare` wrote"
    with SealedFile(learnt, FORMAT, what, "prepare it again") as file, file.parsing():
        treated = treatment.stored(file, memory)
        table = Encoding.from_bytes(file.array(TABLE)) if TABLE in file else None
    raw = open_raw(source, labels, _options(table))
    refuse_unseen(accept_unseen and raw.table is None, source)
    if (raw.table is None) is not (table is None):
        kind = "a table" if raw.table is None else "no table"
        raise WidegramError(f"{source}: {learnt} was learnt from {kind}, give the same kind")
    parts = {"": everything(raw.train)}
    if raw.test is not None:
        parts = {"train": parts[""], "test": everything(raw.test)}
    block = block_bytes(memory)
    lines: list[str] = []
    if raw.table is not None and table is not None:
        parts, lines = encoded(table, raw.table, parts, accept_unseen, block)
    for part in parts.values():
        _check_shape(part, treated, learnt)
    check_room_for(target, parts)
    how = {"source": raw.name, "statistics": str(learnt), **treated.summary()}
    write(target, parts, treated, {}, how, overwrite, block)
    return Applied(
        out=str(target),
        source=raw.name,
        statistics=str(learnt),
        shapes={f"{name}/x".lstrip("/"): part.shape for name, part in parts.items()},
        labels=part.split.y is not None,
        treatment=treated.described(),
        note="; ".join([*([raw.note] if raw.note and table is None else []), *lines]),
    )


def _options(table: Encoding | None) -> TableOptions:
    """Columns as the training data had them; they may be missing, which is said later."""
    if table is None:
        return TableOptions(new=True)
    target = None if table.target is None else table.target.name
    return TableOptions(target, tuple(table.categories), table.dropped, new=True)


def _check_shape(part: Selection, treated: Treatment, learnt: Path) -> None:
    if part.shape[1:] != treated.shape:
        raise WidegramError(
            f"{part.split.x.name}: has inputs of shape {part.shape[1:]}, {learnt} was learnt from "
            f"inputs of shape {treated.shape}"
        )
