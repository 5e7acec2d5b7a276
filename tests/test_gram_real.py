"""Files and arrays with the real evaluators, on embedded digits."""

from __future__ import annotations

import filecmp
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import widegram
from widegram.computing.in_memory import Kernels
from widegram.errors import WidegramError
from widegram.gramfile import GramFile, open_for_resume

IMAGES = {
    "input_shape": [8, 8, 1],
    "layers": [
        {"layer": "Repeat", "times": 2, "body": [
            {"layer": "Conv", "filter_shape": [3, 3], "padding": "SAME", "W_std": 1.4},
            {"layer": "Relu"},
        ]},
        {"layer": "GlobalAvgPool"},
        {"layer": "Dense"},
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("digits") / "digits.h5"
    widegram.prepare("digits", path, train=20, test=5)
    return path


def matrices(path: Path) -> dict[str, np.ndarray]:
    with GramFile(path) as file:
        return {key: file.raw(key)[...] for key in file.header.keys}


@pytest.mark.parametrize("device", ["reference", "cpu"])
def test_file_equals_memory_and_verifies(data: Path, tmp_path: Path, device: str) -> None:
    train, test = f"{data}:train/x", f"{data}:test/x"
    for out, x2 in ((tmp_path / "K.h5", None), (tmp_path / "Kc.h5", test)):
        widegram.gram(IMAGES, train, out, x2, dtype="float64", device=device, tile=8)
        found = matrices(out)
        wanted = widegram.kernel(IMAGES, train, x2, device=device)
        assert isinstance(wanted, Kernels)
        # Images give the same bits for any tile on the CPU; the dense reference sums elsewhere.
        tolerance = 0 if device == "cpu" else 1e-14 * np.abs(found["ntk"]).max()
        np.testing.assert_allclose(found["nngp"], wanted.nngp, rtol=0, atol=tolerance)
        np.testing.assert_allclose(found["ntk"], wanted.ntk, rtol=0, atol=tolerance)
        report = widegram.verify(out)
        assert report.ok
        assert report.entries_recomputed > 0
    with GramFile(tmp_path / "K.h5") as file:
        block = file.dataset("ntk")[...]
        np.testing.assert_array_equal(block, block.T)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cpu_agrees_with_the_reference(data: Path, tmp_path: Path, dtype: str) -> None:
    train = f"{data}:train/x"
    for device in ("cpu", "reference"):
        out = tmp_path / f"{device}.h5"
        widegram.gram(IMAGES, train, out, dtype=dtype, device=device, depths=[1, 2])
    found, wanted = matrices(tmp_path / "cpu.h5"), matrices(tmp_path / "reference.h5")
    assert list(found) == ["depth/1/nngp", "depth/1/ntk", "depth/2/nngp", "depth/2/ntk"]
    for key, block in found.items():
        # The contract's: float64 1e-10 of max|K|, float32 1e-5.
        atol = {"float32": 1e-5, "float64": 1e-10}[dtype] * np.abs(wanted[key]).max()
        np.testing.assert_allclose(block, wanted[key], rtol=0, atol=atol)


def test_threads_memory_and_tiles_do_not_change_the_bits(data: Path, tmp_path: Path) -> None:
    train = f"{data}:train/x"
    widegram.gram(IMAGES, train, tmp_path / "a.h5", tile=8, threads=1, memory="64MB")
    widegram.gram(IMAGES, train, tmp_path / "b.h5", tile=8, threads=2)
    widegram.gram(IMAGES, train, tmp_path / "c.h5", tile=11)
    assert filecmp.cmp(tmp_path / "a.h5", tmp_path / "b.h5", shallow=False)
    a, c = matrices(tmp_path / "a.h5"), matrices(tmp_path / "c.h5")
    for key, block in a.items():
        np.testing.assert_array_equal(block, c[key])


def test_verify_finds_values_of_another_network(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "K.h5"
    widegram.gram(IMAGES, f"{data}:train/x", out, tile=8)
    other = widegram.kernel(
        {**IMAGES, "layers": IMAGES["layers"][1:]}, f"{data}:train/x", get="ntk"
    )
    assert isinstance(other, np.ndarray)
    with GramFile(out) as file:
        header = file.header
    with open_for_resume(out, header) as writer:
        for i, j in writer.grid.tiles():
            rows, cols = writer.grid.rows(i), writer.grid.cols(j)
            block = other[np.ix_(rows, cols)].astype(np.float32)
            writer.write([(i, j, {"nngp": block, "ntk": block})])
    report = widegram.verify(out)
    assert any("differs from the recomputed values" in line for line in report.damage)


def test_kernel_returns_what_was_asked_for(data: Path) -> None:
    x = widegram.open_source(f"{data}:train/x").read(0, 5)
    one = widegram.kernel(IMAGES, x, get="ntk", dtype="float32")
    assert isinstance(one, np.ndarray)
    assert (one.shape, one.dtype) == ((5, 5), np.float32)
    both = widegram.kernel(IMAGES, x, x[:2])
    assert isinstance(both, Kernels)
    assert both.nngp is not None
    assert (both.nngp.shape, both.nngp.dtype) == ((5, 2), np.float64)
    assert widegram.kernel(IMAGES, x, get=["nngp"]).ntk is None


def test_kernel_refuses_what_gram_refuses(data: Path) -> None:
    x = np.ones((5, 8, 8, 1))
    x[3, 0, 0, 0] = np.inf
    with pytest.raises(WidegramError, match="row 3 holds an infinite value"):
        widegram.kernel(IMAGES, x)
    with pytest.raises(WidegramError, match=r"expects \[8, 8, 1\].*has \[4, 4, 1\]"):
        widegram.kernel(IMAGES, np.ones((5, 4, 4, 1)))


REAL_MEMORY_SCRIPT = textwrap.dedent(
    """
    import resource, sys
    import numpy as np, widegram
    n, out = int(sys.argv[1]), sys.argv[2]
    x = np.random.default_rng(0).standard_normal((n, 10, 10, 2)).astype(np.float32)
    widegram.gram("cnn-f:depth=6", x, out, memory="64MB")
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    """
)


def test_memory_of_the_engine_does_not_grow_with_the_matrix(tmp_path: Path) -> None:
    peaks = []
    for n in (128, 2560):
        done = subprocess.run(
            [sys.executable, "-c", REAL_MEMORY_SCRIPT, str(n), str(tmp_path / f"{n}.h5")],
            capture_output=True,
            text=True,
            check=True,
        )
        peaks.append(int(done.stdout) * 1024)
    # Two matrices of 26 MB each and 15 MB of factors and inputs per thousand images: far more in
    # all than the budget by which the large run may exceed the small one.
    assert peaks[1] - peaks[0] < 64 * 10**6
