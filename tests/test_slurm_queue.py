"""The scripts that bring workers of Slurm, with a stand-in for Slurm's commands: a job is a
process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import widegram
from widegram.gramfile import GramFile

pytestmark = pytest.mark.slow  # Schedulers, workers and their starts: half a minute each.
pytest.importorskip("distributed")

FOLDER = Path(__file__).parents[1] / "examples/slurm"
COMMANDS = {
    "widegram": f'exec {sys.executable} -m widegram_cli "$@"',
    "dask": f'exec {sys.executable} -m dask "$@"',
    # Two tasks of one job, which end with it.
    "srun": '"$@" &\none=$!\n"$@" &\ntwo=$!\ntrap "kill $one $two" TERM\nwait\nwait',
    # A job by its script; its number is that of its process group.
    "sbatch": 'cp "$1" "$QUEUE/$$.sh"\nsetsid bash "$QUEUE/$$.sh" > "$QUEUE/$$.log" 2>&1 &\n'
    'echo "Submitted batch job $!"\necho $! >> "$QUEUE/jobs"',
    "scancel": 'for job in "$@"; do kill -- "-$job"; done 2> /dev/null',
}


@pytest.fixture
def queue(tmp_path: Path) -> dict[str, str]:
    """The environment in which those commands are found; data to compute lie in its folder."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in COMMANDS.items():
        (programs / name).write_text(f"#!/bin/bash\n{text}\n")
        (programs / name).chmod(0o755)
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((1100, 5)))
    return {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(sys.path),
        "QUEUE": str(tmp_path),
        "SLURM_CPUS_PER_TASK": "1",
    }


def as_one_process(folder: Path) -> None:
    """K.h5 has the bits of a run without workers."""
    widegram.gram("fcn:depth=2", folder / "x.npy", folder / "W.h5")
    with GramFile(folder / "K.h5") as run, GramFile(folder / "W.h5") as whole:
        for key in whole.keys():  # noqa: SIM118 - a method of the file
            assert run.raw(key)[...].tobytes() == whole.raw(key)[...].tobytes()


def test_one_job_of_scheduler_workers_and_run(queue: dict[str, str], tmp_path: Path) -> None:
    script = str(FOLDER / "gram_workers.sbatch")
    command = ["bash", script, "fcn:depth=2", "x.npy", "K.h5"]
    subprocess.run(command, cwd=tmp_path, env=queue, check=True, timeout=300)
    as_one_process(tmp_path)
    assert not list(tmp_path.glob("widegram-*"))


def test_workers_as_jobs_of_their_own(queue: dict[str, str], tmp_path: Path) -> None:
    pytest.importorskip("dask_jobqueue")
    command = [sys.executable, str(FOLDER / "gram_jobqueue.py"), "fcn:depth=2", "x.npy", "K.h5"]
    subprocess.run(command, cwd=tmp_path, env=queue, check=True, timeout=300)
    as_one_process(tmp_path)
    jobs = (tmp_path / "jobs").read_text().split()
    assert jobs
