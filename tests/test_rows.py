"""Which rows are meant, and reading them: against NumPy's own indexing."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linalg_support import write_gram
from widegram.data.chosen_rows import ChosenRows, open_rows
from widegram.data.read_together import read_together
from widegram.errors import WidegramError
from widegram.gramfile import chosen, export
from widegram.gramfile.chosen import ChosenMatrix
from widegram.linalg.gramsource import Columns, open_cross, open_train
from widegram.tiling import WHOLE

N = 23
CHOICES = st.permutations(range(N)).flatmap(
    lambda order: st.integers(1, N).map(lambda m: np.array(order[:m]))
)


class InMemory:
    """A matrix in memory, read as one on the disk; counts what is read."""

    name = "stored"

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.read = values, 0
        self.shape, self.dtype = values.shape, values.dtype

    def __getitem__(self, place: Any) -> np.ndarray:
        found = self.values[place].copy()
        self.read = max(self.read, found.size)
        return found

    def read_direct(self, into: np.ndarray, place: Any) -> None:
        into[...] = self.values[place]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("0:3", [0, 1, 2]), (":2", [0, 1]), ("21:", [21, 22]), (":", range(N)),
     ("5:7,0:2", [5, 6, 0, 1]), (" 3:4 , 1:2 ", [3, 1])],
)  # fmt: skip
def test_ranges(text: str, numbers: Any) -> None:
    found = open_rows(text, N, "K.h5")
    assert found is not None
    assert found.numbers.tolist() == list(numbers)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("3:3", "3:3 is no range of rows; K.h5 has 23"),
        ("5:2", "is no range of rows"),
        ("0:24", "0:24 is no range of rows; K.h5 has 23, and ranges go from 0 to 23"),
        ("0:5,4:6", "row 4 is chosen more than once"),
        ("0:9999999999999999999999", "K.h5 has 23 rows"),
        ("", "give a range such as 0:100"),
        ("5", "give a range such as 0:100"),
        ("-1:3", "give a range such as 0:100"),
        ("gone.npy", "gone.npy"),
        (np.array([0, 23]), "there is no row 23; K.h5 has 23 rows, from 0 to 22"),
        (np.array([-1]), "there is no row -1"),
        (np.array([2**64 - 1], np.uint64), "there is no row 18446744073709551615"),
        (np.array([2, 2]), "row 2 is chosen more than once"),
        (np.array([], int), "none is chosen"),
        (np.zeros(N, bool), "none is chosen"),
        (np.ones(5, bool), "holds 5 flags, K.h5 has 23 rows"),
        (np.array([0.0]), "holds float64; row numbers are integers"),
        (np.zeros((2, 2), int), r"has shape \(2, 2\)"),
        (np.array(3), r"has shape \(\)"),
    ],
)
def test_what_is_no_rows_is_refused(rows: Any, message: str) -> None:
    with pytest.raises(WidegramError, match=message):
        open_rows(rows, N, "K.h5")


def test_files_of_numbers_and_flags(tmp_path: Path) -> None:
    flags = np.arange(N) % 3 == 1
    np.savez(tmp_path / "r.npz", numbers=np.array([4, 1], np.uint8), flags=flags)
    for key, wanted in (("numbers", [4, 1]), ("flags", np.flatnonzero(flags).tolist())):
        found = open_rows(f"{tmp_path}/r.npz:{key}", N, "K.h5")
        assert found is not None
        assert found.numbers.tolist() == wanted
    np.save(tmp_path / "two.npy", np.zeros((3, 2), int))
    with pytest.raises(WidegramError, match=r"two.npy: has shape \(3, 2\)"):
        open_rows(tmp_path / "two.npy", N, "K.h5")


@given(CHOICES)
def test_orders_are_inverse_and_fingerprints_differ(numbers: np.ndarray) -> None:
    rows, values = ChosenRows(numbers, N), np.arange(N * 2).reshape(N, 2)
    np.testing.assert_array_equal(rows.as_given(values[np.sort(numbers)]), values[numbers])
    np.testing.assert_array_equal(rows.as_read(values[numbers]), values[np.sort(numbers)])
    assert rows.fingerprint != ChosenRows(numbers, N + 1).fingerprint
    if numbers.size > 1:
        assert rows.fingerprint != ChosenRows(numbers[::-1].copy(), N).fingerprint


@given(CHOICES, st.integers(0, 4), st.integers(1, N))
def test_reads_leave_out_few_and_span_few(numbers: np.ndarray, gap: int, longest: int) -> None:
    numbers = np.sort(numbers)
    reads = [numbers[places] for places in read_together(numbers, gap, longest)]
    np.testing.assert_array_equal(np.concatenate(reads), numbers)
    for read in reads:
        assert read[-1] - read[0] < longest
        assert (np.diff(read) <= gap + 1).all()
    for before, after in itertools.pairwise(reads):  # no two of them fit into one
        assert after[0] - before[-1] > gap + 1 or after[0] - before[0] >= longest


@given(CHOICES, CHOICES, st.data())
def test_blocks_are_numpys(rows: np.ndarray, cols: np.ndarray, data: st.DataObject) -> None:
    rows, cols = np.sort(rows), np.sort(cols)
    stored = InMemory(np.arange(float(N * N), dtype=np.float32).reshape(N, N))
    limits = {"_BUFFER": 4 * data.draw(st.integers(1, 40)), "_GAP": 1, "_COLUMN_GAP": 2}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in limits.items():
            patch.setattr(chosen, name, value)
        found = ChosenMatrix(stored, rows, cols)
        wanted = stored.values[np.ix_(rows, cols)]
        top, left = data.draw(st.integers(0, rows.size)), data.draw(st.integers(0, cols.size))
        place = np.s_[top : top + 7, left : left + 5]
        np.testing.assert_array_equal(found[place], wanted[place])
        into = np.empty(wanted.shape)
        found.read_direct(into, np.s_[0 : rows.size, 0 : cols.size])
    np.testing.assert_array_equal(into, wanted)
    assert stored.read <= max(limits["_BUFFER"] // 4, 1)


@pytest.fixture(scope="module")
def stored_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    values = np.random.default_rng(3).standard_normal((N, N))
    matrix = values @ values.T
    path = tmp_path_factory.mktemp("rows") / "K.h5"
    return write_gram(path, {"ntk": matrix}, tile=8), matrix


@settings(max_examples=25)
@given(CHOICES, CHOICES)
def test_operators_are_numpys(
    stored_file: tuple[Path, np.ndarray], train: np.ndarray, test: np.ndarray
) -> None:
    path, matrix = stored_file
    down = np.sort(train)
    with open_train(path, "ntk", memory=1 << 20, rows=train) as found:
        wanted = matrix[np.ix_(down, down)]
        np.testing.assert_array_equal(found.operator.load(), wanted)
        np.testing.assert_array_equal(found.operator.diagonal(), np.diagonal(wanted))
        # Sums of 23 products in another order.
        x = np.eye(train.size)[:, :3]
        np.testing.assert_allclose(found.operator.matmat(x), wanted[:, :3], rtol=1e-13)
        columns = Columns("net", "train", found.part.rows)
    with open_cross(path, "ntk", WHOLE, memory=1 << 20, columns=columns, rows=test) as cross:
        assert not cross.operator.symmetric
        block = cross.operator.block(slice(0, test.size), slice(0, train.size))
        np.testing.assert_array_equal(block, matrix[np.ix_(np.sort(test), down)])


def test_exports_are_numpys(stored_file: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    path, matrix = stored_file
    rows, columns = np.array([7, 2, 19]), np.array([22, 0])
    for given_columns, wanted in ((None, rows), (columns, columns)):
        to = tmp_path / f"{len(wanted)}.h5"
        export(path, "ntk", to, rows=rows, columns=given_columns)
        with h5py.File(to) as file:
            np.testing.assert_array_equal(file["ntk"], matrix[np.ix_(rows, wanted)])
            assert file["rows"][...].tolist() == rows.tolist()
            assert file["columns"][...].tolist() == wanted.tolist()
    with pytest.raises(WidegramError, match=r"columns '1': give a range .* of column numbers"):
        export(path, "ntk", tmp_path / "K.npy", columns="1")
    with pytest.raises(WidegramError, match=r"columns: there is no column 99; .* columns, from 0"):
        export(path, "ntk", tmp_path / "K.npy", columns=np.array([99]))
    export(path, "ntk", tmp_path / "K.npy", columns=columns)
    np.testing.assert_array_equal(np.load(tmp_path / "K.npy"), matrix[:, columns])
    with pytest.raises(WidegramError, match="there is no row 23"):
        export(path, "ntk", tmp_path / "none.npy", rows=np.array([23]))


def test_rows_in_a_group_of_a_file(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "r.h5", "w") as file:
        file["folds/first"] = np.array([4, 0], ">i4")
    found = open_rows(f"{tmp_path}/r.h5:folds/first", 5, "it")
    assert found is not None
    assert found.numbers.tolist() == [4, 0]
