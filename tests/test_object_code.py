"""Machine code kept on disk: used again by later processes, made again where it is damaged."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from widegram.cpu.kernels import object_code

IR = """
define i64 @three_more(i64 %x) {
  %sum = add i64 %x, 3
  ret i64 %sum
}
"""
FIRST_CALL = """
import sys
import numpy as np
import widegram
layers = [{"layer": "Dense"}, {"layer": "Relu"}, {"layer": "Dense"}]
network = {"input_shape": [3], "layers": layers}
x = np.arange(6.0).reshape(2, 3)
print(repr(widegram.kernel(network, x, get="ntk").tolist()))
print("numba" in sys.modules, "h5py" in sys.modules, "scipy" in sys.modules)
widegram.gram(network, x, sys.argv[1])
print([name for name in sys.argv[2:] if name in sys.modules])
"""
# What a small run would wait for as long as for its kernels.
UNNEEDED = (
    "numba", "scipy", "dask", "rich", "matplotlib", "asyncio", "multiprocessing", "tomllib",
    "difflib", "numpy.ma", "widegram.gramfile.exporting", "widegram.gramfile.verifying",
    "widegram.gramfile.view", "widegram.computing.appending", "widegram.backends.augmented",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WIDEGRAM_CACHE_DIR", str(tmp_path / "code"))
    return tmp_path / "code"


def call(name: str, made: list[str]) -> int:
    """The compiled function of 4; ``made`` gets its name where it was compiled."""

    def make() -> tuple[str, str]:
        made.append(name)
        return IR, "three_more"

    function = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)
    return function(object_code.address(name, make))(4)


def test_code_is_compiled_once(folder: Path) -> None:
    made: list[str] = []
    assert call("kept_once", made) == call("kept_once", made) == 7
    assert made == ["kept_once"]
    (path,) = folder.iterdir()
    assert path.name.startswith("kept_once-")


@pytest.mark.parametrize("content", [b"", b"not code", None], ids=["empty", "short", "cut"])
def test_damaged_code_is_compiled_again(folder: Path, content: bytes | None) -> None:
    made: list[str] = []
    name = f"damaged_{content is None}_{len(content or b'')}"
    call(name, made)
    (path,) = folder.iterdir()
    path.write_bytes(path.read_bytes()[:-1] if content is None else content)
    assert call(name, made) == 7
    assert made == [name, name]
    assert call(name, made) == 7
    assert len(made) == 2


def test_a_folder_that_cannot_be_written(folder: Path) -> None:
    folder.write_text("a file where the folder should be")
    made: list[str] = []
    assert call("not_kept", made) == 7
    assert made == ["not_kept"]


def test_code_that_calls_what_is_not_there_is_refused(folder: Path) -> None:
    text = "declare void @nowhere()\ndefine void @f() {\n  call void @nowhere()\n  ret void\n}\n"
    with pytest.raises(AssertionError, match="calls nowhere"):
        object_code.address("calls_nowhere", lambda: (text, "f"))


def test_later_processes_load_no_compiler_and_nothing_else_that_is_slow(tmp_path: Path) -> None:
    environment = {**os.environ, "WIDEGRAM_CACHE_DIR": str(tmp_path / "code")}
    command = [sys.executable, "-c", FIRST_CALL]
    first, second = (
        subprocess.run(
            [*command, str(tmp_path / f"{n}.h5"), *UNNEEDED],
            env=environment, check=True, capture_output=True, text=True,
        ).stdout
        for n in range(2)
    )  # fmt: skip
    assert first.splitlines()[0] == second.splitlines()[0]
    assert np.isfinite(eval(second.splitlines()[0])).all()
    assert second.splitlines()[1:] == ["False False False", "[]"]
