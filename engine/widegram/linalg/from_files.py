"""`widegram.solve` and `widegram.eig`: the commands as functions."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from widegram.data.chosen_rows import RowsLike
from widegram.data.distinct import check_distinct
from widegram.durable.outputs import check_target
from widegram.linalg.budget import array_budget, stream_share
from widegram.linalg.gramsource import open_train
from widegram.linalg.jobs import solve_file
from widegram.linalg.named import by_name
from widegram.linalg.settings import Resources, SolveOptions
from widegram.linalg.solvejob import SolveJob, SolveResult
from widegram.linalg.spectrum import SpectrumOptions, spectrum
from widegram.linalg.spectrumfile import write_spectrum
from widegram.linalg.summary import Spectrum
from widegram.machine.progress import ProgressCallback
from widegram.tiling import End
from widegram.validation.arrays import choice, file_path
from widegram.validation.choices import KERNELS, SOLVE_METHODS


def solve(
    gram: str | Path,
    y: str | Path,
    out: str | Path,
    *,
    kernel: str = "ntk",
    diag_reg: float = 0.0,
    method: str = "auto",
    progress: ProgressCallback | None = None,
    **settings: Any,
) -> SolveResult:
    """Solve (K + reg I) alpha = Y for a training matrix, and write the solution file ``out``.

    ``gram``: a Gram file (n, n), or an array ``K.npy``. ``y``: labels of its rows, as
    ``'file.npy' | 'file.npz:key' | 'file.h5:path'``: integer classes (n,) or floating-point targets
    (n, k). ``kernel``: 'nngp' or 'ntk'. ``diag_reg``: what is added to the diagonal, times
    trace / n. ``method``: one of those of `widegram solve`. All other fields of
    :class:`widegram.linalg.SolveJob` and :class:`widegram.linalg.SolveOptions` go by their names,
    such as ``path=(1e-4, 1e-3)`` (the command's --diag-reg-path), ``evidence=True``,
    ``rows=range(100)``, ``memory='2GB'``, ``overwrite=True``, ``tol=1e-6``.

    Stopped or killed, the same call goes on where its work files are. Raises WidegramError for bad
    input: labels that do not match or hold NaN, an incomplete Gram file, a negative regulariser, an
    output that exists, a method that does not fit in memory.
    """
    named = {
        "gram": gram,
        "y": y,
        "out": out,
        "kernel": choice(kernel, "kernel", KERNELS),
        "diag_reg": diag_reg,
        "method": choice(method, "method", SOLVE_METHODS),
    }
    job, options = by_name("solve", {**named, **settings}, SolveJob, SolveOptions)
    return solve_file(SolveJob(**job, options=SolveOptions(**options)), progress)


def eig(
    gram: str | Path,
    kernel: str = "ntk",
    *,
    depth: int | None = None,
    head: str | None = None,
    rows: RowsLike | None = None,
    out: str | Path | None = None,
    memory: str | int | None = None,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
    **settings: Any,
) -> Spectrum:
    """Eigenvalues, condition number, effective rank and density of a training matrix.

    ``gram``: a Gram file (n, n), or an array ``K.npy``. ``kernel``: 'nngp' or 'ntk'; of a file with
    several ends the ``depth`` and the ``head``. ``rows``: which rows and columns, all without.
    ``out``: where /eigenvalues (ascending), /eigenvectors (n, k) and /density are written. What is
    computed say the fields of :class:`widegram.linalg.SpectrumOptions` by their names, such as
    ``full=True``, or ``k=10, which='SA'``.

    Raises WidegramError for bad input: an incomplete file, options that exclude each other, an
    output that exists, what does not fit in memory.
    """
    (options,) = by_name("eig", settings, SpectrumOptions)
    file = file_path(gram, "gram")
    target = None if out is None else file_path(out, "out")
    if target is not None:
        check_target(target, overwrite)
        check_distinct([target], [file, rows])
    budget = array_budget(memory)
    end, stream = End(depth, head), stream_share(budget)
    kernel = choice(kernel, "kernel", KERNELS)
    with open_train(file, kernel, end, memory=stream, rows=rows) as train:
        work = _work_place(file, kernel, target)
        resources = Resources(budget, work=work, key=train.key(), progress=progress)
        found = spectrum(train.operator, SpectrumOptions(**options), resources)
        if target is not None:
            write_spectrum(target, found, train, overwrite=overwrite)
    return found


def _work_place(file: Path, kernel: str, out: Path | None) -> Path | None:
    """Where a factor on the disk goes: beside ``out``, else beside the Gram file; None: nowhere."""
    place = file.with_name(f"{file.name}.{kernel}") if out is None else out
    return place if os.access(place.parent, os.W_OK) else None
