"""`widegram tune` as a library call: networks tried one after the other, by figures of the
training data."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from widegram.computing.devices import resolve_device
from widegram.computing.gram import gram
from widegram.data import Source, open_source
from widegram.data.distinct import check_distinct
from widegram.durable import write_bytes
from widegram.durable.outputs import check_target, is_own_plain
from widegram.errors import Interrupted, WidegramError, WriteFailed, shown
from widegram.gramfile import GramFile
from widegram.linalg.budget import array_budget, stream_share
from widegram.linalg.gramsource import open_train
from widegram.linalg.settings import Resources
from widegram.linalg.targets import Targets, load_targets, shift_of
from widegram.machine import interrupts
from widegram.machine.progress import Progress, ProgressCallback
from widegram.network import load_network
from widegram.plan.precision import SERIES_ACCEPTED
from widegram.tiling import End
from widegram.tuning.candidates import CandidateNetwork, DepthSweep, grouped, named
from widegram.tuning.figures import (
    CRITERIA_FIGURES,
    FIGURES,
    Regularisers,
    best_of,
    held_rows,
    judge,
)
from widegram.tuning.space import drawn, grid
from widegram.tuning.tried import Row, Settings, read_table, write_table
from widegram.validation.arrays import choice, file_path, integer, with_ending
from widegram.validation.choices import CRITERIA, DTYPES, KERNELS

DIAG_REGS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""Regularisers that are tried where none are named."""

_TOLD = ("seconds", "network", "accept_series_error")

WORK = ".kernels"
"""Ending of the Gram file beside a table, of the networks that are at work."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """What :func:`tune` is asked for, beside networks and data.

    * ``kernel``: 'nngp' or 'ntk'
    * ``criterion``: one of :data:`widegram.validation.choices.CRITERIA`
    * ``diag_regs``, ``absolute``: regularisers, times trace / n unless ``absolute``
    * ``samples``: how many networks to draw, None for all; ``seed``: of that, and of what is held
      out
    * ``holdout``: share of rows that the criterion 'holdout' keeps from training
    * ``task``, ``targets``, ``target_shift``, ``limit``: as for solve; the limit is also of x
    * ``dtype``, ``device``, ``threads``, ``dask``, ``accept_series_error``: as for gram
    * ``memory``: a size or a number of bytes for the whole process
    """

    kernel: str = "ntk"
    criterion: str = "loo"
    diag_regs: tuple[float, ...] = DIAG_REGS
    absolute: bool = False
    samples: int | None = None
    seed: int = 0
    holdout: float = 0.2
    task: str = "auto"
    targets: str | None = None
    target_shift: float | None = None
    limit: int | None = None
    dtype: str = "float32"
    device: str = "auto"
    threads: int | None = None
    dask: str | None = None
    memory: str | int | None = None
    accept_series_error: float | None = None


@dataclass(frozen=True, kw_only=True)
class TuneResult:
    """What was found.

    * ``out``: the table; ``best_network``: the file of the best network, which `gram` takes
    * ``criterion``, ``kernel``, ``n``, ``task``
    * ``rows``: a dict for each network, with the figures at its own best regulariser ``diag_reg``,
      best first; those without figures come last, with an ``error``
    * ``best``: the first of them
    * ``tried``: networks of this run; the others were in the table
    """

    out: str
    best_network: str
    criterion: str
    kernel: str
    n: int
    task: str
    tried: int
    rows: tuple[dict[str, Any], ...]
    best: dict[str, Any]
    seconds: float
    complete: bool = True

    def as_dict(self) -> dict[str, Any]:
        """For --json: ``file`` is the table."""
        found = {**self.__dict__, "rows": list(self.rows)}
        return {"file": found.pop("out"), **found}


def tune(
    nets: str | Sequence[str],
    x: str | Path | np.ndarray | Source,
    y: str,
    out: str | Path,
    search: Search | None = None,
    *,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
) -> TuneResult:
    """Try every network of ``nets`` on training data, and write the table of their figures.

    ``nets``: presets whose options may have several values, ``cnn-f:depth={3,5},w_var={1.5,2}``,
    or networks as `gram` takes them. Those that differ in depth alone are one sweep. ``x``, ``y``:
    training inputs and labels, nothing else: no test set is looked at. A table of the same data and
    search is gone on with: networks that have figures in it are not tried again, further ones are
    added, and those that were refused are tried anew, as with more memory; so are those of a search
    that accepted larger errors.
    The best network is written beside it, ``OUT.best.json``.

    Raises :class:`WidegramError` for bad input, where no network has a figure, and for a table of
    another search; :class:`Interrupted` after a signal, with all finished networks in the table.
    """
    search, started = search or Search(), time.perf_counter()
    path = file_path(out, "out")
    best_path = with_ending(path, ".best.json")
    _check(search)
    check_distinct([path, best_path], [x, y, [nets] if isinstance(nets, str) else list(nets)])
    source = open_source(x, search.limit)
    targets = load_targets(
        y, len(source), limit=search.limit, task=search.task,
        shift=shift_of(search.targets, search.target_shift),
    )  # fmt: skip
    _check_work(with_ending(path, WORK), source)
    texts = [nets] if isinstance(nets, str) else list(nets)
    texts = grid(texts) if search.samples is None else drawn(texts, search.samples, search.seed)
    candidates = named(texts, source.shape[1:])
    held = None
    if search.criterion == "holdout":
        held = held_rows(targets, search.holdout, search.seed)
    settings = _settings(search, source, targets)
    rows: list[Row] = []
    if overwrite or not path.exists():
        for place in (path, best_path):
            check_target(place, overwrite)
    else:
        rows = read_table(path, settings, search.diag_regs)
    known = {
        row.key for row in rows if not row.error and row.accept_series_error <= _accepted(search)
    }
    wanted = [one for one in candidates if (one.network.fingerprint(), one.head) not in known]
    tried = 0
    for sweep in grouped(wanted):
        told = _telling(progress, tried, len(wanted), next(iter(sweep.members.values())).net)
        fresh = _tried(sweep, source, targets, held, search, path, told)
        again = {row.key for row in fresh}
        rows = [row for row in rows if row.key not in again] + fresh
        tried += len(sweep.members)
        if any(not row.error for row in rows):
            # From here on the file is this search's own.
            write_table(path, settings, search.diag_regs, rows, overwrite=True)
    return _result(rows, search, targets, path, best_path, tried, started)


def _check(search: Search) -> None:
    choice(search.kernel, "kernel", KERNELS)
    choice(search.criterion, "criterion", CRITERIA)
    choice(search.dtype, "dtype", DTYPES)
    resolve_device(search.device)
    integer(search.seed, "seed", 0)
    if not isinstance(search.samples, int | None):
        raise WidegramError(f"samples {shown(search.samples)}: give a whole number")
    if not _are_regularisers(search.diag_regs):
        raise WidegramError(f"diag_regs {search.diag_regs}: give numbers that are not negative")
    if not isinstance(search.holdout, Real) or not 0 < search.holdout < 1:
        raise WidegramError(f"holdout {shown(search.holdout)}: give a share between 0 and 1")


def _are_regularisers(given: Any) -> bool:
    try:
        return len(given) > 0 and all(0 <= reg < np.inf for reg in given)
    except TypeError:
        return False


def _check_work(work: Path, source: Source) -> None:
    """Refuse what lies in the place of the work file and is none of this search's."""
    if not os.path.lexists(work):
        return
    ours = False
    if is_own_plain(work):
        with suppress(WidegramError), GramFile(work) as file:
            ours = file.symmetric and file.fingerprints["x1"] == source.fingerprint()
    if not ours:
        raise WidegramError(
            f"{work}: is in the way and no work file that this search left; move it elsewhere"
        )


def _settings(search: Search, source: Source, targets: Targets) -> Settings:
    by_holdout = search.criterion == "holdout"
    return Settings(
        kernel=search.kernel,
        dtype=search.dtype,
        x1_fingerprint=source.fingerprint(),
        y_fingerprint=targets.fingerprint,
        absolute=search.absolute,
        holdout=search.holdout if by_holdout else 0.0,
        seed=search.seed if by_holdout else 0,
    )


def _tried(
    sweep: DepthSweep,
    source: Source,
    targets: Targets,
    held: np.ndarray | None,
    search: Search,
    path: Path,
    progress: ProgressCallback | None,
) -> list[Row]:
    """The rows of a sweep; where kernels are refused, the reason in their row."""
    work = with_ending(path, WORK)
    begun = time.perf_counter()
    try:
        _computed(sweep, source, work, search, progress)
    except (Interrupted, WriteFailed):
        raise
    except WidegramError as refusal:
        if search.dask is not None:  # perhaps it is the workers that are at fault
            net = next(iter(sweep.members.values())).net
            raise WidegramError(f"{net}: {refusal}") from refusal
        if len(sweep.members) == 1:
            return [_row(one, 0.0, str(refusal), {}, search) for one in sweep.members.values()]
        # That of one depth is none of the others.
        alone = [DepthSweep(one.network, (), {End(): one}) for one in sweep.members.values()]
        return [row for one in alone for row in _tried(one, source, targets, held, search, path,
                                                       progress)]  # fmt: skip
    share = (time.perf_counter() - begun) / len(sweep.members)
    rows = []
    regularisers = Regularisers(search.diag_regs, search.absolute)
    for end, one in sweep.members.items():
        interrupts.check()
        begun, error = time.perf_counter(), ""
        figures: dict[str, np.ndarray] = {}
        memory = array_budget(search.memory)
        with open_train(work, search.kernel, end, memory=stream_share(memory)) as train:
            resources = Resources(
                memory=memory, work=path, key=f"{train.key()}/{targets.fingerprint}",
                overwrite=True, progress=progress,
            )  # fmt: skip
            try:
                figures = judge(train.operator, targets, regularisers, held, resources)
            except (Interrupted, WriteFailed):
                raise
            except WidegramError as refusal:
                error = str(refusal)
        rows.append(_row(one, share + time.perf_counter() - begun, error, figures, search))
    work.unlink()
    return rows


def _row(
    one: CandidateNetwork, seconds: float, error: str, figures: dict[str, np.ndarray],
    search: Search,
) -> Row:  # fmt: skip
    none = {name: np.full(len(search.diag_regs), np.nan) for name in FIGURES}
    return Row(
        net=one.net,
        head=one.head,
        network=one.network.canonical(),
        fingerprint=one.network.fingerprint(),
        seconds=seconds,
        error=error,
        figures=none | figures,
        accept_series_error=_accepted(search),
    )


def _accepted(search: Search) -> float:
    given = search.accept_series_error
    return SERIES_ACCEPTED if given is None else max(given, SERIES_ACCEPTED)


def _computed(
    sweep: DepthSweep, source: Source, work: Path, search: Search, progress: ProgressCallback | None
) -> None:
    """The Gram file of a sweep, gone on with where an interrupted search left it."""
    others = False
    if work.exists():
        with GramFile(work) as file:
            others = file.fingerprints["network"] != sweep.network.fingerprint()
            asked = (sweep.depths, (search.kernel,), np.dtype(search.dtype))
            others = others or (file.depths, file.kernels, file.dtype) != asked
    gram(
        sweep.network,
        source,
        work,
        get=search.kernel,
        dtype=search.dtype,
        device=search.device,
        depths=sweep.depths or None,
        threads=search.threads,
        memory=search.memory,
        overwrite=others,
        dask=search.dask,
        progress=progress,
        accept_series_error=search.accept_series_error,
    )


def _result(
    rows: Sequence[Row], search: Search, targets: Targets, path: Path, best_path: Path, tried: int,
    started: float,
) -> TuneResult:  # fmt: skip
    """What was found, and the file of the best network."""
    found = _ranked(rows, search)
    best = rows[found[0]["row"]]
    text = load_network(best.network).to_json()
    write_bytes(best_path, f"{text}\n".encode(), overwrite=True)
    told_rows = tuple({k: v for k, v in row.items() if k != "row"} for row in found)
    return TuneResult(
        out=str(path),
        best_network=str(best_path),
        criterion=search.criterion,
        kernel=search.kernel,
        n=targets.n,
        task=targets.task,
        tried=tried,
        rows=told_rows,
        best=told_rows[0],
        seconds=time.perf_counter() - started,
    )


def _ranked(rows: Sequence[Row], search: Search) -> list[dict[str, Any]]:
    """A dict for each row, at its own best regulariser; the best first, refused ones last."""
    figure, sign = CRITERIA_FIGURES[search.criterion]
    good: list[tuple[float, dict[str, Any]]] = []
    bad: list[dict[str, Any]] = []
    for n, row in enumerate(rows):
        best = best_of([row.figures], search.criterion)
        told: dict[str, Any] = {"row": n, "net": row.net, "head": row.head or None}
        if best is None:
            error = row.error or "with no regulariser is its matrix definite and well conditioned"
            bad.append({**told, "error": error})
            continue
        at = best[1]
        told["diag_reg"] = search.diag_regs[at]
        told |= {name: _known(row.figures[name][at]) for name in FIGURES}
        told |= {name: getattr(row, name) for name in _TOLD}
        good.append((sign * told[figure], told))
    if not good:
        raise WidegramError(f"no network has a figure to go by: {bad[0]['net']}: {bad[0]['error']}")
    return [told for _, told in sorted(good, key=lambda pair: pair[0])] + bad


def _known(figure: float) -> float | None:
    """A figure as a plain number, None where there is none."""
    return None if np.isnan(figure) else float(figure)


def _telling(
    progress: ProgressCallback | None, done: int, total: int, net: str
) -> ProgressCallback | None:
    """What tells ``progress`` which network is at work."""
    if progress is None:
        return None

    def tell(inner: Progress) -> None:
        progress(replace(inner, what=f"{done + 1} of {total}, {net}"))

    return tell
