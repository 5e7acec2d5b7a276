"""Verifying a file: a gram file against its own network and data too."""

from __future__ import annotations

import json
import math
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from widegram.backends.evaluator import Evaluator
from widegram.backends.job import Job
from widegram.combining.evaluator import CombinedEvaluator
from widegram.combining.recipe import is_combined, read_recipe
from widegram.computing.choosing import make_evaluator
from widegram.computing.devices import available
from widegram.computing.in_memory import diagonal_within
from widegram.computing.sites import site
from widegram.computing.tile_queue import in_turn
from widegram.data import Source
from widegram.data.patterns import reopened
from widegram.data.several import Inputs, open_inputs
from widegram.errors import Damaged, WidegramError
from widegram.gramfile.header import Header, same_but_patterns
from widegram.gramfile.verifying import Computers, VerifyReport
from widegram.gramfile.verifying import verify as verify_file
from widegram.gramfile.view import GramFile
from widegram.gramfile.writing import GramWriter, open_for_resume
from widegram.machine import interrupts
from widegram.machine.budgets import kernel_budget
from widegram.machine.progress import ProgressCallback
from widegram.network import Network, load_network
from widegram.network.load import has_function
from widegram.network.masking import Masks, constants
from widegram.reference.affordable import affordable_entries
from widegram.tiling import WHOLE, End
from widegram.validation.arrays import file_path, integer
from widegram.verifying.file_kinds import SealReport, is_sealed, verify_sealed

Given = Inputs | None

_ANOTHER_METHOD = "it is a combination; verify the files of its ingredients"
_FUNCTION = "its network has a function of Python's, which no file holds"


class _OtherData(WidegramError):
    """Data that was named and is not what a file was made from."""


def verify(  # noqa: PLR0913 - public: by keyword, one for each option of the command
    path: str | Path,
    x1: Given = None,
    x2: Given = None,
    *,
    sample: int = 4,
    seed: int = 0,
    repair: bool = False,
    threads: int | None = None,
    memory: str | int | None = None,
    end: End = WHOLE,
    progress: ProgressCallback | None = None,
    dask: str | None = None,
    mixed_workers: bool = False,
) -> VerifyReport | SealReport:
    """Check any file of this program: a gram file as follows, other kinds by checksums alone.

    The checksums and the symmetry of all finished tiles are compared. Blocks of ``sample`` tiles
    are computed again, and single entries by the dense reference where images are small enough for
    it; ``sample`` 0 computes nothing.

    * ``x1``, ``x2``: the data, which else is looked for where it was when the file was made; where
      that is gone or has changed the report's ``note`` says so
    * ``seed``: of the sample
    * ``repair``: damaged tiles are computed again and written, and the file is checked once more;
      the report's ``repaired`` says what was mended
    * ``threads``, ``memory``: what computing may use
    * ``end``: a depth or a head, whose datasets alone are then checked
    * ``progress``: told how far it is
    * ``dask``, ``mixed_workers``: workers that do what is computed again, as in
      :func:`widegram.gram`

    The report lists the damage; its ``raise_if_damaged()`` raises
    :class:`widegram.errors.Damaged`.

    Raises :class:`widegram.errors.Damaged` where HDF5 cannot read the file; WidegramError where it
    is missing, no file of this program, being written, or to be repaired while its data cannot be
    had, and where ``x1`` or ``x2`` is no data, or not the file's, or given where
    nothing is computed.
    """
    path, sample = file_path(path, "path"), integer(sample, "sample", 0)
    if is_sealed(path):
        if end != WHOLE:
            raise WidegramError(f"{path}: is no gram file, it has no depths and no heads")
        if x1 is not None or x2 is not None:
            raise WidegramError(
                f"{path}: is no gram file, nothing of it is computed again; leave x1 and x2 (--x, "
                "--x2) out"
            )
        return verify_sealed(path)
    if not sample and not repair and (x1 is not None or x2 is not None):
        raise WidegramError(
            f"{path}: nothing is computed again of sample 0, and x1 and x2 (--x, --x2) are not "
            "compared; leave them out, or give a larger sample"
        )
    means = _Means(threads, memory, dask, mixed_workers)
    if dask is not None:
        from widegram.workers.address import parse_address

        parse_address(dask)
    for given in (x1, x2):
        if given is not None:
            open_inputs(given)  # what was asked for by name is no note where it is missing

    def check() -> VerifyReport:
        with ExitStack() as held:

            def factory(file: GramFile) -> Computers | str:
                return _computers(file, x1, x2, means, held)

            made = factory if sample > 0 else None
            return verify_file(path, made, sample, seed, progress, end)

    report = check()
    if not repair or (
        report.metadata_intact and not report.damaged_tiles and not report.damaged_stretches
    ):
        return report
    _repair(Path(path), report, x1, x2, means)
    return replace(check(), repaired=report.damage)


@dataclass(frozen=True)
class _Means:
    """What may be used for computing, as :func:`verify` is given it."""

    threads: int | None
    memory: str | int | None
    dask: str | None
    mixed: bool

    def evaluator(self, device: str, job: Job) -> Evaluator:
        """An evaluator of ``job`` on the device that a file names, here or at workers."""
        here = self.dask is None
        chosen = available(device) if here else device.split(",")[0]
        return site(self.dask, chosen, self.memory, self.mixed).evaluator(job)


def _repair(path: Path, report: VerifyReport, x1: Given, x2: Given, means: _Means) -> None:
    """Compute what a report found damaged again, and write it."""
    with GramFile(path, shard=True) as file:
        if not is_combined(file.network) and has_function(file.network):
            raise WidegramError(f"{path}: cannot be repaired: {_FUNCTION}")
        header, network = file.header, _unless_combined(file)
        if file.header.elsewhere is not None:
            raise WidegramError(
                f"{path}: is {file.header.kind()}: repair these, then join them again"
            )
    with ExitStack() as held:
        writer = held.enter_context(open_for_resume(path, header))
        if report.damaged_tiles or report.damaged_stretches:
            sources: tuple[Source | None, ...] = ()
            made: Evaluator
            if network is None:
                made = held.enter_context(_combined(path, header))
            else:
                sources = _sources_for_repair(path, header, network.mask, x1, x2)
                job = Job(
                    network=network,
                    x1=sources[0],
                    x2=sources[1],
                    kernels=header.kernels,
                    depths=header.depths,
                    dtype=header.dtype,
                    threads=means.threads,
                    memory=kernel_budget(means.memory),
                )  # fmt: skip
                made = held.enter_context(means.evaluator(header.device, job))
            writer.take_back(report.damaged_tiles, report.damaged_stretches)
            _compute_again(writer, report, made)
            for source in sources:
                if source is not None:
                    source.check_unchanged()
        if report.complete and not writer.pending() and not writer.pending_stretches():
            writer.finish()


def _compute_again(writer: GramWriter, report: VerifyReport, made: Evaluator) -> None:
    damaged, grid = report.damaged_tiles, writer.grid
    spans = [(grid.rows(i), grid.cols(j)) for i, j in damaged]
    tiles = in_turn(made, spans, writer.header.symmetric)
    for (i, j), arrays in zip(damaged, tiles, strict=True):
        interrupts.check()
        writer.write([(i, j, arrays)])
    for stretch in report.damaged_stretches:
        values = diagonal_within(made, stretch.span(writer.grid), stretch.second)
        writer.write([], {stretch: values})


def _unless_combined(file: GramFile) -> Network | None:
    """The network of a file; None of a combination, which has those of its ingredients."""
    return None if is_combined(file.network) else _network(file)


def _combined(path: Path, header: Header) -> CombinedEvaluator:
    """What adds or multiplies the ingredients of a combination again, from where they were."""
    try:
        return CombinedEvaluator(read_recipe(json.loads(header.network)), header)
    except WidegramError as error:
        raise WidegramError(f"{path}: its ingredients cannot be combined again: {error}") from error


def _sources_for_repair(
    path: Path, header: Header, mask: Masks, x1: Given, x2: Given
) -> tuple[Source, Source | None]:
    try:
        return _sources(header, mask, x1, x2)
    except WidegramError as error:
        raise WidegramError(f"{path}: cannot be repaired: {error}") from error


def _computers(
    file: GramFile,
    x1: Given,
    x2: Given,
    means: _Means,
    held: ExitStack,
) -> Computers | str:
    """The evaluator that made the file and the dense one, which ``held`` closes, or why there are
    none."""
    header = file.header
    if is_combined(file.network):
        if x1 is not None or x2 is not None:
            raise WidegramError(
                f"{file.path}: is a combination, of files that name their inputs; leave x1 and x2 "
                "(--x, --x2) out"
            )
        try:
            own: Evaluator = held.enter_context(_combined(file.path, header))
            return Computers(own, partial(in_turn, own), dense_note=_ANOTHER_METHOD)
        except WidegramError as error:
            return f"no tiles were recomputed: {error}"
    if has_function(file.network):
        return f"no tiles were recomputed: {_FUNCTION}"
    network = _network(file)
    memory = kernel_budget(means.memory)
    try:
        first, second = _sources(header, network.mask, x1, x2)
    except _OtherData:  # What was asked for by name is no note.
        raise
    except WidegramError as error:
        return f"no tiles were recomputed: {error}"
    job = Job(
        network=network,
        x1=first,
        x2=second,
        kernels=header.kernels,
        depths=header.depths,
        dtype=header.dtype,
        threads=means.threads,
        memory=memory,
        accept=math.inf,  # What a series leaves out was accepted when the file was made.
    )
    try:
        own = held.enter_context(means.evaluator(header.device, job))
        entries = affordable_entries(network, header.depths, memory)
        if not entries:
            note = f"{_size(network)} too large for the dense reference"
            return Computers(own, partial(in_turn, own), dense_note=note)
        dense = held.enter_context(make_evaluator("reference", replace(job, dtype="float64")))
        return Computers(own, partial(in_turn, own), dense, entries)
    except WidegramError as error:
        if means.dask is not None:
            raise
        return f"no tiles were recomputed: {error}"


def _size(network: Network) -> str:
    """What makes a network large, as a subject."""
    layers = len(network.unrolled().shapes())
    shape = " x ".join(map(str, network.input_shape[:-1]))
    return f"images of {shape} and {layers} layers are" if shape else f"{layers} layers are"


def _network(file: GramFile) -> Network:
    """The stored network, which must still have the fingerprint that was stored with it."""
    try:
        network = load_network(file.network)
    except WidegramError as error:
        raise Damaged(f"{file.path}: is damaged: its network cannot be read: {error}") from error
    if network.fingerprint() != file.fingerprints["network"]:
        raise Damaged(f"{file.path}: is damaged: its network has another fingerprint than stored")
    return network


def _sources(
    header: Header, mask: Masks, x1: Given, x2: Given
) -> tuple[Source, Source | None]:
    """The data that the file was made from, compared with its fingerprints."""
    first = _source(x1, header.x1_location, header.n1, header.x1_fingerprint, "x1", mask)
    if header.symmetric:
        if x2 is not None:
            raise _OtherData("x2 (--x2): the matrix is symmetric, of x1 alone; leave x2 out")
        return first, None
    return first, _source(x2, header.x2_location, header.n2, header.x2_fingerprint, "x2", mask)


def _source(
    given: Given,
    location: str,
    rows: int,
    fingerprint: str,
    name: str,
    mask: Masks,
) -> Source:
    if given is None and not location:
        raise WidegramError(f"{name} was an array in memory; pass it as {name}")
    source = reopened(location, rows) if given is None else open_inputs(given, rows)
    source = source if mask is None else source.masked(constants(mask))
    found = source.fingerprint()
    refusal = WidegramError if given is None else _OtherData
    if same_but_patterns(found, fingerprint):
        raise refusal(
            f"{source.name} has not the patterns that {name} had when the file was made"
        )
    if found != fingerprint:
        raise refusal(f"{source.name} is not the {name} that the file was made from")
    return source
