"""The CPU's driver as Python: what it computes, and that every line of it runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from driver_cases import digests

# Percent. The rest: early ends, and the translation, which does not happen here.
COVERED = 95.0


def test_python_and_machine_code_of_the_driver_agree(tmp_path: Path) -> None:
    found, here = tmp_path / "found.json", Path(__file__).parent
    command = [sys.executable, "-m", "driver_cases", str(found)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "Traceback" not in run.stderr  # ctypes prints what a callback raises, and goes on
    interpreted = json.loads(found.read_text())
    assert interpreted["digests"] == digests()
    assert interpreted["percent"] >= COVERED, interpreted["missing"]
