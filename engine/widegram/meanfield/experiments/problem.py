"""A training and a test set for the mean field commands."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xxhash

from widegram.data import open_source, prepare
from widegram.data.formats import HDF5_SUFFIXES, split_spec
from widegram.errors import WidegramError
from widegram.linalg.targets import load_targets
from widegram.meanfield.theory.one_layer import Array

_NO_LABELS = np.empty(0, np.int64)


@dataclass(frozen=True)
class Problem:
    """Inputs (n, *input_shape) float64; ``y`` (m, k) one-hot minus 1/k; labels are class numbers.

    The test half may have no rows. ``fingerprint`` is that of the values actually used. ``place``:
    arguments of :func:`load_problem` that give the same, None where none do.
    """

    x: Array
    y: Array
    labels: np.ndarray
    x_test: Array
    labels_test: np.ndarray
    fingerprint: str
    place: tuple[str, int | None, int | None, bool] | None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return tuple(self.x.shape[1:])


def load_problem(
    data: str, train: int | None, test: int | None, normalize: bool = True
) -> Problem:
    """The first ``train`` and ``test`` rows of a file of ``widegram data prepare``.

    ``normalize`` scales every image to mean square 1 (see :func:`unit_mean_square`). Raises
    WidegramError for missing datasets or limits beyond the data.
    """
    spec = str(data)
    _need_file(spec)
    x = _read(f"{spec}:train/x", train)
    # Classes are those of the whole training split, however few rows are taken.
    targets = load_targets(f"{spec}:train/y", len(open_source(f"{spec}:train/x")))
    if targets.classes is None:
        raise WidegramError(f"{spec}: /train/y holds no classes; accuracy needs integer labels")
    x_test = _read(f"{spec}:test/x", test)
    found = load_targets(f"{spec}:test/y", len(x_test), classes=targets.classes, limit=test)
    if normalize:
        x, x_test = unit_mean_square(x), unit_mean_square(x_test)
    y = targets.values[: len(x)]
    made = Problem(x, y, y.argmax(axis=1), x_test, found.values.argmax(axis=1), "")
    place = str(Path(spec).resolve()), train, test, normalize
    return replace(made, fingerprint=digest_of(made), place=place)


def digest_of(problem: Problem) -> str:
    """xxh3-128 (hex) of inputs and labels."""
    digest = xxhash.xxh3_128()
    for array in (problem.x, problem.x_test, problem.labels, problem.labels_test):
        digest.update(f"{array.shape}{array.dtype.str}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def load_inputs(data: str, train: int, test: int, normalize: bool = True) -> Problem:
    """As :func:`load_problem` for a prepared file, taking at most ``train`` and ``test`` rows.

    Any other inputs (``file.npy``, ``file.h5:path``) come without labels and test set.
    """
    path, key = split_spec(data)
    if key is None and path.suffix.lower() in HDF5_SUFFIXES:
        sizes = [len(open_source(f"{data}:{part}/x")) for part in ("train", "test")]
        found = load_problem(data, min(train, sizes[0]), max(min(test, sizes[1]), 1), normalize)
        if test:
            return found
        alone = replace(found, x_test=found.x_test[:0], labels_test=_NO_LABELS, place=None)
        return replace(alone, fingerprint=digest_of(alone))
    source = open_source(data)
    x = np.asarray(source.read(0, min(train, len(source))), np.float64)
    if normalize:
        x = unit_mean_square(x)
    none = np.empty((0, *x.shape[1:]))
    return Problem(x, np.empty((len(x), 0)), _NO_LABELS, none, _NO_LABELS, "")


def digits_problem() -> Problem:
    """The embedded 8 x 8 digits, standardized, images scaled to mean square 1."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "digits.h5"
        prepare("digits", path)
        return load_problem(str(path), None, None)


def with_unit_pixels(problem: Problem) -> Problem:
    """The same problem with :func:`unit_pixels` applied to its images.

    Raises WidegramError for inputs without pixels, and as that.
    """
    if problem.x.ndim != 4:
        raise WidegramError(f"inputs of shape {problem.x.shape[1:]} have no pixels; give images")
    return replace(problem, x=unit_pixels(problem.x), x_test=unit_pixels(problem.x_test))


def unit_mean_square(x: Array) -> Array:
    """Every input divided by its root mean square: the theory's inputs of one norm, q_0 = 1.

    Raises WidegramError for an input of zeros.
    """
    flat = _in_range(x.reshape(len(x), -1))
    norm = np.sqrt((flat**2).mean(axis=1, keepdims=True))
    if (norm == 0).any():
        row = int(np.flatnonzero(norm == 0)[0])
        raise WidegramError(f"input {row} is zero everywhere; it cannot be scaled to a common norm")
    return np.asarray(flat / norm).reshape(x.shape)


def _in_range(x: Array) -> Array:
    """Vectors along the last axis, each times a power of two so that its squares neither overflow
    nor vanish; the quotients of its entries keep every bit."""
    _, exponent = np.frexp(np.abs(x).max(axis=-1, keepdims=True))
    return np.asarray(np.ldexp(x, -exponent))


def unit_pixels(x: Array, window: int = 3) -> Array:
    """Images (n, H, W, C) -> (n, H, W, window^2 C): every pixel's neighbourhood, wrapped, as its
    channels, scaled to mean square 1.

    All pixels of all images then have one variance, which the theory of convolutional networks
    assumes; a single channel scaled alone would keep nothing but its sign. Raises WidegramError
    where a neighbourhood is zero.
    """
    reach = range(-(window // 2), window - window // 2)
    stacked = _in_range(
        np.concatenate([np.roll(x, (-i, -j), (1, 2)) for i in reach for j in reach], axis=-1)
    )
    norm = np.sqrt((stacked**2).mean(axis=-1, keepdims=True))
    if (norm == 0).any():
        raise WidegramError("an image has a neighbourhood of zeros; standardize the data first")
    return np.asarray(stacked / norm)


def _need_file(spec: str) -> None:
    if not Path(spec).is_file():
        raise WidegramError(f"{spec}: no such file; `widegram data prepare` makes one")


def _read(spec: str, limit: int | None) -> Array:
    source = open_source(spec, limit)
    if limit is not None and len(source) < limit:
        raise WidegramError(f"{spec}: holds {len(source)} rows, {limit} were asked for")
    return np.asarray(source.read(0, len(source)), np.float64)
