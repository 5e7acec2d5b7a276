"""Readers of gram files compare checksums, whatever blocks they read."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

import widegram
from cli_support import refused, run
from widegram.errors import WidegramError
from widegram.gramfile import GramFile
from widegram.gramfile.checked import CheckedMatrix
from widegram.predict.kernels import kernel_of

N1, N2, TILE = 37, 50, 16


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checked")
    rng = np.random.default_rng(0)
    x, x2 = rng.standard_normal((N1, 3)), rng.standard_normal((N2, 3))
    np.save(folder / "y.npy", np.arange(N1) % 2)
    widegram.gram("fcn:depth=1", x, folder / "C.h5", x2, tile=TILE, device="cpu")
    widegram.gram("fcn:depth=1", x, folder / "K.h5", tile=TILE, device="cpu")
    return folder


def damaged(path: Path, copy: Path, row: int, col: int) -> Path:
    copy.write_bytes(path.read_bytes())
    with h5py.File(copy, "r+") as file:
        file["ntk"][row, col] += 1
    return copy


def test_blocks_are_those_of_the_dataset(made: Path) -> None:
    rng = np.random.default_rng(1)
    with GramFile(made / "C.h5") as file:
        plain, matrix = file.dataset("ntk")[...], CheckedMatrix(file, "ntk")
        assert (matrix.shape, matrix.dtype, len(matrix)) == ((N1, N2), np.dtype("f4"), N1)
        np.testing.assert_array_equal(matrix[5:9], plain[5:9])
        for _ in range(50):
            lo = rng.integers(0, (N1, N2))
            hi = rng.integers(lo, (N1 + 20, N2 + 20))  # beyond the end, as NumPy allows
            place = np.s_[lo[0] : hi[0], lo[1] : hi[1]]
            np.testing.assert_array_equal(matrix[place], plain[place])
            into = np.empty(plain[place].shape, rng.choice(["f4", "f8"]))
            CheckedMatrix(file, "ntk").read_direct(into, place)
            np.testing.assert_array_equal(into, plain[place])


@pytest.mark.parametrize(
    "place",
    [np.s_[:], np.s_[0:16], np.s_[20:21], np.s_[16:37, 0:50], np.s_[18:20, 40:41], np.s_[0:37]],
)
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_a_damaged_tile_is_found_by_every_block_that_touches_it(
    made: Path, tmp_path: Path, place: tuple, dtype: str
) -> None:
    damaged_rows = slice(16, 32)
    with GramFile(damaged(made / "C.h5", tmp_path / "d.h5", 19, 33)) as file:
        matrix = CheckedMatrix(file, "ntk")
        rows = place[0] if isinstance(place, tuple) else place
        touches = any(r in range(*damaged_rows.indices(N1)) for r in range(*rows.indices(N1)))
        into = np.empty(file.dataset("ntk")[place].shape, dtype)
        if touches:
            with pytest.raises(WidegramError, match="ntk rows 16-31, columns 32-47 have another"):
                matrix.read_direct(into, place)
        else:
            matrix.read_direct(into, place)


def test_commands_refuse_a_damaged_matrix(made: Path, tmp_path: Path) -> None:
    line = "is damaged: /ntk rows 16-31, columns 0-15 have another checksum.*verify --repair"
    path = damaged(made / "K.h5", tmp_path / "K.h5", 20, 3)
    out = tmp_path / "o.h5"
    refused(line, "export", path, "--kernel", "ntk", "--to", tmp_path / "o.npy")
    refused(line, "solve", path, "--y", made / "y.npy", "--diag-reg", 1, "--out", out)
    refused(line, "eig", path, "--full", "--out", out)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["K.h5"]
    with pytest.raises(WidegramError, match=line), GramFile(path) as file:
        kernel_of(file, "ntk")
    assert run("export", path, "--kernel", "nngp", "--to", tmp_path / "o.npy").exit_code == 0
