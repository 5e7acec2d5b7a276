"""What a benchmark starts ends with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from signal_support import HANG_SECONDS, SHORT_SECONDS, ended, guarded, start
from widegram_bench.child import finished, started

# A child with one of its own, both of which would sleep on; it notes their numbers.
SLEEPERS = """
import os, subprocess, sys, time
other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open(sys.argv[1] + ".part", "w").write(f"{os.getpid()} {other.pid}")
os.rename(sys.argv[1] + ".part", sys.argv[1])
time.sleep(600)
"""


def runs(number: int) -> bool:
    """Whether a process is there and is more than an entry that nobody has read."""
    try:
        status = Path(f"/proc/{number}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def noted(path: Path) -> list[int]:
    """The numbers in a file that is to come."""
    wait_until(path.exists)
    return [int(word) for word in path.read_text().split()]


def wait_until(condition) -> None:
    """Waits for what must come; a hang fails."""
    end = time.monotonic() + HANG_SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_signals_end_children_and_theirs(tmp_path: Path, number: signal.Signals) -> None:
    note = tmp_path / "numbers"
    process = start(guarded(f"""
        from widegram_bench.child import finished
        finished([sys.executable, "-c", {SLEEPERS!r}, {str(note)!r}])
    """, SHORT_SECONDS))  # fmt: skip
    children = noted(note)
    assert all(map(runs, children))
    process.send_signal(number)
    code, lines = ended(process)
    assert code == 130, lines
    wait_until(lambda: not any(map(runs, children)))


def test_an_error_ends_the_group(tmp_path: Path) -> None:
    note = tmp_path / "numbers"
    with (
        suppress(ZeroDivisionError),
        started([sys.executable, "-c", SLEEPERS, str(note)]) as process,
    ):
        children = noted(note)
        raise ZeroDivisionError
    assert process.wait(HANG_SECONDS) == -signal.SIGKILL
    wait_until(lambda: not any(map(runs, children)))


def test_output_and_time(tmp_path: Path) -> None:
    done = finished([sys.executable, "-c", "print(input()[::-1])"], "abc\n", os.environ)
    assert (done.returncode, done.stdout, done.stderr) == (0, "cba\n", "")
    note = tmp_path / "numbers"
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        finished([sys.executable, "-c", "print('early', flush=True)\n" + SLEEPERS, str(note)],
                 timeout=1)  # fmt: skip
    assert caught.value.stdout in ("early\n", "")  # "" where Python took longer to start
    if note.exists():
        wait_until(lambda: not any(map(runs, noted(note))))
