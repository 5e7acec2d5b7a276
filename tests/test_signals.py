"""SIGINT, SIGTERM and SIGHUP: what is waited for, what is left, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from cli_support import run_json
from signal_support import SHORT_SECONDS, SIGNALS, cli, ended, guarded, litter, start
from widegram.machine import interrupts
from widegram_cli import running

ENDLESS = """
print("ready", flush=True)
while True:
    time.sleep(0.01)
    interrupts.check()
"""
# Deaf: as inside a library that never comes back to Python.
DEAF = """
print("ready", flush=True)
while True:
    time.sleep(1000)
"""


def ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("body", [ENDLESS, DEAF], ids=["checks", "deaf"])
def test_a_signal_ends_with_130_and_says_what_is_left(body: str, number: signal.Signals) -> None:
    # One of them as it is, the others have less time.
    stop = running._STOP_SECONDS if number == signal.SIGINT else SHORT_SECONDS
    process = start(guarded(body, stop))
    ready(process)
    process.send_signal(number)
    code, lines = ended(process)
    assert code == 130
    assert lines == [
        f"widegram: interrupted: stopping, at most {stop:.0f} s; once more to end at once",
        "widegram: error: interrupted; nothing was written, run the same command again",
    ]


def test_a_second_signal_ends_what_would_go_on() -> None:
    process = start(
        guarded(
            """
            with interrupts.finishing("the tile in work", lambda: 1e4, stoppable=False):
                print("ready", flush=True)
                while True:
                    time.sleep(1000)
            """
        )
    )
    ready(process)
    assert process.stderr is not None
    process.send_signal(signal.SIGTERM)
    first = process.stderr.readline()
    assert "finishing the tile in work, about 10000 s; once more to end at once" in first
    # More than parts two signals from one signal that came twice.
    time.sleep(3 * running._SAME_SECONDS)
    process.send_signal(signal.SIGINT)
    code, lines = ended(process)
    assert code == 130
    assert len(lines) == 1
    assert "run the same command again" in lines[0]


@pytest.mark.parametrize(
    ("seconds", "said"), [("1.0", "finishing the row, at most 5 s"), ("9.0", "leaving the row")]
)
def test_what_is_short_is_finished(seconds: str, said: str, tmp_path: Path) -> None:
    process = start(
        guarded(
            f"""
            with interrupts.keeping(lambda: "7 rows are saved"):
                with interrupts.finishing("the row", lambda: {seconds}):
                    print("ready", flush=True)
                    while not interrupts.requested():
                        time.sleep(0.01)
                    time.sleep(0.1)
                    interrupts.check()
                    open({str(tmp_path / "row")!r}, "w")
                    raise interrupts.Stopped("8 rows are saved")
            """
        )
    )
    ready(process)
    process.send_signal(signal.SIGINT)
    code, lines = ended(process)
    assert code == 130
    assert said in lines[0]
    finished = "finishing" in said
    assert lines[-1] == f"widegram: error: {8 if finished else 7} rows are saved"
    assert (tmp_path / "row").exists() == finished


def test_leaving_waits_for_finished_work_that_is_being_written(tmp_path: Path) -> None:
    process = start(
        guarded(
            f"""
            with interrupts.saving():
                print("ready", flush=True)
                while not interrupts.requested():
                    time.sleep(0.01)
                time.sleep(1)  # longer than a stop may take otherwise
                open({str(tmp_path / "saved")!r}, "w")
            while True:
                time.sleep(1000)
            """,
            stop=0.2,
        )
    )
    ready(process)
    process.send_signal(signal.SIGINT)
    assert ended(process)[0] == 130
    assert (tmp_path / "saved").exists()


def test_leaving_removes_parts_and_names_what_was_written(tmp_path: Path) -> None:
    first, second = str(tmp_path / "first.npy"), str(tmp_path / "second.npy")
    process = start(
        guarded(
            f"""
            from widegram.durable import new_file
            with new_file({first!r}) as part:
                part.write(0, b"all")
            with new_file({second!r}) as part:
                part.write(0, b"begun")
                print("ready", flush=True)
                time.sleep(1000)
            """,
            SHORT_SECONDS,
        )
    )
    ready(process)
    process.send_signal(signal.SIGTERM)
    code, lines = ended(process)
    assert code == 130
    assert lines[-1] == (
        f"widegram: error: interrupted; written so far: {first}; run the same command again"
    )
    assert os.listdir(tmp_path) == ["first.npy"]


def test_an_ignored_hangup_stays_ignored() -> None:
    process = start(
        guarded(
            """
            print("ready", flush=True)
            time.sleep(0.2)
            """
        ),
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),  # as nohup does
    )
    ready(process)
    process.send_signal(signal.SIGHUP)
    assert ended(process) == (0, [])


@pytest.mark.parametrize(("code", "said"), [(0, ["bye"]), (3, [])])
def test_exit_codes_pass_through(code: int, said: list[str]) -> None:
    """What was registered for the end of Python runs where all went well."""
    body = f"""
    import atexit
    atexit.register(print, "bye", file=sys.stderr, flush=True)
    code = {code}
    """
    assert ended(start(guarded(body))) == (code, said)


def test_a_signal_that_comes_twice_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """`timeout` sends to the process and to its group."""
    moments = iter([10.0, 10.0, 10.05, 10.5])
    left: list[str] = []
    monkeypatch.setattr(running.time, "monotonic", lambda: next(moments))
    monkeypatch.setattr(running, "leave", left.append)
    guard = running.Guard()
    try:
        guard._handle(signal.SIGINT, None)  # takes the time twice
        guard._handle(signal.SIGINT, None)
        assert left == []
        guard._handle(signal.SIGINT, None)
        assert len(left) == 1
    finally:
        interrupts.resume()


def test_without_threads_a_signal_still_ends_it() -> None:
    *python, script = guarded(ENDLESS)
    refuse = (
        "import threading\n"
        'def refuse(self): raise RuntimeError("can\'t start new thread")\n'
        "threading.Thread.start = refuse\n"
    )
    process = start([*python, refuse + script])
    ready(process)
    process.send_signal(signal.SIGTERM)
    code, lines = ended(process)
    assert code == 130
    assert "run the same command again" in lines[-1]


def test_a_tile_of_large_images_is_left_and_the_file_goes_on(tmp_path: Path) -> None:
    """A tile of 256 pairs of pooled 96 x 96 images takes minutes: loops stop inside of it, whatever
    signal it was (see above)."""
    rng = np.random.default_rng(1)
    np.save(tmp_path / "x.npy", rng.random((40, 96, 96, 1), dtype=np.float32))
    out = tmp_path / "k.h5"
    arguments = ["gram", "--net", "cnn-p:depth=20", "--x", tmp_path / "x.npy", "--out", out]
    process = start(cli(*arguments, "--device", "cpu", "--threads", 1))
    while not out.exists():
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    code, lines = ended(process)
    assert code == 130
    assert lines[-1].endswith("of 6 tiles are saved; run the same command again to resume")
    assert litter(tmp_path) == []
    assert run_json("info", out)["complete"] is False


def test_halting_is_undone() -> None:
    with interrupts.halting(), pytest.raises(interrupts.Stopped):
        interrupts.check()
    interrupts.check()
