"""Rows of a data set drawn at random: centers of approximations, small sets for trials."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.data.distinct import check_distinct
from widegram.data.inputs import Source, open_source
from widegram.data.labelled import open_labelled
from widegram.data.preparing import MARK, OVERHEAD, block_bytes
from widegram.data.read_together import read_together
from widegram.data.selecting import in_turns
from widegram.errors import WidegramError
from widegram.machine import interrupts
from widegram.validation.arrays import file_path, integer

Array = NDArray[Any]
_GAP = 16  # rows that are read in vain rather than in a read of their own


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """What was written.

    * ``out``, ``source``: the file, and the inputs that were drawn from
    * ``shape``: of the inputs drawn
    * ``labels``: whether there are any
    * ``balanced``: whether classes were drawn equally; ``classes``: label -> rows drawn of it
    """

    out: str
    source: str
    shape: tuple[int, ...]
    labels: bool
    balanced: bool
    classes: dict[int, int]


def sample(
    data: str | Path,
    out: str | Path,
    *,
    n: int,
    seed: int = 0,
    labels: str | Path | None = None,
    overwrite: bool = False,
    memory: str | int | None = None,
) -> Sampled:
    """Write ``n`` rows of ``data`` to an HDF5 file: ``/x``, of the rows' dtype, ``/index`` (n,)
    int64, their numbers, ascending, and ``/y``, their labels where there are any.

    * ``data``: inputs as `gram` takes them: ``file.npy``, ``file.npz:key``, ``file.h5:path``
    * ``labels``: those of ``data``, by default the array beside it that has the usual name
      (:mod:`widegram.data.labelled`). Where they are integers of shape (rows,) every class is
      drawn equally often, as far as it has rows; otherwise every row is as likely as any other
    * ``seed``: of the draw

    Raises :class:`WidegramError` for anything that cannot be read or written, and for more rows
    than there are.
    """
    # With h5py, which takes long: what only computes does without.
    from widegram.durable.outputs import check_disk, check_target

    target = file_path(out, "out")
    check_target(target, overwrite)
    check_distinct([target], [str(data), None if labels is None else str(labels)])
    source, seed = open_source(data), integer(seed, "seed", 0)
    y = open_labelled(str(data), None if labels is None else str(labels)).train.y
    count = integer(n, "n", 1)
    if count > len(source):
        raise WidegramError(f"{source.name}: has {len(source)} rows, {count} were asked for")
    balanced = y is not None and y.ndim == 1 and y.dtype.kind in "iu"
    rng = np.random.default_rng(seed)
    if balanced and y is not None:
        index = balanced_draw(y, count, rng)
    else:
        index = np.sort(rng.choice(len(source), count, replace=False))
    row_bytes = source.dtype.itemsize * int(np.prod(source.shape[1:]))
    check_disk(target, count * (row_bytes + 16) + OVERHEAD)
    taken = None if y is None else y[index]
    step = max(1, block_bytes(memory) // row_bytes)
    attributes = {"source": source.name, "seed": seed, "balanced": balanced}
    _write(target, source, index, taken, step, attributes, overwrite)
    classes = Counter(taken.tolist()) if balanced and taken is not None else {}
    return Sampled(
        out=str(target),
        source=source.name,
        shape=(count, *source.shape[1:]),
        labels=y is not None,
        balanced=balanced,
        classes=dict(sorted(classes.items())),
    )


def balanced_draw(y: Array, count: int, rng: np.random.Generator) -> Array:
    """``count`` rows, ascending: as many of every class of ``y`` (n,) as of any other, or all rows
    of a class that has fewer; what does not divide goes to classes drawn at random."""
    order = rng.permutation(y.size)
    return np.sort(order[in_turns(y[order])][:count])


def _write(
    target: Path,
    source: Source,
    index: Array,
    y: Array | None,
    step: int,
    attributes: dict[str, Any],
    overwrite: bool,
) -> None:
    from widegram.durable import reserve
    from widegram.durable.sealed import new_sealed

    def describe(file: Any) -> None:
        reserve(file, "x", (index.size, *source.shape[1:]), source.dtype)

    rest = {"index": index} if y is None else {"index": index, "y": y}
    with new_sealed(target, describe, overwrite=overwrite) as new:
        for places in read_together(index, _GAP, step):
            interrupts.check()
            run = index[places]
            lo = int(run[0])
            new.append("x", source.read(lo, int(run[-1]) + 1)[run - lo])
        new.finish(rest, MARK | attributes)
