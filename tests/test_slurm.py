"""The scripts for Slurm, as far as they can be tried without it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import widegram
from widegram.gramfile import GramFile

FOLDER = Path(__file__).parents[1] / "examples/slurm"
SCRIPTS = sorted(FOLDER.glob("*.sbatch"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_bash_understands_the_script(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)
    lines = script.read_text().splitlines()
    assert lines[0].startswith("#!/bin/")
    last = max(n for n, line in enumerate(lines) if line.startswith("#SBATCH"))
    # Slurm reads no options behind the first command.
    assert all(not line or line.startswith("#") for line in lines[:last])


def test_an_array_has_as_many_tasks_as_there_are_shards() -> None:
    text = (FOLDER / "gram_shards.sbatch").read_text()
    assert "#SBATCH --array=1-16\n" in text
    assert "${SHARDS:-16}" in text


def test_the_array_and_its_join_without_slurm(tmp_path: Path) -> None:
    """All tasks at once, as processes here, then the join; bits as of one run."""
    x = np.random.default_rng(0).standard_normal((1100, 5))
    np.save(tmp_path / "x.npy", x)
    program = tmp_path / "widegram"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m widegram_cli "$@"\n')
    program.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(sys.path),
        "NET": "fcn:depth=2",
        "DATA": "x.npy",
        "SHARDS": "3",
        "SLURM_CPUS_PER_TASK": "1",
    }
    tasks = [
        subprocess.Popen(
            ["bash", str(FOLDER / "gram_shards.sbatch")],
            cwd=tmp_path,
            env={**environment, "SLURM_ARRAY_TASK_ID": str(number)},
        )
        for number in (1, 2, 3)
    ]
    assert [task.wait() for task in tasks] == [0, 0, 0]
    join = ["bash", str(FOLDER / "gram_join.sbatch")]
    subprocess.run(join, cwd=tmp_path, env=environment, check=True)
    widegram.gram("fcn:depth=2", tmp_path / "x.npy", tmp_path / "W.h5")
    with GramFile(tmp_path / "K.h5") as joined, GramFile(tmp_path / "W.h5") as whole:
        for key in whole.keys():  # noqa: SIM118 - a method of the file
            assert joined.raw(key)[...].tobytes() == whole.raw(key)[...].tobytes()
