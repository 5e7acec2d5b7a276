"""`solve --method cg --dask`: workers keep rows of the matrix, and a product moves only vectors."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

import widegram
from cli_support import refused, run, run_json
from cluster import Cluster, cluster
from widegram.linalg import SolveJob, SolveOptions, servedpanels, solve_file
from widegram.linalg.gramsource import open_train
from widegram.machine.progress import Progress
from widegram.tiling import WHOLE
from widegram.workers.session import SchedulerGone

N = 200
RIDGE = ["--diag-reg", "3e-2"]


@pytest.fixture(scope="module")
def two() -> Iterator[Cluster]:
    with cluster(2) as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    draw = np.random.default_rng(1)
    x = draw.standard_normal((N, 6)) * np.linspace(0.8, 1.2, N)[:, None]
    widegram.gram("fcn:depth=1", x, tmp_path / "k.h5", get="ntk", tile=32, dtype="float32")
    np.save(tmp_path / "y.npy", draw.standard_normal((N, 3)))
    return tmp_path


def words(folder: Path, out: str, *more: object) -> list[object]:
    return ["solve", folder / "k.h5", "--y", folder / "y.npy", "--out", folder / out, *more]


def alpha(path: Path) -> np.ndarray:
    with h5py.File(path) as file:
        return np.asarray(file["alpha"])


@pytest.mark.parametrize("more", [[], ["--unit-diagonal"], ["--preconditioner", "none"]])
def test_the_solution_of_one_process(more: list[str], two: Cluster, folder: Path) -> None:
    how = [*RIDGE, *more, "--tol", "1e-10"]
    alone = run_json(*words(folder, "a.h5", *how, "--method", "cg"))
    shared = run_json(*words(folder, "b.h5", *how, "--dask", two.address))
    assert (shared["method"], shared["status"]) == ("cg", "ok")
    assert shared["shift"] == alone["shift"]
    wanted = alpha(folder / "a.h5")
    # Two residuals of 1e-10 times the condition number, which the regulariser keeps below 1e3.
    np.testing.assert_allclose(alpha(folder / "b.h5"), wanted, atol=2e-7 * np.abs(wanted).max())
    assert sorted(path.name for path in folder.glob("b.h5*")) == ["b.h5"]


def test_the_number_of_workers_changes_no_bit(two: Cluster, folder: Path) -> None:
    run_json(*words(folder, "a.h5", *RIDGE, "--dask", two.address))
    run_json(*words(folder, "b.h5", *RIDGE, "--dask", "local:1", "--memory", "200MB"))
    assert alpha(folder / "a.h5").tobytes() == alpha(folder / "b.h5").tobytes()


def test_a_killed_worker_costs_its_rows_and_not_the_run(two: Cluster, folder: Path) -> None:
    """The other one goes on with all rows; a third one joins later."""
    two.wait(2)
    told: list[Progress] = []

    def kill(progress: Progress) -> None:
        told.append(progress)
        if progress.what.startswith("cg") and progress.done == 3:
            os.kill(two.processes.numbers[0], signal.SIGKILL)
            two.processes.tend()

    job = SolveJob(
        gram=folder / "k.h5", y=str(folder / "y.npy"), out=folder / "a.h5", diag_reg=3e-3,
        dask=two.address, options=SolveOptions(preconditioner="none", tol=1e-10),
    )  # fmt: skip
    found = solve_file(job, kill)
    iterations = sum(progress.what.startswith("cg") for progress in told)
    assert (found.status, found.iterations) == ("ok", iterations)
    assert iterations > 10
    quiet = solve_file(replace(job, out=folder / "b.h5"))
    assert quiet.iterations == found.iterations
    assert alpha(folder / "a.h5").tobytes() == alpha(folder / "b.h5").tobytes()


def test_a_stopped_worker_is_not_waited_for(two: Cluster, folder: Path) -> None:
    two.wait(2)
    number = two.processes.numbers[0]

    def stop(progress: Progress) -> None:
        if progress.what.startswith("cg") and progress.done == 3:
            os.kill(number, signal.SIGSTOP)

    job = SolveJob(
        gram=folder / "k.h5", y=str(folder / "y.npy"), out=folder / "a.h5", diag_reg=3e-3,
        dask=two.address, options=SolveOptions(preconditioner="none"),
    )  # fmt: skip
    try:
        assert solve_file(job, stop).status == "ok"
    finally:
        os.kill(number, signal.SIGCONT)


@pytest.mark.slow
def test_without_its_scheduler_a_solve_can_be_gone_on_with(folder: Path) -> None:
    job = SolveJob(
        gram=folder / "k.h5", y=str(folder / "y.npy"), out=folder / "a.h5", diag_reg=3e-3,
        options=SolveOptions("cg", preconditioner="none", checkpoint_seconds=0.0),
    )  # fmt: skip
    with cluster(1) as made:

        def leave(progress: Progress) -> None:
            if progress.what.startswith("cg") and progress.done == 3:
                made.stop_scheduler()

        with pytest.raises(SchedulerGone, match="3 iterations are saved; run the same") as gone:
            solve_file(replace(job, dask=made.address), leave)
    assert gone.value.exit_code == 130
    assert solve_file(job).details["restarted_from"] == 3


def test_errors_of_workers_are_one_line(two: Cluster, folder: Path) -> None:
    with h5py.File(folder / "k.h5", "r+") as file:
        file["ntk"][100, 100:] += 1  # Rows that only workers read: not the diagonal's blocks.
        file["ntk"][100, 100] -= 1
    result = run(*words(folder, "a.h5", *RIDGE, "--dask", two.address))
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "k.h5" in result.stderr
    assert not (folder / "a.h5").exists()


def test_another_matrix_at_the_same_place_is_refused(
    two: Cluster, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("widegram.linalg.gramsource.GramKernel.key", lambda self: "another")
    refused(r"worker tcp.*k.h5: is not the matrix that the client has",
            *words(folder, "a.h5", "--dask", two.address))  # fmt: skip


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--method", "cholesky"], "share the products of method cg alone; give --method cg"),
        (["--loo"], "need a factorisation, workers share the products of method cg"),
        (["--diag-reg-path", "1e-3,1e-2"], "need a factorisation.*or give one --diag-reg"),
        (["--plan"], "--dask has no effect with --plan; leave one of them out"),
    ],
)
def test_what_workers_have_no_part_in_is_refused(
    more: list[str], message: str, folder: Path
) -> None:
    result = run(*words(folder, "a.h5", "--dask", "local:2", *more))
    assert result.exit_code == 2
    assert re.search(message, result.stderr)
    refused("is no address and no file", *words(folder, "a.h5", "--dask", "local:x"))


def test_rows_are_kept_as_far_as_memory_goes_and_given_up_when_another_has_them(
    folder: Path,
) -> None:
    train = open_train(folder / "k.h5", "ntk", WHOLE, memory=1 << 20)
    panel = 50 * N * 4
    # Room for two panels, beside blocks that are multiplied and three arrays like x.
    x = np.random.default_rng(0).standard_normal((N, 2))
    served = servedpanels.ServedPanels(train, (1 << 20) + 2 * panel + 3 * x.nbytes)
    served.share(1, x)
    spans = [(low, low + 50) for low in range(0, N, 50)]
    for _ in range(2):
        found = np.concatenate(served.work([(1, *span) for span in spans]))
        # float32 entries, float64 sums of 200 terms.
        wanted = train.operator.matmat(x)
        np.testing.assert_allclose(found, wanted, atol=1e-13 * np.abs(wanted).max())
        assert sorted(served._kept) == [0, 50]
    for number in (2, 3):
        served.share(number, x)
        served.work([(number, *span) for span in spans[2:]])
    assert sorted(served._kept) == [100, 150]
    with pytest.raises(servedpanels.Unshared):
        served.work([(2, 0, 50)])
    served.close()
