"""The files of one run: which is which, that all are whole, and that they belong together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from widegram.closing import ClosedOnFailure, Closing
from widegram.durable.contents import text_of
from widegram.durable.hdf5 import Unreadable, check_readable, hdf5_errors, open_file
from widegram.durable.sealed import SealedFile
from widegram.errors import Damaged, WidegramError
from widegram.gramfile import GramFile
from widegram.gramfile.header import FORMAT as GRAM
from widegram.linalg.solutionfile import FORMAT as SOLUTION
from widegram.linalg.spectrumfile import FORMAT as SPECTRUM
from widegram.predict.predictionfile import FORMAT as PREDICTION
from widegram.tiling import End
from widegram.verifying.file_kinds import KINDS, SealReport
from widegram.verifying.verify import verify

# What a report tells of, and the command that writes it.
_COMMANDS = {GRAM: "gram", SOLUTION: "solve", PREDICTION: "predict", SPECTRUM: "eig"}
_NAMES = {GRAM: "a gram file"} | {
    kind: f"a {KINDS[kind].name}" for kind in (SOLUTION, PREDICTION, SPECTRUM)
}
# What two files of one kernel and one solution agree in, and how it is called in messages.
_OF_KERNEL = {
    "network_fingerprint": "network",
    "x1_fingerprint": "training data",
    "kernel": "kernel",
    "depth": "depth",
    "head": "head",
    "rows_fingerprint": "rows",
}
_OF_SOLUTION = {"diag_reg": "regulariser", "shift": "regulariser", "y_fingerprint": "labels"}
_ABSENT = {"depth": -1, "head": "", "rows_fingerprint": ""}


@dataclass(frozen=True)
class Run(Closing):
    """The files of a run, open; a context manager that closes them.

    ``solution``, ``prediction`` and ``spectrum`` are None where they were not given. ``checks`` has
    of each file its kind, size, and how many checksums were compared.
    """

    gram: GramFile
    solution: SealedFile | None
    prediction: SealedFile | None
    spectrum: SealedFile | None
    checks: tuple[dict[str, Any], ...]
    held: ExitStack

    @property
    def files(self) -> dict[str, GramFile | SealedFile]:
        """The files that were given, by what they are."""
        every = {
            "gram file": self.gram,
            "solution": self.solution,
            "prediction": self.prediction,
            "spectrum": self.spectrum,
        }
        return {kind: file for kind, file in every.items() if file is not None}

    @property
    def kernel(self) -> str | None:
        """The kernel of what was made of the gram file; None of a gram file alone."""
        found = [file for file in self.files.values() if isinstance(file, SealedFile)]
        return str(found[0].attributes["kernel"]) if found else None

    def close(self) -> None:
        """Close them."""
        self.held.close()


def open_run(paths: Iterable[str | Path]) -> Run:
    """Open a gram file and what was made of it, in any order, once all checksums are compared.

    Raises :class:`WidegramError` for a file of another kind, two of one kind, no gram file, one
    that is not complete or being written, and files of different kernels;
    :class:`~widegram.errors.Damaged` for a damaged one.
    """
    given: dict[str, Path] = {}
    for path in map(Path, paths):
        kind = _kind(path)
        if kind in given:
            raise WidegramError(
                f"{path}: is {_NAMES[kind]}, as {given[kind]} is; a report tells of one of them"
            )
        given[kind] = path
    if GRAM not in given:
        raise WidegramError(
            f"{next(iter(given.values()))}: give the gram file that it was made of, too"
        )
    if PREDICTION in given and SOLUTION not in given:
        raise WidegramError(
            f"{given[PREDICTION]}: give the solution that it was predicted with, too"
        )
    with GramFile(given[GRAM]) as first:
        first.require_complete()
    checks = tuple(_checked(path) for path in given.values())
    with ExitStack() as held:
        gram = held.enter_context(GramFile(given[GRAM]))
        opened = {
            kind: held.enter_context(
                SealedFile(path, kind, _NAMES[kind], f"`widegram {_COMMANDS[kind]}` makes it again")
            )
            for kind, path in given.items()
            if kind != GRAM
        }
        run = Run(
            gram,
            opened.get(SOLUTION),
            opened.get(PREDICTION),
            opened.get(SPECTRUM),
            checks,
            held.pop_all(),
        )
    with ClosedOnFailure(run):
        _check_together(run)
    return run


def _kind(path: Path) -> str:
    check_readable(path)
    try:
        with open_file(path, snapshot=True, foreign=True) as file, hdf5_errors(path):
            kind = text_of(file.attrs.get("format")) or ""
    except Unreadable as error:
        raise Damaged(f"{error}; make it again") from error
    if kind in _COMMANDS:
        return kind
    if kind == "widegram-shard":
        raise WidegramError(f"{path}: is a shard of a matrix; join the shards, then report on that")
    what = f"of another kind ({KINDS[kind].name})" if kind in KINDS else "no file of this program"
    raise WidegramError(
        f"{path}: is {what}; a report takes a gram file, and what `widegram solve`, `predict` and "
        "`eig` made of it"
    )


def _checked(path: Path) -> dict[str, Any]:
    """What was compared in a file; :class:`~widegram.errors.Damaged` where damage is found."""
    report = verify(path, sample=0)
    report.raise_if_damaged()
    found = {"file": str(path), "bytes": path.stat().st_size}
    if isinstance(report, SealReport):
        return found | {
            "kind": report.kind, "compared": report.checked, "of": "datasets", "intact": True
        }  # fmt: skip
    return found | {
        "kind": "gram file",
        "compared": report.tiles_checked,
        "of": "tiles",
        "intact": report.metadata_intact,
    }


def _check_together(run: Run) -> None:
    made = [file for file in (run.solution, run.prediction, run.spectrum) if file is not None]
    facts = {file: _ABSENT | file.attributes for file in made}
    prints = {f"{name}_fingerprint": of for name, of in run.gram.fingerprints.items()}
    for file, values in facts.items():
        _compare(
            file.path, values, run.gram.path, prints, ("network_fingerprint", "x1_fingerprint")
        )
        _check_read_out(run.gram, file.path, values)
        _compare(file.path, values, made[0].path, facts[made[0]], _OF_KERNEL)
    if run.prediction is not None and run.solution is not None:
        values, others = facts[run.prediction], facts[run.solution]
        _compare(run.prediction.path, values, run.solution.path, others, _OF_SOLUTION)


def _compare(
    path: Path,
    values: Mapping[str, Any],
    other: Path,
    others: Mapping[str, Any],
    names: Iterable[str],
) -> None:
    """Raise where two files differ in one of ``names``."""
    called = _OF_KERNEL | _OF_SOLUTION
    for name in names:
        if values.get(name) != others.get(name):
            raise WidegramError(
                f"{path}: does not belong to {other}: its {called[name]} differs; give files of "
                "one run"
            )


def _check_read_out(gram: GramFile, path: Path, values: Mapping[str, Any]) -> None:
    """Raise where the gram file has not the kernel of what is said to be made of it."""
    depth = int(values["depth"])
    end = End(None if depth < 0 else depth, str(values["head"]) or None)
    try:
        gram.dataset(str(values["kernel"]), *end)
    except WidegramError as error:
        raise WidegramError(f"{path}: does not belong to {gram.path}: {error}") from error
