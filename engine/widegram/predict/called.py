"""The command `widegram predict` as a function: a call of the module :mod:`widegram.predict`."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from widegram.linalg.named import by_name
from widegram.machine.progress import ProgressCallback
from widegram.predict.merit import PredictResult
from widegram.predict.predicting import PredictJob, predict_file


class Called(ModuleType):
    """The class of the module :mod:`widegram.predict`: neural-tangents' functions, and a call that
    does what the command does."""

    def __call__(
        self,
        solution: str | Path,
        cross: str | Path | None = None,
        *,
        y: str | Path | None = None,
        out: str | Path | None = None,
        variance: bool = False,
        progress: ProgressCallback | None = None,
        **settings: Any,
    ) -> PredictResult:
        """Predict with a solution file: ``widegram.predict("A.h5", "Kc.h5", y="d.h5:test/y")``.

        ``solution``: what `widegram.solve` wrote. ``cross``: the Gram file of kernel(test, train),
        or an array; without it ``rows=`` are rows of the matrix that was solved with. ``y``: their
        labels, for accuracy and mean squared error. ``out``: where /mean (n_test, k) and the rest
        is written. ``variance``: of new targets, with and without noise. All other fields of
        :class:`~widegram.predict.PredictJob` go by their names, such as
        ``times=(1, inf)``, ``csv="P.csv"``, ``memory="2GB"``.

        Raises WidegramError for bad input: files of another network or training set, an incomplete
        file, labels that do not match, an output that exists.
        """
        named = {"solution": solution, "cross": cross, "y": y, "out": out, "variance": variance}
        (job,) = by_name("predict", {**named, **settings}, PredictJob)
        return predict_file(PredictJob(**job), progress)
