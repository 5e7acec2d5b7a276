"""Gram files as operators: complete, of one kernel, with the fingerprints of what made them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from widegram.closing import Closing
from widegram.errors import WidegramError
from widegram.gramfile import GramFile
from widegram.gramfile.checked import CheckedMatrix
from widegram.linalg.operator import GramOperator
from widegram.tiling import WHOLE, End


@dataclass(frozen=True)
class GramKernel(Closing):
    """One kernel of an open, complete Gram file; a context manager that closes it.

    ``end``: where it is read out. ``operator`` streams it within the byte budget it was opened
    with.
    """

    file: GramFile
    kernel: str
    end: End
    operator: GramOperator

    @property
    def path(self) -> Path:
        """Where the file lies."""
        return self.file.path

    @property
    def fingerprints(self) -> dict[str, str]:
        """Hex strings of 'network', 'x1' and 'x2'."""
        return self.file.fingerprints

    def key(self) -> str:
        """One string that names the matrix: network, data, kernel, depth, head, dtype and file."""
        prints = self.fingerprints
        created = self.file.attributes.get("created", "")
        depth, head = self.end
        parts = (prints["network"], prints["x1"], prints["x2"], self.kernel, depth)
        more = () if head is None else (head,)
        return "/".join(map(str, (*parts, *more, self.file.dtype, created)))

    def other(self, kernel: str) -> GramOperator:
        """Another kernel of the same file, depth and head, with the same budget."""
        return _operator(self.file, kernel, self.end, self.operator.memory)

    def close(self) -> None:
        """Close the file."""
        self.file.close()


def open_train(
    path: str | Path, kernel: str, end: End = WHOLE, *, memory: int
) -> GramKernel:
    """The symmetric matrix of the training data with itself, read out at ``end``.

    Raises WidegramError for an incomplete file, a missing kernel, depth or head, and a cross
    matrix.
    """
    opened = _open(path, kernel, end, memory)
    if not opened.file.symmetric:
        opened.file.close()
        raise WidegramError(
            f"{path}: holds a matrix of x with x2; the training matrix is made by "
            "`widegram gram` without --x2"
        )
    return opened


def open_cross(
    path: str | Path, kernel: str, end: End, *, memory: int, train: dict[str, str]
) -> GramKernel:
    """The matrix kernel(test, train) that belongs to the training fingerprints ``train``.

    Raises WidegramError where it comes from another network or training set, or is transposed.
    """
    opened = _open(path, kernel, end, memory)
    found = opened.fingerprints
    problem = ""
    if found["network"] != train["network"]:
        problem = "it was made from another network than the solution"
    elif found["x2"] != train["x1"]:
        problem = "its x2 is not the training data of the solution"
        if found["x1"] == train["x1"]:
            problem += ", but its x is: the cross matrix is kernel(test, train), swap --x and --x2"
    if problem:
        opened.file.close()
        raise WidegramError(
            f"{path}: {problem}; make it with --x TEST --x2 TRAIN and the same --net"
        )
    return opened


def _open(path: str | Path, kernel: str, end: End, memory: int) -> GramKernel:
    file = GramFile(path)
    try:
        file.require_complete()
        return GramKernel(file, kernel, end, _operator(file, kernel, end, memory))
    except WidegramError:
        file.close()
        raise


def _operator(file: GramFile, kernel: str, end: End, memory: int) -> GramOperator:
    matrix = CheckedMatrix(file, kernel, end.depth, end.head)
    return GramOperator(
        matrix, symmetric=file.symmetric, memory=memory, name=f"{file.path}:{matrix.name}"
    )
