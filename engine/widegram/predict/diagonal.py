"""The prior of test points, the diagonal of their NNGP, for predictive variances."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.combining.recipe import is_combined
from widegram.computing.in_memory import diagonal
from widegram.computing.job import make_job
from widegram.data.formats import open_table
from widegram.data.patterns import reopened
from widegram.data.several import open_inputs
from widegram.errors import WidegramError
from widegram.gramfile import GramFile
from widegram.linalg.arrayfile import ArrayFile, is_array
from widegram.linalg.gramsource import GramKernel, open_train
from widegram.network import load_network
from widegram.network.masking import constants
from widegram.tiling import End

Array = NDArray[Any]
# Of inputs, or of each of a list.
Location = str | tuple[str, ...]
PRIOR = "nngp"  # Networks before training are drawn from it, whatever the solution is of.


def is_held(cross: Path, test_gram: Path | None, x_test: Location | None) -> bool:
    """Whether :func:`prior_diagonal` reads numbers and computes none."""
    if test_gram is not None or x_test is not None:
        return test_gram is not None
    if is_array(cross):
        return True
    with GramFile(cross) as file:
        return file.has_diagonal(PRIOR)


def given_diagonal(spec: str) -> Array:
    """K(x, x) of the test points from a file, float64 (n,); WidegramError for what it is not."""
    table = open_table(spec)
    if len(table.shape) != 1 or table.dtype.kind != "f":
        raise WidegramError(
            f"{spec}: holds {table.dtype} of shape {table.shape}; K(x, x) of every test point is "
            "floating point of shape (n,)"
        )
    values = np.asarray(table.rows(0, table.shape[0]), np.float64)
    if not (np.isfinite(values).all() and (values >= 0).all()):
        row = int(np.flatnonzero(~(np.isfinite(values) & (values >= 0)))[0])
        raise WidegramError(f"{spec}: row {row} holds {values[row]:g}; K(x, x) is 0 or more")
    return values


def prior_diagonal(
    cross: GramKernel, *, test_gram: Path | None, x_test: Location | None, memory: int
) -> Array:
    """K(x, x), of the NNGP, of the rows that are taken of the cross file, float64 (n_test,).

    From ``test_gram`` (the matrix of all rows of the cross file with themselves), else computed
    from the data ``x_test``, else from the cross file, else computed from the data that it names.
    Raises WidegramError where those are not the cross file's inputs.
    """
    rows = cross.part.rows
    if test_gram is not None:
        found = _diagonal_of(test_gram, cross, memory)
        return found if rows is None else found[rows.ascending]
    if x_test is None:
        held = cross.diagonal(PRIOR)
        if held is not None:
            return held
    if isinstance(cross.file, ArrayFile):
        raise WidegramError(
            f"{cross.path}: is an array: variances need K(x, x) of each of its rows: pass "
            "--diagonal DATA or --test-gram FILE"
        )
    location = x_test or cross.gram.header.x1_location
    if not location:
        raise WidegramError(
            "variances need the kernel of each test point with itself: pass --x-test DATA or "
            "--test-gram FILE"
        )
    found = _computed(cross, location)
    return found if rows is None else found[rows.ascending]


def _diagonal_of(test_gram: Path, cross: GramKernel, memory: int) -> Array:
    """The diagonal of the matrix of the cross file's inputs with themselves."""
    with open_train(test_gram, PRIOR, cross.end, memory=memory) as square:
        same = square.fingerprints["network"] == cross.fingerprints["network"]
        if isinstance(square.file, ArrayFile):
            same &= square.file.n1 == cross.file.n1
        else:
            same &= square.fingerprints["x1"] == cross.fingerprints["x1"]
        if not same:
            raise WidegramError(
                f"{test_gram}: is not of the network and test points of {cross.path}"
            )
        held = square.diagonal(PRIOR)
        return square.operator.diagonal() if held is None else held


def _computed(cross: GramKernel, location: Location) -> Array:
    if is_combined(cross.file.network):
        raise WidegramError(
            f"{cross.path}: is a combination, and does not hold K(x, x) of all its rows; pass the "
            "combination of the same kernels of the test points as --test-gram FILE"
        )
    whole, (depth, head) = load_network(cross.file.network), cross.end
    try:
        rows = cross.file.n1
        source = reopened(location, rows) if isinstance(location, str) else open_inputs(
            location, rows
        )  # fmt: skip
    except WidegramError as error:
        raise WidegramError(f"{error}; pass the test points as --x-test DATA") from error
    source = source if whole.mask is None else source.masked(constants(whole.mask))
    if source.fingerprint() != cross.fingerprints["x1"]:
        raise WidegramError(f"{source.name}: is not the test data of {cross.path}")
    network = whole.ending(() if depth is None else (depth,))[End(depth, head)]
    # What a series leaves out was accepted when the cross file was made.
    job = make_job(network, source, None, (PRIOR,), "float64", None, None, None, math.inf)
    return diagonal(job)[PRIOR]
