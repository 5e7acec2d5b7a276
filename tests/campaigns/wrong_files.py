"""Files that are damaged, hold what no command can use, or are of another kind than is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import h5py
import numpy as np

_OTHERS = (
    "K.h5", "C.h5", "A.h5", "M.h5", "AN.h5", "KC.h5", "T.h5", "TABLE.h5", "digits.h5",
    "digits.h5:train/x", "digits.h5:train/y", "digits.h5:test/y", "K.npy", "table.csv", "v.npy",
    "J.h5.shard-1-of-3",
)  # fmt: skip


@dataclass(frozen=True)
class Wrong:
    """Names of files: ``damaged`` for everybody, ``others`` good for somebody."""

    damaged: Sequence[str]
    others: Sequence[str]

    def is_harmless(self, command: str, parameter: click.Parameter, name: str) -> bool:
        """Whether an input may be that damaged one all the same."""
        return name.endswith(HARMLESS.get((command, parameter.name), ("no",)))


HARMLESS: dict[tuple[str, str | None], tuple[str, ...]] = {
    ("data info", "file"): ("complex.npy", "five-axes.npy", "no-rows.npy", "scalar.npy"),
}
"""Arrays that no command can use, of which one says so or what they hold."""


def make(folder: Path, base: Path) -> Wrong:
    """Write them into ``folder``; names are relative to a folder beside it."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    square = rng.standard_normal((300, 300))
    square = square @ square.T
    damaged = ["no-such-file.h5", "no-such-file.npy", "no-such-folder/x.h5"]
    (folder / "directory.h5").mkdir()
    for name in ("K.h5", "A.h5", "digits.h5", "C.h5"):
        data = (base / name).read_bytes()
        (folder / f"cut-{name}").write_bytes(data[: len(data) // 2])
    data = (base / "K.npy").read_bytes()
    (folder / "cut.npy").write_bytes(data[: len(data) // 2])
    for ending in ("h5", "npy", "npz", "csv", "json", "mat", "parquet"):
        (folder / f"empty.{ending}").touch()
        (folder / f"text.{ending}").write_text('neither {data, nor a "table')
    np.save(folder / "objects.npy", np.array([{}, None, 3], dtype=object))
    np.save(folder / "five-axes.npy", np.ones((2, 2, 2, 2, 2)))
    np.save(folder / "no-rows.npy", np.ones((0, 24)))
    np.save(folder / "scalar.npy", np.float64(3))
    np.save(folder / "complex.npy", np.ones((300, 300), complex))
    damaged += sorted(path.name for path in folder.iterdir())
    with h5py.File(folder / "foreign.h5", "w") as file:
        file["something"] = np.arange(3)
    arrays = {
        "nan": np.where(np.eye(300, dtype=bool), np.nan, square), "inf": square * np.inf,
        "asymmetric": rng.standard_normal((300, 300)), "half": square.astype(np.float16),
        "negative": -square, "oblong": square[:, :100], "integers": square.astype(int),
        "one-class": np.zeros(300, int), "labels-nan": np.full(300, np.nan),
        "labels-short": np.arange(20) % 3, "labels-beyond": np.arange(300) + 50,
        "labels-fraction": np.arange(300) + 0.5, "labels-wide": np.ones((300, 3), int),
        "rows-twice": np.array([1, 1, 2]), "rows-beyond": np.array([0, 10**6]),
        "rows-negative": np.array([-1, 2]), "rows-fraction": np.array([0.5, 2.0]),
        "flags-short": np.ones(7, bool), "flags-none": np.zeros(300, bool),
        "texts": np.array(["a", "b"]), "one-number": np.ones(1),
    }  # fmt: skip
    others = ["foreign.h5", "foreign.h5:something"]
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
        others.append(f"{name}.npy")
    return Wrong(
        [f"../{folder.name}/{name}" for name in damaged],
        [*(f"../{folder.name}/{name}" for name in others), *(f"../base/{n}" for n in _OTHERS)],
    )
