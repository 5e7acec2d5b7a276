"""Rows of the table, one after the other; what is finished is kept in a file and not run again."""

from __future__ import annotations

import fnmatch
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from widegram.durable import write_bytes
from widegram.durable.outputs import check_disk, check_target
from widegram.errors import WidegramError
from widegram.machine import interrupts
from widegram_bench.published import errorbars, sources
from widegram_bench.published.lines import Folder, RunOne, held, run_line
from widegram_bench.published.rowtable import PublishedRow

_KEPT = ("name", "published", "commands")  # a finished row counts while these are the same
_NUMBERS = ("published", "ours", "difference", "error")  # None where there is none


@dataclass(frozen=True)
class Task:
    """What to compute, from where, and where to.

    * ``rows``: of the table
    * ``folders``: where data are looked for
    * ``out``: the file of results, JSON; None: results are not kept
    * ``about``: what else it says, of the machine for instance
    """

    rows: Sequence[PublishedRow]
    folders: Sequence[Path]
    out: Path | None
    about: dict[str, Any]


def run(
    task: Task,
    say: Callable[[str], None],
    run_one: RunOne = run_line,
) -> dict[str, Any]:
    """Compute every row that is not finished yet, and return ``about`` with

    * ``rows``: finished rows in the table's order, each with name, group, source, published, ours,
      difference, error, within, why, notes, commands, ran, data (digests), seconds,
      processor_seconds
    * ``skipped``: [{name, reason, failed}] of rows whose data or packages are missing or for which
      there is too little disk, and of those that failed, which keep no others from being computed

    After each row the file of results is written anew. Raises WidegramError where it is no such
    file.
    """
    found = sources.look(task.folders)
    results = _Results(task, found)
    with _work(task.out) as work, interrupts.keeping(results.told):
        for number, row in enumerate(task.rows):
            if row.mean_of or results.has(row):
                continue
            reason = sources.missing(row.needs, found) or _no_room(row, work)
            if reason:
                say(f"{row.name}: skipped: {reason}")
                results.skip(row, reason)
                continue
            say(f"row {number + 1} of {len(task.rows)}: {row.name}")
            try:
                results.add(row, _computed(row, found, work, run_one))
            except WidegramError as error:
                say(f"{row.name}: failed: {error}")
                results.skip(row, str(error), failed=True)
            if all(results.has(other) for other in task.rows if other.group == row.group):
                shutil.rmtree(work / row.group, ignore_errors=True)
    for row in task.rows:
        if row.mean_of:
            results.add_mean(row)
    return results.written()


def _computed(
    row: PublishedRow,
    found: dict[str, sources.DataPlace],
    work: Path,
    run_one: RunOne,
) -> dict[str, Any]:
    """What a row's last command finds, the lines that were run, notes on its data, seconds by the
    clock and of processors."""
    used = [found[need] for need in row.needs if need in found]
    places = {name: source.place for name, source in found.items()}
    lines = [source.before for source in used if source.before]
    lines += [line.format_map(places) for line in row.commands]
    begun = time.perf_counter(), _processor()
    folder = Folder(work / row.group, used, run_one)
    results = [folder.result(line) for line in lines]
    spent = {
        "seconds": time.perf_counter() - begun[0],
        "processor_seconds": _processor() - begun[1],
    }
    notes = [source.note for source in used if source.note]
    digests = {need: found[need].digest for need in row.needs if need in found}
    return {"found": results[-1], "ran": lines, "notes": notes, "data": digests, **spent}


def _no_room(row: PublishedRow, work: Path) -> str:
    """What a row lacks of disk, beside what its group holds already; empty where it lacks none."""
    try:
        check_disk(work / "K.h5", int(row.disk) - held(work / row.group))
    except WidegramError as error:
        return str(error)
    return ""


def _processor() -> float:
    """Seconds of processors that this process and its children that ended have used."""
    return sum(os.times()[:4])


@contextmanager
def _work(out: Path | None) -> Iterator[Path]:
    """The folder of Gram files: beside the results, where a later run finds it; gone once empty."""
    if out is None:
        with tempfile.TemporaryDirectory(prefix="widegram-") as folder:
            yield Path(folder)
        return
    beside = out.with_name(out.name + ".work")
    beside.mkdir(exist_ok=True)
    yield beside
    if not any(beside.iterdir()):
        beside.rmdir()


class _Results:
    """Finished rows by name, and the file that they are kept in."""

    def __init__(self, task: Task, found: dict[str, sources.DataPlace]) -> None:
        self._task, self._found = task, found
        self._rows: dict[str, dict[str, Any]] = {}
        self._skipped: dict[str, dict[str, Any]] = {}
        if task.out is not None:
            check_target(task.out, overwrite=True)
            if task.out.exists():
                self._rows = _read(task.out)

    def has(self, row: PublishedRow) -> bool:
        """Whether a row is finished, by the commands that it has today, from the data that are
        there now; where they are gone, from any."""
        kept = self._rows.get(row.name)
        if kept is None or any(kept[key] != _plain(row)[key] for key in _KEPT):
            return False
        digests = kept.get("data", {})
        return all(
            digests.get(need) == self._found[need].digest
            for need in row.needs
            if need in self._found
        )

    def told(self) -> str:
        """What a stop leaves."""
        if self._task.out is None:
            return "interrupted; without --out nothing is kept"
        count = sum(self.has(row) for row in self._task.rows)
        return (
            f"interrupted; {count} of {len(self._task.rows)} rows are in {self._task.out}; "
            "run the same command again"
        )

    def skip(self, row: PublishedRow, reason: str, failed: bool = False) -> None:
        """Say why a row has no number."""
        self._skipped[row.name] = {"name": row.name, "reason": reason, "failed": failed}

    def add(self, row: PublishedRow, computed: dict[str, Any]) -> None:
        """Keep a row, and write the file."""
        found = computed["found"]
        share = found["accuracy"] if row.published is None else row.published
        self._keep(row, found["accuracy"], errorbars.binomial(share, found["n_test"]))
        self._rows[row.name] |= computed
        self.written()

    def add_mean(self, row: PublishedRow) -> None:
        """Keep the mean of the rows that ``row`` names, where all of them are finished."""
        of = [other for other in self._task.rows if fnmatch.fnmatch(other.name, row.mean_of)]
        lacking = [other.name for other in of if not self.has(other)]
        if lacking:
            self.skip(row, f"{len(lacking)} of {len(of)} rows are not finished")
            return
        self._keep(row, *errorbars.mean([self._rows[other.name] for other in of]))

    def _keep(self, row: PublishedRow, ours: float, error: float) -> None:
        self._rows[row.name] = _plain(row) | errorbars.judged(row, ours, error)

    def written(self) -> dict[str, Any]:
        """All results as they stand; in the file, too."""
        others = dict(self._rows)
        ordered = [others.pop(row.name) for row in self._task.rows if self.has(row)]
        skipped = list(self._skipped.values())
        found = self._task.about | {"rows": ordered, "skipped": skipped}
        if self._task.out is not None:
            text = json.dumps(found | {"rows": [*ordered, *others.values()]}, indent=1)
            write_bytes(self._task.out, f"{text}\n".encode(), overwrite=True)
        return found


def _plain(row: PublishedRow) -> dict[str, Any]:
    return json.loads(json.dumps(asdict(row)))


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        found = json.loads(path.read_text("utf-8"))
        rows = {row["name"]: row for row in found["rows"]}
        if found["benchmark"] != "published" or not all(map(_is_row, rows.values())):
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError):  # nested too deeply
        raise WidegramError(
            f"{path}: holds no results of `bench published`; choose another name"
        ) from None
    return rows


def _is_row(row: dict[str, Any]) -> bool:
    """Whether it has what is read of a finished row."""
    return (
        {*_KEPT, *_NUMBERS, "within", "why"} <= row.keys()
        and all(isinstance(row[name], float | int | None) for name in _NUMBERS)
        and isinstance(row.get("data", {}), dict)
    )
