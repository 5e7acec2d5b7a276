"""Standard streams that are closed, full or gone: the same files and exit codes."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

PROGRAM = f"{sys.executable} -m widegram_cli"
GOOD = "net fcn:depth=2 --input-shape 4"
BAD = "net fcn:depth=nonsense"


def shell(line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("streams", [">&-", "2>&-", ">&- 2>&- <&-", "2>/dev/full", "<&-"])
@pytest.mark.parametrize(("arguments", "code"), [(GOOD, 0), (BAD, 2)])
def test_closed_streams_change_nothing(streams: str, arguments: str, code: int) -> None:
    done = shell(f"{PROGRAM} {arguments} {streams}")
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize(("arguments", "code"), [(GOOD, 0), (BAD, 2)])
def test_a_reader_that_leaves_changes_nothing(arguments: str, code: int) -> None:
    done = shell(f"{PROGRAM} {arguments} 2>&1 | true; exit ${{PIPESTATUS[0]}}")
    assert (done.returncode, done.stderr) == (code, "")


def test_what_a_full_disk_takes_from_stdout_is_no_success() -> None:
    done = shell(f"{PROGRAM} {GOOD} > /dev/full")
    assert done.returncode == 2
    assert done.stderr == (
        "widegram: error: stdout: No space left on device; what was printed is lost\n"
    )


def test_no_file_takes_the_number_of_a_closed_stream() -> None:
    code = (
        "import os; from widegram_cli import streams; streams.secure(); "
        "number = os.open('/dev/zero', os.O_RDONLY); os._exit(number)"
    )
    assert shell(f'{sys.executable} -c "{code}" >&- 2>&- <&-').returncode >= 3


def test_a_terminal_that_has_gone_changes_nothing() -> None:
    ours, theirs = pty.openpty()
    read, write = os.pipe()
    process = subprocess.Popen(
        ["bash", "-c", f"read line; {PROGRAM} {GOOD}; echo $? >&{write}"],
        stdin=subprocess.PIPE,
        stdout=theirs,
        stderr=theirs,
        pass_fds=(write,),
    )
    for descriptor in (theirs, write, ours):  # Without ours, writing to theirs gives EIO.
        os.close(descriptor)
    process.communicate(b"go\n", timeout=120)
    with os.fdopen(read) as said:
        assert said.read() == "0\n"
