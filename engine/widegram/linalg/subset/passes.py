"""The passes over kernel(train, centers), in their order, each with its work file."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from widegram.errors import WidegramError
from widegram.gramfile import GramFile
from widegram.linalg.arrayfile import ArrayFile
from widegram.linalg.settings import Resources
from widegram.linalg.subset.centers import CenterFiles
from widegram.linalg.subset.judging import Draft, Judgement, Judging
from widegram.linalg.subset.normal import NormalEquations, NormalSpectrum, decomposed
from widegram.linalg.subset.streaming import PassSums, streamed
from widegram.linalg.subset.sumsfile import SumsFile
from widegram.linalg.subset.whitening import whitening
from widegram.linalg.targets import Targets
from widegram.linalg.workfile import NOTHING_SAVED
from widegram.machine.progress import Progress

Array = NDArray[Any]
_ENOUGH = 1e-11  # an error with which no further step is taken
_STEPS = 4
ENDINGS = (".normal", ".basis", ".leverage")


@dataclass(frozen=True)
class Solved:
    """A refined solution.

    * ``shift``: what its regulariser adds to the diagonal
    * ``alpha``: the weights of the centers, (M, k); ``fitted``: what it predicts for the rows
    * ``residual``, ``error``, ``squares``: as of :class:`~widegram.linalg.subset.judging.Judgement`
    * ``passes``: how often the rows were read for it
    """

    shift: float
    alpha: Array
    fitted: Array
    residual: float
    error: float
    squares: Array
    passes: int


class Passes:
    """The state of a solution under way, and its work files beside the output.

    A block has ``height`` rows. The work files end in

    * ``.normal``: the normal equations so far
    * ``.basis``: their eigenvectors
    * ``.leverage``: the sums of the second pass
    """

    def __init__(
        self,
        files: CenterFiles,
        targets: Targets,
        height: int,
        seconds: float,
        resources: Resources,
    ) -> None:
        self.n, self.m = files.cross.operator.shape
        self.targets = targets.values
        self._files, self._height, self._resources = files, height, resources
        self._work = {
            ending: SumsFile(path, f"{resources.key}/{files.cross.operator.dtype}", seconds)
            for ending in ENDINGS
            if (path := resources.work_file(ending)) is not None
        }
        self._resumed = self._read = 0
        self._seconds = 0.0
        self.jitter = 0.0
        self._spectrum: NormalSpectrum | None = None

    @property
    def spectrum(self) -> NormalSpectrum:
        """The normal equations' eigenvectors; the first time that they are asked for they are made,
        by a pass over the rows, or read from the work file."""
        if self._spectrum is None:
            self._spectrum = self._stored() or self._made()
        return self._spectrum

    @property
    def gram_files(self) -> tuple[GramFile | ArrayFile, GramFile | ArrayFile]:
        """The files of rows and centers, and of the centers alone."""
        return self._files.cross.file, self._files.centers.file

    def kept(self) -> str:
        """What an interrupted run leaves."""
        saved = {ending: file.saved for ending, file in self._work.items() if file.saved}
        if not saved:
            return NOTHING_SAVED
        if ".basis" in saved:
            rows = saved.get(".leverage", 0)
            what = f"the normal equations and {rows} of {self.n} rows of the pass after them are"
        else:
            what = f"{saved['.normal']} of {self.n} rows of the normal equations are"
        path = self._resources.work
        return f"{path}: interrupted, {what} saved; run the same command again to go on"

    def logdet(self, shift: float) -> float:
        """log det (Q + shift I) of all rows, shift > 0."""
        small = math.fsum(np.log(self.spectrum.values + shift))
        return small + (self.n - self.m) * math.log(shift)

    def about(self) -> dict[str, Any]:
        """How often the rows were read, rows that an earlier run had done, the speed of the pass
        that built the normal equations."""
        operations = 2.0 * (self.n - self._resumed) * self.m**2
        rate = operations / self._seconds / 1e9 if self._seconds else None
        return {
            "passes": self._read,
            "resumed_rows": self._resumed,
            "normal_seconds": self._seconds,
            "normal_gflops": rate,
        }

    def judged(self, shifts: Sequence[float], loo: bool) -> dict[float, Judgement]:
        """What a pass finds of each shift; without those for which the equations are singular."""
        spectrum = self.spectrum
        sound = [s for s in dict.fromkeys(shifts) if math.isfinite(spectrum.condition(s))]
        if not sound:
            return {}
        drafts = [Draft(shift, spectrum.solve(shift)) for shift in sound]
        judging = Judging(spectrum, self.targets, drafts, loo=loo)
        # The sums of one path are none of another's.
        digest = xxhash.xxh3_64_hexdigest(repr((sound, loo)).encode())
        file = self._work.get(".leverage")
        if file is not None:
            file.key = f"{file.key}/{digest}"
        self._pass(judging, file)
        self._drafts = dict(zip(sound, drafts, strict=True))
        self._judgements = dict(zip(sound, judging.judged(), strict=True))
        return self._judgements

    def refined(self, shift: float) -> Solved:
        """The solution with ``shift``, which has been judged, corrected until it moves no more."""
        spectrum = self.spectrum
        coordinates = self._drafts[shift].coordinates
        found, best, before = self._judgements[shift], None, self._read
        for _ in range(_STEPS):
            coordinates = coordinates + found.correction
            fitted = np.empty(self.targets.shape)
            draft = Draft(shift, coordinates)
            judging = Judging(spectrum, self.targets, [draft], loo=False, fitted=fitted)
            self._pass(judging, None)
            (found,) = judging.judged()
            improved = best is None or found.error < 0.5 * best[0].error
            if best is None or found.error < best[0].error:
                best = (found, coordinates, fitted)
            if found.error <= _ENOUGH or not improved:
                break
        assert best is not None
        found, coordinates, fitted = best
        return Solved(
            shift=shift,
            alpha=spectrum.basis @ coordinates,
            fitted=fitted,
            residual=found.residual,
            error=found.error,
            squares=found.squares,
            passes=self._read - before,
        )

    def finish(self) -> None:
        """Remove the work files."""
        for file in self._work.values():
            file.remove()

    def _stored(self) -> NormalSpectrum | None:
        file = self._work.get(".basis")
        names = ("values", "basis", "moment", "jitter")
        found = None if file is None else file.load(names, self._resources.overwrite)
        if found is None:
            return None
        arrays, self._resumed, _ = found
        self.jitter = float(arrays["jitter"][0])
        return NormalSpectrum(arrays["values"], arrays["basis"].T, arrays["moment"])

    def _made(self) -> NormalSpectrum:
        white = whitening(self._files.centers.operator, self._resources.progress)
        self.jitter = white.jitter
        equations = NormalEquations(white.factor, self.targets)
        begun = time.perf_counter()
        self._resumed = self._pass(equations, self._work.get(".normal"))
        self._seconds = time.perf_counter() - begun
        if self._resources.progress:
            self._resources.progress(Progress(0, 1, what="eigenvectors"))
        try:
            memory = self._resources.memory - white.factor.nbytes
            spectrum = decomposed(equations, white.factor, memory)
        except WidegramError:
            self._files.cross.operator.require_finite()
            raise
        if file := self._work.get(".basis"):
            arrays = {
                "values": spectrum.values,
                "basis": spectrum.basis.T,
                "moment": spectrum.moment,
                "jitter": np.array([white.jitter]),
            }
            file.save(arrays, self.n, self._height)
            self._work[".normal"].remove()
        return spectrum

    def _pass(self, sums: PassSums, file: SumsFile | None) -> int:
        self._read += 1
        return streamed(
            self._files.cross.operator,
            self._height,
            sums,
            file,
            discard_other=self._resources.overwrite,
            progress=self._resources.progress,
        )
