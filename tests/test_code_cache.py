"""The folder of compiled code: only what this user alone can have put there is run."""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cli_support import run_json
from widegram.cpu.kernels import object_code
from widegram.machine import codecache

IR = """
define i64 @more(i64 %x) {
  %sum = add i64 %x, 3
  ret i64 %sum
}
"""
_numbers = iter(range(10**6))


@pytest.fixture
def folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Path:
    monkeypatch.setenv("WIDEGRAM_CACHE_DIR", str(tmp_path / "code"))
    codecache._told.cache_clear()
    caplog.set_level(logging.WARNING, logger="widegram")
    return tmp_path / "code"


def call(name: str) -> tuple[int, bool]:
    """The compiled function of 4, and whether it had to be compiled."""
    made = []

    def make() -> tuple[str, str]:
        made.append(name)
        return IR, "more"

    function = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)
    return function(object_code.address(name, make))(4), bool(made)


def kept(folder: Path) -> tuple[str, Path]:
    """A function whose code lies in the folder."""
    name = f"function_{next(_numbers)}"
    assert call(name) == (7, True)
    (path,) = folder.glob(f"{name}-*")
    assert call(name) == (7, False)
    return name, path


def planted(path: Path, name: str, content: bytes) -> None:
    """A file with the digest that belongs there: anybody can compute it."""
    path.write_bytes(hashlib.sha256(name.encode() + b"\0" + content).digest() + content)


def test_folders_and_files_are_made_for_this_user_alone(folder: Path, monkeypatch):
    monkeypatch.setenv("WIDEGRAM_CACHE_DIR", str(folder / "deep" / "er"))
    old = os.umask(0)
    try:
        call(f"function_{next(_numbers)}")
    finally:
        os.umask(old)
    for path in (folder, folder / "deep", folder / "deep" / "er"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    (file,) = (folder / "deep" / "er").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_is_not_run(folder: Path, mode: int, caplog):
    name, path = kept(folder)
    content = path.read_bytes()
    planted(path, path.name, b"not even code")
    path.chmod(mode)
    assert call(name) == (7, True)
    assert "others may write it" in caplog.text
    assert path.read_bytes() == content
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_folder_that_others_may_write_is_not_used(folder: Path, mode: int, caplog):
    name, path = kept(folder)
    path.unlink()
    folder.chmod(mode)
    for _ in range(2):
        assert call(name) == (7, True)
    assert list(folder.iterdir()) == []
    assert len(caplog.records) == 1
    assert "others may write it (chmod go-w mends that)" in caplog.text
    assert "WIDEGRAM_CACHE_DIR" in caplog.text
    assert "others may write it" in str(codecache.problem())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("what", ["folder", "file"])
def test_what_belongs_to_another_user_is_not_used(folder: Path, what: str, caplog):
    name, path = kept(folder)
    os.chown(folder if what == "folder" else path, 65534, 65534)
    assert call(name) == (7, True)
    assert "belongs to another user" in caplog.text


@pytest.mark.parametrize("kind", ["link", "dangling", "pipe", "folder"])
def test_what_is_no_file_is_neither_read_nor_waited_for(folder: Path, kind: str, caplog):
    name, path = kept(folder)
    content = path.read_bytes()
    elsewhere = folder.parent / "elsewhere.o"
    path.rename(elsewhere)
    if kind in ("link", "dangling"):
        path.symlink_to(elsewhere if kind == "link" else "nowhere")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    assert call(name) == (7, True)
    assert len(caplog.records) == 1
    assert "is a link" in caplog.text or "is no regular file" in caplog.text
    if kind != "folder":  # what can be replaced is
        assert path.read_bytes() == content
        assert not path.is_symlink()
    assert elsewhere.read_bytes() == content


def test_code_of_another_function_is_not_run_under_this_name(folder: Path):
    name, path = kept(folder)
    other, source = kept(folder)
    assert other != name
    path.write_bytes(source.read_bytes())
    assert call(name) == (7, True)


def test_what_a_killed_process_left_goes_at_the_first_write_of_another(folder: Path, monkeypatch):
    kept(folder)
    monkeypatch.setattr(codecache, "_CLEANED", set())
    host = os.uname().nodename
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                           capture_output=True, text=True, check=True).stdout.strip()  # fmt: skip
    dead, alive = (folder / f".new-{host}-{n}-1-f.o" for n in (ended, os.getpid()))
    old, new = folder / ".new-elsewhere-1-1-f.o", folder / ".new-elsewhere-2-1-f.o"
    for path in (dead, alive, old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7200, time.time() - 7200))
    kept(folder)
    assert not dead.exists()
    assert not old.exists()
    assert alive.exists()
    assert new.exists()


def test_an_unusable_place_is_said_once(folder: Path, caplog):
    folder.write_text("a file where the folder should be")
    for _ in range(3):
        assert call(f"function_{next(_numbers)}") == (7, True)
    (record,) = caplog.records
    assert "Not a directory" in record.getMessage()
    assert record.getMessage().count("\n") == 0


def test_the_home_directory_is_written_as_in_a_shell(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WIDEGRAM_CACHE_DIR", "~/cache")
    assert codecache.location("code") == tmp_path / "cache"
    assert codecache.location("cuda") == tmp_path / "cache" / "cuda"
    monkeypatch.delenv("WIDEGRAM_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert codecache.location("code") == tmp_path / ".cache" / "widegram" / "code"
    monkeypatch.setenv("WIDEGRAM_CACHE_DIR", "~nobody-of-this-name/cache")
    with pytest.raises(codecache.Untrusted, match="no such home directory"):
        codecache.location("code")


@pytest.mark.parametrize("place", ["/dev/null", "/proc/nowhere/x", "x" * 5000, "~nobody-here/x"])
def test_absurd_places(place: str, monkeypatch, caplog):
    monkeypatch.setenv("WIDEGRAM_CACHE_DIR", place)
    codecache._told.cache_clear()
    assert call(f"function_{next(_numbers)}") == (7, True)
    assert len(caplog.records) == 1
    assert len(caplog.records[0].getMessage()) <= 1000


def test_doctor_shows_the_folder(folder: Path):
    kept(folder)
    found = run_json("doctor")["code_cache"]
    assert found["folder"] == str(folder)
    assert found["files"] == 1
    assert found["bytes"] > 32
    assert found["problem"] is None


def test_generated_kernels_lie_in_a_safe_place(folder: Path, caplog):
    first = codecache.text_file("cuda", "kernel_a.py", "x = 1\n")
    assert first == folder / "cuda" / "kernel_a.py"
    written = first.stat().st_mtime_ns
    assert codecache.text_file("cuda", "kernel_a.py", "x = 1\n") == first
    assert first.stat().st_mtime_ns == written
    first.write_text("import os\n")
    assert codecache.text_file("cuda", "kernel_a.py", "x = 1\n").read_text() == "x = 1\n"
    (folder / "cuda" / "__pycache__").chmod(0o777)
    second = codecache.text_file("cuda", "kernel_a.py", "x = 1\n")
    assert second.parent != first.parent
    assert stat.S_IMODE(second.parent.stat().st_mode) == 0o700
    assert "others may write it" in caplog.text


def test_one_process_claims_a_name(folder: Path) -> None:
    claim = "from widegram.machine.codecache import claim; print(claim('code', 'name'))"
    runs = [
        subprocess.Popen([sys.executable, "-c", claim], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert sorted(run.communicate()[0].strip() for run in runs) == ["False", "True"]
    assert not codecache.claim("code", "name")
    assert [path.name for path in folder.iterdir()] == ["name"]


def test_compiling_is_announced_once_on_a_machine(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Now(threading.Timer):
        def start(self) -> None:
            self.function(*self.args)

    caplog.set_level(logging.INFO, logger="widegram")
    monkeypatch.setattr(threading, "Timer", Now)
    for _ in range(2):
        with object_code.announced():
            pass
    assert [record.message for record in caplog.records] == [
        "compiling the CPU backend for this machine (once; some 10 seconds)"
    ]
