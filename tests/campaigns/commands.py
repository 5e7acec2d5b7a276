"""What the campaigns run: every command that writes, on small inputs, and what its files hold."""

from __future__ import annotations

import argparse
import hashlib
import random
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from campaigns import harness
from campaigns.harness import Ended, Runner

# Differ between two runs of one command that do the same.
_TIMES = {"seconds", "seal"}


@dataclass(frozen=True)
class Command:
    """A line for the shell, relative to the folder ``work`` with inputs in ``../base``.

    * ``outs``: the files that it leaves
    * ``beside``: files of ``../base`` that lie in ``work`` too; one that is an output is replaced
    * ``small``: whether it has a tiny budget and no patience between checkpoints, so that work
      files are used
    * ``bits``: whether every run gives the same bits
    * ``grows``: whether a part of its file is a good file with fewer rows, which the next run keeps
    """

    name: str
    line: str
    outs: tuple[str, ...] = ("o.h5",)
    small: bool = False
    bits: bool = True
    beside: tuple[str, ...] = ()
    grows: bool = False

    @property
    def words(self) -> list[str]:
        """The line as words."""
        return self.line.replace("@", "../base/").split()

    @property
    def replaces(self) -> bool:
        """Whether an output is there before, and has to be."""
        return not {*self.outs}.isdisjoint(self.beside)

    @property
    def prepare(self) -> Callable[[], None] | None:
        """What the child does before it starts."""
        return small_budgets if self.small else None


_GRAM = "gram --device cpu --threads 1 --out o.h5"
_LABELS = "--y @digits.h5:train/y"
_SOLVE = f"solve @K.h5 {_LABELS} --limit 300 --out o.h5"
SHARDS = tuple(f"J.h5.shard-{number}-of-3" for number in (1, 2, 3))
_MEANFIELD = "--depths 1,2 --train 20 --test 16 --out o.h5"
TUNE = "tune --x @digits.h5:train/x --y @digits.h5:train/y --limit 60 --device cpu --threads 1"

COMMANDS = (
    Command("gram", f"{_GRAM} --net fcn:depth=2 --x @digits.h5:train/x --limit 90 --tile 16"),
    Command("gram-float64", f"{_GRAM} --net fcn:depth=2 --x @v.npy --limit 90 --tile 16 "
            "--dtype float64"),
    Command("gram-cross", f"{_GRAM} --net cnn-f:depth=1 --x @digits.h5:train/x --limit 40 "
            "--x2 @digits.h5:test/x --limit2 50 --tile 12"),
    Command("gram-depths", f"{_GRAM} --net fcn:depth=3 --depths 1,2,3 --x @digits.h5:train/x "
            "--limit 60 --tile 16"),
    Command("gram-shard", f"{_GRAM} --net fcn:depth=2 --x @digits.h5:train/x --limit 90 --tile 16 "
            "--shard 2/3", ("o.h5.shard-2-of-3",)),
    Command("gram-append", "gram --device cpu --threads 1 --net fcn:depth=2 --x "
            "@digits.h5:train/x --limit 90 --tile 16 --append --out J2.h5", ("J2.h5",), small=True,
            beside=("J2.h5",)),
    Command("gram-dask", f"{_GRAM} --net fcn:depth=2 --x @digits.h5:train/x --limit 90 --tile 16 "
            "--dask local:1"),
    Command("join", "join J.h5", ("J.h5",), beside=SHARDS),
    Command("join-virtual", "join J.h5 --virtual", ("J.h5",), beside=SHARDS),
    Command("combine", "combine @K.h5 @K2.h5 --weights 1,0.5 --tile 64 --out o.h5", small=True),
    Command("combine-product", "combine @J1.h5 @J2.h5 --op product --dtype float64 --tile 16 "
            "--out o.h5"),
    Command("export-npy", "export @K.h5 --kernel ntk --to o.npy", ("o.npy",)),
    Command("export-npz", "export @K.h5 --kernel ntk --to o.npz", ("o.npz",)),
    Command("export-h5", "export @K.h5 --kernel ntk --to o.h5"),
    Command("export-rows", "export @K.h5 --kernel ntk --rows 0:200 --columns 90:300 --to o.h5"),
    Command("solve", f"{_SOLVE} --diag-reg 1e-3"),
    Command("solve-ooc", f"{_SOLVE} --diag-reg 1e-3 --method cholesky-ooc", small=True),
    Command("solve-float32", f"{_SOLVE} --diag-reg 1e-3 --method cholesky-ooc "
            "--factor-dtype float32", small=True),
    Command("solve-cg", f"{_SOLVE} --diag-reg 1e-5 --method cg --preconditioner none", small=True,
            bits=False),
    Command("solve-path", f"{_SOLVE} --diag-reg-path 1e-4,1e-3 --method cholesky-ooc", small=True),
    Command("solve-nystrom", "solve @KX.h5 --centers @KC.h5 --method nystrom --y "
            "@digits.h5:train/y --diag-reg-path 1e-3,1e-2 --out o.h5", small=True),
    Command("solve-evidence", f"{_SOLVE} --diag-reg-path 1e-3,1e-2 --evidence --unit-diagonal"),
    Command("solve-rows", f"solve @K.h5 {_LABELS} --rows 0:100,150:300 --scale-prior --diag-reg "
            "1e-3 --method cholesky-ooc --out o.h5", small=True),
    Command("solve-array", f"solve @K.npy {_LABELS} --diag-reg 1e-3 --method cholesky-ooc --out "
            "o.h5", small=True),
    Command("solve-svm", f"{_SOLVE} --method svm --c-path 0.1,1 --folds 2"),
    Command("solve-dask", f"solve @J2.h5 {_LABELS} --limit 60 --diag-reg 1e-2 --preconditioner "
            "none --dask local:1 --out o.h5", small=True, bits=False),
    Command("tune", f"{TUNE} --net fcn:depth={{1,2}} --net fcn:depth=1,w_var=1.5 --out o.h5",
            ("o.h5", "o.h5.best.json"), grows=True),
    Command("tune-dask", f"{TUNE} --net fcn:depth=1 --dask local:1 --plot o.png --out o.h5",
            ("o.h5", "o.h5.best.json", "o.png"), grows=True),
    Command("eig-rows", "eig @K.h5 --rows 20:200 --full --out o.h5"),
    Command("eig-full", "eig @K.h5 --full --vectors --out o.h5"),
    Command("eig-pairs", "eig @K.h5 --k 3 --out o.h5", small=True),
    Command("eig-density", "eig @K.h5 --density --steps 20 --out o.h5"),
    Command("eig-plot", "eig @K.h5 --full --plot o.png", ("o.png",)),
    Command("predict", "predict @A.h5 --cross @C.h5 --out o.h5"),
    Command("predict-variance", "predict @A.h5 --cross @C.h5 --variance --x-test @digits.h5:test/x "
            "--method cholesky-ooc --out o.h5", small=True),
    Command("predict-csv", "predict @A.h5 --cross @C.h5 --rows 10:90 --y @digits.h5:test/y --csv "
            "o.csv --ids @digits.h5:test/y --out o.h5", ("o.h5", "o.csv")),
    Command("predict-svm", "predict @M.h5 --cross @C.h5 --csv o.csv --out o.h5",
            ("o.h5", "o.csv")),
    Command("predict-nystrom", "predict @AN.h5 --cross @CX.h5 --out o.h5"),
    Command("report", "report @K.h5 @A.h5 --out o.html", ("o.html",)),
    Command("data-prepare", "data prepare digits --train 300 --test 100 --out o.h5"),
    Command("data-zca", "data prepare digits --train 100 --test 20 --zca 0.1 --out o.h5"),
    Command("data-table", "data prepare @table.csv --target kind --train 60 --test 20 --out o.h5"),
    Command("data-apply-table", "data apply @TABLE.h5 @table.csv --out o.h5"),
    Command("data-apply", "data apply @digits.h5 @digits.h5:test/x --out o.h5"),
    Command("data-sample", "data sample @digits.h5:train/x --n 30 --out o.h5"),
    Command("meanfield-phase", "meanfield phase --w-var 1,2 --b-var 0.1,0.2 --out o.h5 "
            "--plot o.png", ("o.h5", "o.png")),
    Command("meanfield-spectrum", f"meanfield spectrum --x @digits.h5 {_MEANFIELD}"),
    Command("meanfield-trainability", f"meanfield trainability --data @digits.h5 --w-var 1,1.5,2 "
            f"{_MEANFIELD}"),
)  # fmt: skip


def base_of(runner: Runner) -> Path:
    """The folder of good inputs."""
    return runner.folder.parent / "base"


def begin(runner: Runner, command: Command) -> None:
    """An empty folder, but for what has to lie there."""
    laid(runner, command.beside)


def laid(runner: Runner, names: tuple[str, ...]) -> None:
    """Nothing in the folder but these files of the folder of good inputs."""
    runner.empty()
    for name in names:
        shutil.copy2(base_of(runner) / name, runner.folder)


def chosen(only: str) -> list[Command]:
    """The commands whose name has ``only`` in it."""
    return [command for command in COMMANDS if only in command.name]


class Spread(NamedTuple):
    """The share of a campaign that one command has: ``count`` cases.

    * ``plain``, ``expected``: how the command ends undisturbed, and the content of its outputs
    * ``counts``, ``bad``: of the whole campaign, what happened and what was wrong
    """

    command: Command
    count: int
    plain: Ended
    expected: dict[str, dict[str, Any]]
    generator: random.Random
    counts: Counter[str]
    bad: list[str]


def spread(
    name: str, disturb: Callable[[Runner, Spread], None], runner: Runner, folder: Path,
    options: argparse.Namespace, **more: int,
) -> int:  # fmt: skip
    """Give each command, with its inputs made, its share of ``options.count`` cases, and report."""
    generator, counts, bad = random.Random(options.seed), Counter[str](), list[str]()
    some = chosen(options.only)
    make_inputs(runner, folder, some)
    for index, command in enumerate(some):
        count = options.count // len(some) + (index < options.count % len(some))
        if not count:
            continue
        begin(runner, command)
        plain = runner.run(command.words, prepare=command.prepare)
        if plain.code:
            bad.append(f"{command.name}: undisturbed: {plain.code}: {plain.line}")
            continue
        expected = whole(runner, command)
        disturb(runner, Spread(command, count, plain, expected, generator, counts, bad))
    return harness.report(name, {**more, **counts}, bad, options.json)


def small_budgets() -> None:
    """Give this process budgets that these inputs exceed, and no patience between checkpoints."""
    from widegram.gramfile import batches
    from widegram.linalg import factorfile, outofcore, restart
    from widegram.linalg.subset import heights, sumsfile

    for module in [m for name, m in sys.modules.items() if name.startswith("widegram")]:
        if hasattr(module, "array_budget"):
            module.array_budget = lambda *given, **more: 1_000_000
    batches.BATCH_SECONDS = 0.0
    factorfile._SECONDS = 0.0
    outofcore._WIDTHS = (64, 32)
    begin = restart.RestartFile.__init__
    restart.RestartFile.__init__ = (
        lambda self, path, key, seconds: begin(self, path, key, 0.0)
    )
    heights._ROWS = heights._LEAST_ROWS = 64
    sumsfile._SHARE = 0.0
    first = sumsfile.SumsFile.__init__
    sumsfile.SumsFile.__init__ = (
        lambda self, path, key, seconds: first(self, path, key, 0.0)
    )


def make_inputs(runner: Runner, folder: Path, needed: object = None) -> None:
    """The folder ``base``: digits, vectors, symmetric and cross matrices, solutions, shards; of
    these the ones whose names stand in what is ``needed``, written out, and what they are made of.
    """
    base = folder / "base"
    base.mkdir()
    np.save(base / "v.npy", np.random.default_rng(0).standard_normal((100, 24)))
    (base / "table.csv").write_text(_table())
    net = "gram --net fcn:depth=2 --device cpu --threads 1 --tile 64 --x ../base/digits.h5:"
    lines = (
        "data prepare digits --train 300 --test 100 --out ../base/digits.h5",
        f"{net}train/x --out ../base/K.h5",
        f"{net}test/x --x2 ../base/digits.h5:train/x --out ../base/C.h5",
        "data sample ../base/digits.h5:train/x --n 30 --out ../base/centers.h5",
        f"{net.replace('digits', 'centers')}x --out ../base/KC.h5",
        f"{net}train/x --x2 ../base/centers.h5:x --out ../base/KX.h5",
        "solve ../base/K.h5 --y ../base/digits.h5:train/y --diag-reg 1e-3 --out ../base/A.h5",
        f"{net.replace('depth=2', 'depth=3')}train/x --out ../base/K2.h5",
        *(f"{net.replace('depth=2', f'depth={depth}').replace('64', '16')}train/x --limit 60 "
          f"--out ../base/J{depth}.h5" for depth in (1, 2)),
        f"{net}test/x --x2 ../base/centers.h5:x --out ../base/CX.h5",
        "solve ../base/KX.h5 --centers ../base/KC.h5 --method nystrom --y "
        "../base/digits.h5:train/y --diag-reg 1e-2 --out ../base/AN.h5",
        *(f"{net.replace('64', '16')}train/x --limit 90 --shard {number}/3 --out ../base/J.h5"
          for number in (1, 2, 3)),
        "join --virtual ../base/J.h5",
        "export ../base/K.h5 --kernel ntk --to ../base/K.npy",
        "solve ../base/K.h5 --y ../base/digits.h5:train/y --method svm --c-path 1 --out "
        "../base/M.h5",
        "data prepare ../base/table.csv --target kind --train 60 --test 20 --out ../base/TABLE.h5",
        f"{TUNE.replace('@', '../base/')} --net fcn:depth=1 --out ../base/T.h5",
    )
    for line in lines if needed is None else _needed(lines, str(needed)):
        ended = runner.run(line.split())
        if ended.code:
            raise RuntimeError(f"{line}: {ended.code}: {ended.err}")


def _table() -> str:
    """Lines of numbers, texts and a class each."""
    rng = random.Random(0)
    rows = (f"{rng.gauss(0, 1):.6f},{rng.choice('abc')},{rng.choice('uv')}" for _ in range(90))
    return "\n".join(["size,colour,kind", *rows, ""])


def _needed(lines: tuple[str, ...], text: str) -> list[str]:
    """Those of the lines whose output stands in ``text``, or in a later one of them."""
    found: list[str] = []
    for line in reversed(lines):
        begin, _, name = line.rpartition("../base/")
        if name in text:
            found.insert(0, line)
            text += begin
    return found


def content(path: Path) -> dict[str, Any]:
    """What a file holds, to be compared with ==: times and what follows from them left out."""
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return {name: _digest(array.tobytes()) for name, array in arrays.items()}
    if not is_hdf5(path):
        return {"bytes": _digest(path.read_bytes())}
    import h5py

    found: dict[str, Any] = {}
    with h5py.File(path, "r", locking=False) as file:

        def note(name: str, item: Any) -> None:
            if name in _TIMES:
                return
            for key, value in item.attrs.items():
                if key not in _TIMES:
                    found[f"{name}@{key}"] = (str(getattr(value, "dtype", "")), str(value))
            if isinstance(item, h5py.Dataset):
                data = np.ascontiguousarray(item[()])
                found[name] = (item.shape, item.dtype.str, _digest(data.tobytes()))

        try:
            note("", file)
            file.visititems(note)
        except (RuntimeError, OSError, KeyError, ValueError) as error:
            found["unreadable"] = str(error)
    return found


def is_hdf5(path: Path) -> bool:
    """By its name: an output, a shard, or work beside one; not the network beside a table."""
    return ".h5" in path.suffixes and path.suffix not in (".npy", ".npz", ".json", ".png", ".csv")


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def whole(runner: Runner, command: Command) -> dict[str, dict[str, Any]]:
    """The content of each output that is there, by name."""
    there = [name for name in command.outs if (runner.folder / name).exists()]
    return {name: content(runner.folder / name) for name in there}


def same(command: Command, found: dict[str, Any], expected: dict[str, Any], folder: Path) -> bool:
    """Whether outputs are those of a run without faults; of conjugate gradients: the solution's
    own status, whose residual has been computed."""
    if command.bits:
        return found == expected
    if found.keys() != expected.keys():
        return False
    import h5py

    with h5py.File(folder / command.outs[0], "r", locking=False) as file:
        return bool(file.attrs["status"] == "ok" and file.attrs["residual"] < 1e-8)
