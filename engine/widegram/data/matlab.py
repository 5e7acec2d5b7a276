"""Variables of MATLAB's .mat files: versions 4 to 7 through SciPy, version 7.3, which is HDF5,
through h5py.

A variable of the older versions is held in memory, one of 7.3 is read row by row.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, NoReturn, cast

import numpy as np
from numpy.typing import NDArray

from widegram.closing import OnFailure
from widegram.data.formats import Table, array_table, list_arrays, nearest
from widegram.errors import WidegramError, reason, shown
from widegram.machine import interrupts
from widegram.validation.reading import existing_file

SUFFIX = ".mat"
_SAID = 3  # exit code of a process that wrote why it failed
_LONGEST = 500
_POLL = 0.005
_NUMBERS = frozenset(
    (*(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)), "double", "single",
     "logical")
)  # fmt: skip


def variables(path: Path) -> list[str]:
    """Names of the variables in a file, whatever they are; those of 7.3 with their groups.

    Raises :class:`WidegramError` for a file that is missing or damaged.
    """
    existing_file(path)
    if _is_hdf5(path):
        return [name for name in list_arrays(path) if not name.startswith("#")]
    return list(_classes(path))


def open_variable(path: Path, name: str, last_first: bool = False) -> Table:
    """A variable by rows: along its first axis, or with ``last_first`` along its last one.

    Raises :class:`WidegramError` for one that is not there, or not of numbers: texts, cells,
    structures, sparse matrices.
    """
    found = variables(path)
    if name not in found:
        raise WidegramError(f"{path}: no variable {shown(name)}; {nearest(name, found)}")
    if _is_hdf5(path):
        return _stored(path, name, last_first)
    kind = _classes(path)[name]
    if kind not in _NUMBERS:
        raise _no_numbers(path, name, kind)
    values = _loaded(path, name)
    return array_table(np.moveaxis(values, -1, 0) if last_first else values, f"{path}:{name}")


def _is_hdf5(path: Path) -> bool:
    # h5py takes long to import, which arrays in memory do without.
    import h5py

    return bool(h5py.is_hdf5(path))


def _classes(path: Path) -> dict[str, str]:
    def read(out: IO[bytes]) -> None:
        from scipy.io import whosmat

        found = {str(name): str(kind) for name, _, kind in whosmat(str(path))}
        out.write(json.dumps(found).encode())

    with _apart(path, read) as found:
        return cast(dict[str, str], json.load(found))


def _loaded(path: Path, name: str) -> NDArray[Any]:
    def read(out: IO[bytes]) -> None:
        from scipy.io import loadmat

        values = loadmat(str(path), variable_names=[name])[name]
        np.lib.format.write_array(out, np.asarray(values), allow_pickle=False)

    with _apart(path, read) as found:
        return np.lib.format.read_array(found, allow_pickle=False)


@contextmanager
def _apart(path: Path, work: Callable[[IO[bytes]], None]) -> Iterator[IO[bytes]]:
    """What ``work`` writes in a process of its own: SciPy does not come back from every damage.

    Raises :class:`WidegramError` where it does not, and with the message of what it raises.
    """
    with tempfile.TemporaryFile() as out:
        child = os.fork()
        if child == 0:
            _work(work, out)
        kill, reap = partial(os.kill, child, signal.SIGKILL), partial(os.waitpid, child, 0)
        with OnFailure(kill, reap):  # A stop too: the child must not outlive it.
            while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
                interrupts.check()
                time.sleep(_POLL)
        code = os.waitstatus_to_exitcode(ended[1])
        out.seek(0)
        if code != 0:
            said = out.read().decode(errors="replace") if code == _SAID else ""
            raise WidegramError(
                f"{path}: is no .mat file, or damaged: {said or 'SciPy cannot read it'}"
            )
        yield out


def _work(work: Callable[[IO[bytes]], None], out: IO[bytes]) -> NoReturn:
    code = 1
    faulthandler.disable()
    try:
        work(out)
        out.flush()
        code = 0
    except Exception as error:  # A damaged file may raise anything; it is told by the exit code.
        out.seek(0)
        out.truncate()
        out.write(reason(error).encode()[:_LONGEST])
        out.flush()
        code = _SAID
    finally:
        os._exit(code)


def _stored(path: Path, name: str, last_first: bool) -> Table:
    from widegram.durable.hdf5 import hdf5_errors, open_file, stored_dataset

    file = open_file(path, foreign=True)
    with hdf5_errors(path):
        dataset = stored_dataset(file, name)
        kind = dataset.attrs.get("MATLAB_class", b"double")
        kind = kind.decode(errors="replace") if isinstance(kind, bytes) else str(kind)
        if kind not in _NUMBERS:
            raise _no_numbers(path, name, kind)
        if dataset.attrs.get("MATLAB_empty", 0):
            raise WidegramError(f"{path}:{name}: is empty")
        # MATLAB's first axis is the last of HDF5.
        shape = dataset.shape[::-1]

    def rows(lo: int, hi: int) -> NDArray[Any]:
        if last_first:
            return np.moveaxis(dataset[lo:hi].T, -1, 0)
        return np.asarray(dataset[..., lo:hi]).T

    order = (shape[-1], *shape[:-1]) if last_first else shape
    return Table(f"{path}:{name}", order, dataset.dtype, rows)


def _no_numbers(path: Path, name: str, kind: str) -> WidegramError:
    remedy = "save full(...) of it" if kind in ("sparse", "csc_matrix") else "save a numeric array"
    return WidegramError(f"{path}: its variable {shown(name)} is {kind}, not numbers; {remedy}")
