"""Spectra: LAPACK, block Krylov, inverse iteration and quadrature against known eigenvalues."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from linalg_support import peak_memory_below, with_spectrum, write_gram
from widegram import WidegramError
from widegram.linalg.density import lanczos_density
from widegram.linalg.eigen import choose_driver, full_eigen, partial_eigen
from widegram.linalg.lowest import lowest_eigen
from widegram.linalg.operator import GramOperator, as_operator
from widegram.linalg.settings import Resources
from widegram.linalg.spectrum import SpectrumOptions, spectrum
from widegram.linalg.summary import resolution
from widegram.validation.choices import WHICH
from widegram_cli.main import program

N = 307
GB = 10**9
SPECTRA = {
    "power law": np.arange(1, N + 1) ** -1.5,
    "geometric": np.geomspace(1e-8, 1, N),
    "repeated": np.repeat(np.arange(1.0, 8.0), 50)[:N],
    "outlier": np.r_[np.geomspace(1e-3, 1, N - 1), 100.0],
}


def ends(values: np.ndarray, k: int, which: str) -> np.ndarray:
    low = {"LA": 0, "SA": k, "BE": k // 2}[which]
    values = np.sort(values)
    return np.concatenate([values[:low], values[values.size - (k - low) :]])


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("driver", ["evr", "evd"])
def test_full(name, driver) -> None:
    values = np.sort(SPECTRA[name])
    memory = 8 * N * N * (5 if driver == "evd" else 2) + 8 * 200 * N
    operator = as_operator(with_spectrum(values))
    found = full_eigen(operator, vectors=True, memory=memory)
    assert found.method == f"lapack-{driver}"
    # LAPACK is backward stable: each eigenvalue moves by some eps |A|.
    np.testing.assert_allclose(found.values, values, rtol=0, atol=50e-16 * values[-1])
    defect = operator.matmat(found.vectors) - found.vectors * found.values
    assert np.abs(defect).max() < 1e-13 * values[-1]
    assert full_eigen(operator, vectors=False, memory=memory).vectors is None


@pytest.mark.parametrize(
    ("name", "which"), [*(("repeated", which) for which in WHICH), *((s, "LA") for s in SPECTRA)]
)
def test_block_krylov(name, which) -> None:
    found = partial_eigen(as_operator(with_spectrum(SPECTRA[name])), 6, which, memory=GB)
    expected = ends(SPECTRA[name], 6, which)
    assert found.converged == 6
    np.testing.assert_allclose(found.values, expected, atol=1e-7 * SPECTRA[name].max())
    assert (found.residuals <= 1e-8 * SPECTRA[name].max()).all()


def test_block_krylov_reports_what_did_not_converge() -> None:
    found = partial_eigen(
        as_operator(with_spectrum(SPECTRA["geometric"])), 4, "SA", memory=GB, max_passes=3
    )
    assert found.converged < 4
    assert found.residuals.max() > 1e-6


def test_whole_spectrum_by_block_krylov() -> None:
    values = np.linspace(1, 2, 23)
    found = partial_eigen(as_operator(with_spectrum(values)), 23, "LA", memory=GB)
    np.testing.assert_allclose(found.values, values, atol=1e-12)


@pytest.mark.parametrize("name", SPECTRA)
def test_lowest_by_inverse_iteration(name) -> None:
    values = np.sort(SPECTRA[name])
    found = lowest_eigen(
        as_operator(with_spectrum(values)), 3, values[-1], Resources(GB), inverse_tol=1e-7
    )
    assert found.method == "inverse-krylov"
    # Rounding of the matrix itself moves them by eps |A|; the iteration by less than 1e-7.
    np.testing.assert_allclose(found.values, values[:3], rtol=1e-6, atol=50e-16 * values[-1])
    streamed = lowest_eigen(
        as_operator(with_spectrum(values)), 3, values[-1], Resources(8 * N * 150), max_passes=5
    )
    assert streamed.method == "block-krylov"


def test_lowest_by_inverse_iteration_on_the_disk(tmp_path) -> None:
    values = np.sort(np.arange(1, 401) ** -1.5)  # the bottom crowds: 1e-6 of the norm between two
    memory = 8 * 400 * 253  # of 400 columns
    seen: list[Path] = []
    found = lowest_eigen(
        as_operator(with_spectrum(values)),
        3,
        1.0,
        Resources(
            memory, work=tmp_path / "e", progress=lambda _: seen.extend(tmp_path.iterdir())
        ),
        inverse_tol=1e-7,
    )
    assert found.method == "inverse-krylov on the disk"
    assert {path.name for path in seen} == {"e.factor"}
    assert not list(tmp_path.iterdir())
    # As in memory: 1e-7 of the inverse's norm, squared or not.
    np.testing.assert_allclose(found.values, values[:3], rtol=1e-6)
    assert (np.abs(found.values - values[:3]) <= found.errors + 1e-13).all()
    # K's residual: the inverse's, 1e-7 / lambda, times lambda and the norm 1.
    assert (found.residuals < 1e-7).all()


def test_lowest_of_an_indefinite_matrix() -> None:
    values = np.r_[-1.0, np.linspace(2, 3, N - 1)]
    operator = as_operator(with_spectrum(values))
    found = lowest_eigen(operator, 1, 3.0, Resources(GB))  # streaming finds the shift for a factor
    assert found.method == "inverse-krylov"
    assert found.values[0] == pytest.approx(-1.0, abs=1e-8)
    assert found.errors[0] < 1e-3  # 4e-4 of shift and eigenvalue, 2 + 1
    streamed = lowest_eigen(operator, 1, 3.0, Resources(8 * N * 150))
    assert streamed.method == "block-krylov"
    assert streamed.values[0] == pytest.approx(-1.0, abs=1e-8)
    assert streamed.errors[0] == np.inf  # nothing bounds it from below


@pytest.mark.parametrize(
    "values",
    [
        np.linspace(1, 3, N),
        np.r_[np.geomspace(0.1, 1, N - 1), 50.0],
        np.repeat([1.0, 4.0, 9.0], 100),
    ],
)
def test_density_within_its_ranges(values) -> None:
    density = lanczos_density(as_operator(with_spectrum(values)), probes=24, steps=60, seed=1)
    edges = np.array([-1.0, 0.5, 1.5, 2.5, 6.0, 100.0])
    count, least, most = density.counts(edges)
    truth = np.histogram(values, edges)[0]
    assert (least <= truth).all()
    assert (truth <= most).all()
    assert count.sum() == pytest.approx(values.size)
    # Three standard errors of 24 probes, sqrt(2 m (1 - m / n) / 24), on either side of both
    # edges, and one or two of 60 nodes at each.
    assert (most - least).max() < 6 * np.sqrt(values.size / 2 / 24) + 4 * values.size / 60
    low, high = density.count_below(100.0)
    assert values.size - 1 < low <= high == values.size


def test_density_ranges_grow_when_eigenvalues_crowd() -> None:
    # Of 8 decades, 40 steps see the first 3; below there may be many or none, and it says so.
    values = SPECTRA["geometric"]
    density = lanczos_density(as_operator(with_spectrum(values)), steps=40)
    edges = np.array([-np.inf, *np.geomspace(1e-9, 10, 11)])
    _, least, most = density.counts(edges)
    truth = np.histogram(values, edges)[0]
    assert (least <= truth).all()
    assert (truth <= most).all()
    assert most[2] - least[2] > N / 3
    assert (most - least)[-2:].max() < 25


@pytest.mark.parametrize("options", [{"full": True}, {"k": 4, "which": "BE"}, {"density": True}])
def test_summary(options) -> None:
    values = SPECTRA["outlier"]
    found = spectrum(as_operator(with_spectrum(values)), SpectrumOptions(**options), Resources(GB))
    assert found.n == N
    assert found.lambda_max == pytest.approx(100.0, rel=1e-10)
    assert found.lambda_min == pytest.approx(1e-3, rel=1e-6)
    assert found.lambda_min_resolved
    assert found.kappa == pytest.approx(1e5, rel=1e-6)
    assert found.trace == pytest.approx(values.sum(), rel=1e-12)
    assert found.effective_rank == pytest.approx(values.sum() ** 2 / (values**2).sum(), rel=1e-10)
    assert abs(found.bulk - np.median(values)) <= 4 * found.bulk_error + 1e-12
    assert found.unresolved == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_eigenvalues_below_the_resolution_are_flagged(dtype) -> None:
    values = np.geomspace(1e-40, 1, N)
    matrix = with_spectrum(values).astype(dtype)
    for options in ({"full": True}, {"k": 3, "which": "SA"}):
        found = spectrum(as_operator(matrix), SpectrumOptions(**options), Resources(GB))
        floor = resolution(N, 1.0, matrix.diagonal().max(), dtype)
        assert found.resolution == pytest.approx(floor, rel=1e-6)
        assert not found.lambda_min_resolved
        # lambda_min is at most the resolution beside what the rounded matrix has, which is less.
        assert 0.5 < found.kappa * found.resolution < 2
        assert found.as_dict()["kappa_is_lower_bound"]
    full = spectrum(as_operator(matrix), SpectrumOptions(full=True), Resources(GB))
    assert full.unresolved == pytest.approx((values < full.resolution).sum(), abs=2)
    assert not full.bulk_resolved


def test_resolution_holds_for_rounding() -> None:
    matrix = with_spectrum(np.geomspace(1e-9, 1, N))
    moved = np.linalg.eigvalsh(matrix.astype(np.float32).astype(np.float64))
    change = np.abs(moved - np.linalg.eigvalsh(matrix)).max()
    floor = resolution(N, 1.0, matrix.diagonal().max(), np.float32)
    assert 0 < change < floor


def test_eigenvalues_above_the_resolution_mean_something() -> None:
    # A large mean, as kernels have: its rounding moves the largest eigenvalue, not the others.
    matrix = 3.0 + 1e-3 * with_spectrum(np.geomspace(1e-1, 1, N))
    exact = np.linalg.eigvalsh(matrix)
    operator = as_operator(matrix.astype(np.float32))
    found = spectrum(operator, SpectrumOptions(full=True), Resources(GB))
    assert found.lambda_min_resolved
    assert found.unresolved == 0
    assert abs(found.lambda_min - exact[0]) < found.resolution


def test_refusals() -> None:
    operator = as_operator(np.eye(20))
    with pytest.raises(WidegramError, match="leave out --k and --density"):
        spectrum(operator, SpectrumOptions(full=True, k=3), Resources(GB))
    with pytest.raises(WidegramError, match="1 <= k <= 20"):
        partial_eigen(operator, 21, memory=GB)
    for which in ("LA", "SA", "BE"):  # half of 21 at each end is no more than 20
        with pytest.raises(WidegramError, match="--k 21: give 1 <= k <= 20"):
            spectrum(operator, SpectrumOptions(k=21, which=which), Resources(GB))
    with pytest.raises(WidegramError, match="give more --memory, or take --k or --density"):
        choose_driver(10_000, vectors=False, memory=10**8)
    with pytest.raises(WidegramError, match="smaller --k"):
        partial_eigen(as_operator(np.eye(500)), 100, memory=10**5)


def test_partial_eigen_keeps_to_its_memory(tmp_path) -> None:
    n, budget = 2000, 8 * 10**6
    with h5py.File(tmp_path / "k.h5", "w") as file:
        dataset = file.create_dataset("k", (n, n), "f8", chunks=(100, 100))
        for lo in range(0, n, 100):
            block = np.ones((100, n))
            block[np.arange(100), lo + np.arange(100)] = 1.0 + np.arange(lo, lo + 100)
            dataset[lo : lo + 100] = block
        operator = GramOperator(dataset, memory=2 * 10**6)
        partial_eigen(operator, 2, memory=budget, max_passes=3)
        with peak_memory_below(budget + 5 * 10**6):  # and the blocks in flight, and HDF5's cache
            partial_eigen(operator, 2, memory=budget, max_passes=40)


@pytest.fixture
def gram(tmp_path: Path) -> Path:
    matrix = with_spectrum(np.geomspace(1e-3, 10, 90))
    deep = with_spectrum(np.geomspace(1e-12, 10, 90)).astype(np.float32)
    write_gram(tmp_path / "deep.h5", {"depth/3/ntk": deep}, depths=(3,))
    return write_gram(tmp_path / "k.h5", {"nngp": matrix, "ntk": matrix + np.eye(90)})


def run(*arguments: object) -> str:
    result = CliRunner().invoke(program, [str(a) for a in arguments])
    assert result.exit_code == 0, result.stderr
    return result.stdout


def test_command_full(gram, tmp_path) -> None:
    out = tmp_path / "e.h5"
    found = json.loads(
        run("eig", gram, "--kernel", "nngp", "--full", "--vectors", "--out", out, "--json")
    )
    assert {"n", "lambda_max", "lambda_min", "bulk", "kappa", "trace"} <= set(found)
    with h5py.File(out) as file:
        values, vectors = file["eigenvalues"][:], file["eigenvectors"][:]
        assert file["resolved"][:].all()
        assert file.attrs["network_fingerprint"] == "net"
        assert file.attrs["kernel"] == "nngp"
    assert (np.diff(values) > 0).all()
    np.testing.assert_allclose(values, np.geomspace(1e-3, 10, 90), rtol=1e-10)
    assert vectors.shape == (90, 90)
    assert found["kappa"] == pytest.approx(1e4, rel=1e-8)


def test_command_pairs_density_and_plot(gram, tmp_path) -> None:
    pytest.importorskip("matplotlib")
    out, plot = tmp_path / "e.h5", tmp_path / "e.png"
    found = json.loads(
        run("eig", gram, "--k", 4, "--which", "BE", "--out", out, "--plot", plot, "--json")
    )
    np.testing.assert_allclose(found["eigenvalues"], ends(1 + np.geomspace(1e-3, 10, 90), 4, "BE"))
    assert plot.read_bytes().startswith(b"\x89PNG")
    with h5py.File(out) as file:
        assert file["eigenvectors"].shape == (90, 4)
        assert file["residuals"].shape == (4,)
    text = run("eig", gram, "--density", "--out", tmp_path / "d.h5", "--plot", tmp_path / "d.svg")
    assert "bulk (median)" in text
    counts = [
        [int(part) for part in line.split(": ")[1].split(" to ")]
        for line in text.splitlines()
        if line.startswith("eigenvalues")
    ]
    assert sum(ends[0] for ends in counts) <= 90 <= sum(ends[-1] for ends in counts)
    with h5py.File(tmp_path / "d.h5") as file:
        assert file["density/count"][:].sum() == pytest.approx(90)
        edges, least, most = (file[f"density/{name}"][:] for name in ("edges", "least", "most"))
    truth = np.histogram(1 + np.geomspace(1e-3, 10, 90), edges)[0]
    assert ((least <= truth) & (truth <= most)).all()


def test_command_beyond_memory(tmp_path) -> None:
    n = 1100  # 9.7 MB; 16 MB leave half of that for arrays
    values = np.r_[np.arange(1, 5) * 1e-4, np.geomspace(1e-3, 1, n - 4)]
    gram = write_gram(tmp_path / "k.h5", {"ntk": with_spectrum(values)}, tile=200)
    small = ["--memory", "16MB", "--steps", 20, "--probes", 4]
    for arguments, count in ((["--which", "SA"], 4), (["--which", "BE"], 2)):
        found = json.loads(run("eig", gram, *small, "--k", 4, *arguments, "--json"))
        assert "inverse-krylov on the disk" in found["method"]
        assert found["lambda_min_resolved"]
        assert found["converged"] == 4
        assert found["lambda_min_residual"] < 1e-7  # as above
        np.testing.assert_allclose(found["eigenvalues"][:count], values[:count], rtol=1e-6)
    text = run("eig", gram, *small, "--k", 2)  # the top alone: no factorisation
    assert "block-krylov (bottom)" in text
    lowest = text.split("lambda_min")[1].splitlines()[0]
    assert "residual" in lowest or "no bound from below: take --which SA" in lowest
    assert [path.name for path in tmp_path.iterdir()] == ["k.h5"]


def test_command_names_a_negative_eigenvalue(tmp_path) -> None:
    gram = write_gram(tmp_path / "k.h5", {"ntk": with_spectrum(np.r_[-0.5, np.ones(40)])})
    for arguments in (["--full"], ["--k", 2, "--which", "SA"]):
        lowest = run("eig", gram, *arguments).split("lambda_min")[1].splitlines()[0]
        assert "-0.5 (negative: no kernel matrix" in lowest
    assert json.loads(run("eig", gram, "--json"))["indefinite"] is True


def test_a_bound_is_called_a_bound() -> None:
    values = np.sort(np.arange(1, 601) ** -1.5)
    options = SpectrumOptions(k=1, max_passes=12)
    resources = Resources(8 * 600 * 250)  # no room for a factor
    found = spectrum(as_operator(with_spectrum(values)), options, resources)
    assert not found.lambda_min_resolved
    assert found.lambda_min > values[0]
    assert found.as_dict()["kappa_is_lower_bound"]


def test_command_never_prints_noise(gram) -> None:
    deep = gram.with_name("deep.h5")
    text = run("eig", deep, "--depth", 3, "--full")
    lowest = text.split("lambda_min")[1].splitlines()[0]
    assert "below the resolution" in lowest
    assert "at least" in text.split("condition number")[1].splitlines()[0]
    pairs = run("eig", deep, "--depth", 3, "--k", 2, "--which", "SA")
    assert pairs.count("unresolved (below the resolution") == 2


def test_command_of_a_zero_matrix(tmp_path) -> None:
    pytest.importorskip("matplotlib")
    gram = write_gram(tmp_path / "z.h5", {"ntk": np.zeros((9, 9))})
    for number, arguments in enumerate(
        ([], ["--k", 2], ["--density"], ["--k", 1, "--which", "SA"])
    ):
        found = json.loads(run("eig", gram, *arguments, "--json"))
        assert (found["lambda_max"], found["lambda_min"], found["trace"]) == (0.0, 0.0, 0.0)
        plot = tmp_path / f"{number}.png"
        text = run("eig", gram, *arguments, "--plot", plot, "--out", tmp_path / f"{number}.h5")
        assert plot.read_bytes().startswith(b"\x89PNG")
        assert "below the resolution" in text.split("lambda_min")[1].splitlines()[0]
    assert json.loads(run("eig", gram, "--density", "--json"))["density"]["least"] == [9.0]


def test_command_refusals(gram, tmp_path) -> None:
    (tmp_path / "there.h5").write_text("precious")
    for arguments, message in (
        (["--out", tmp_path / "there.h5"], "pass --overwrite"),
        (["--depth", "2"], "no depth 2"),
        (["--k", "91"], "1 <= k <= 90"),
        (["--full", "--k", "2"], "leave out"),
        (["--vectors"], "--vectors serves --full"),
    ):
        result = CliRunner().invoke(program, ["eig", str(gram), *map(str, arguments)])
        assert result.exit_code == 2
        assert message in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
    assert (tmp_path / "there.h5").read_text() == "precious"
