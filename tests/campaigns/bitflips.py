"""One bit of a file of each kind is flipped, in its data or in HDF5's own structures.

Right is: `verify` finds it (exit code 3, or 2 where the file is no longer one of ours), or nothing
that is read has changed; the command that reads the file refuses it in one line, or ends with the
same bits as with the good file.
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import h5py

from campaigns import commands, harness
from campaigns.commands import Command
from campaigns.harness import KILL, Fault, Runner

_GRAM = "gram --net fcn:depth=2 --device cpu --threads 1"
_MAP = "meanfield trainability --w-var 1,1.5,2 --depths 1,2 --train 20 --test 16"


@dataclass(frozen=True)
class Sample:
    """A good file of a kind as bytes, its name in the folder, what reads it, and the files of the
    folder ``base`` that have to lie beside it."""

    kind: str
    name: str
    data: bytes
    readers: tuple[Command, ...] = ()
    beside: tuple[str, ...] = ()


class Whole(NamedTuple):
    """Files that are written whole: their name here, the attribute 'format' that they have, the
    line that makes one as o.h5, and the commands that read it as in.h5."""

    kind: str
    format: str
    line: str
    readers: tuple[Command, ...] = ()


class Unfinished(NamedTuple):
    """Files that a kill leaves: their name here, their format, the command of
    :data:`campaigns.commands.COMMANDS`, which goes on with them too, and the file's name."""

    kind: str
    format: str
    command: str
    left: str


_LABELS = "--y @digits.h5:train/y"
_GROW = "--x @digits.h5:train/x --limit 130 --append --out in.h5"
WHOLE = (
    Whole("gram", "gram", f"{_GRAM} --x @digits.h5:train/x --limit 120 --tile 32 --out o.h5", (
        Command("export", "export in.h5 --kernel ntk --to o.npy", ("o.npy",)),
        Command("solve", f"solve in.h5 {_LABELS} --limit 120 --diag-reg 1e-3 --out o.h5"),
        Command("eig", "eig in.h5 --full --out o.h5"),
        Command("combine", "combine in.h5 in.h5 --op product --out o.h5"),
        Command("append", f"{_GRAM} {_GROW}", ("in.h5",)),
    )),
    Whole("combined gram", "gram", "combine @J1.h5 @J2.h5 --weights 1,2 --tile 32 --out o.h5", (
        Command("solve", f"solve in.h5 {_LABELS} --limit 60 --diag-reg 1e-3 --out o.h5"),
    )),
    Whole("solution", "solution", f"solve @K.h5 {_LABELS} --diag-reg 1e-3 --out o.h5", (
        Command("predict", "predict in.h5 --cross @C.h5 --out o.h5"),
        Command("variance", "predict in.h5 --cross @C.h5 --variance --out o.h5"),
    )),
    Whole("weights of centers", "solution", "solve @KX.h5 --centers @KC.h5 --method nystrom "
          f"{_LABELS} --diag-reg 1e-3 --out o.h5", (
        Command("predict", "predict in.h5 --cross @CX.h5 --out o.h5"),
        Command("variance", "predict in.h5 --cross @CX.h5 --variance --kernel nngp --out o.h5"),
    )),
    Whole("machines", "solution", f"solve @K.h5 {_LABELS} --method svm --c-path 0.1,1 --folds 2 "
          "--out o.h5", (
        Command("predict", "predict in.h5 --cross @C.h5 --csv o.csv --out o.h5",
                ("o.h5", "o.csv")),
    )),
    Whole("rows", "solution", f"solve @K.h5 {_LABELS} --rows 0:250 --scale-prior --diag-reg 1e-3 "
          "--out o.h5", (
        Command("predict", "predict in.h5 --rows 240:300 --variance --out o.h5"),
    )),
    Whole("encoded table", "data", "data prepare @table.csv --target kind --train 60 --test 20 "
          "--out o.h5", (
        Command("apply", "data apply in.h5 @table.csv --out o.h5"),
    )),
    Whole("data", "data", "data prepare digits --train 40 --test 10 --zca 0.1 --out o.h5", (
        Command("gram", f"{_GRAM} --x in.h5:train/x --out o.h5"),
        Command("gram-cross", f"{_GRAM} --x in.h5:test/x --x2 in.h5:train/x --out o.h5"),
        Command("map", f"{_MAP.replace('16', '8')} --data in.h5 --out o.h5"),
        Command("apply", "data apply in.h5 @digits.h5:test/x --out o.h5"),
    )),
    Whole("sample", "data", "data sample @digits.h5:train/x --n 30 --out o.h5", (
        Command("gram", f"{_GRAM} --x in.h5:x --out o.h5"),
    )),
    Whole("table", "tuning", f"{commands.TUNE} --net fcn:depth={{1,2}} --out o.h5", (
        Command("tune", f"{commands.TUNE} --net fcn:depth={{1,2}} --net fcn:depth=1,w_var=1.5 "
                "--out in.h5", ("in.h5", "in.h5.best.json")),
    )),
    Whole("map", "trainability", f"{_MAP} --data @digits.h5 --out o.h5"),
    Whole("prediction", "prediction", "predict @A.h5 --cross @C.h5 --out o.h5"),
    Whole("spectrum", "spectrum", "eig @K.h5 --k 3 --out o.h5"),
    Whole("sweep", "sweep", "meanfield spectrum --x @digits.h5 --depths 1,2 --train 20 "
          "--out o.h5"),
    Whole("phase", "phase", "meanfield phase --w-var 1,2 --b-var 0.1 --out o.h5"),
    Whole("matrix", "matrix", "export @K.h5 --kernel ntk --to o.h5"),
)  # fmt: skip

# A shard among good ones: read by join, and through a virtual file, which is damaged itself too.
SHARD, VIRTUAL = "shard", "virtual gram"
_JOIN = (Command("join", "join J.h5", ("J.h5",), beside=commands.SHARDS),)
_VIEW = (
    Command("export", "export J.h5 --kernel ntk --to o.npy", ("o.npy",),
            beside=(*commands.SHARDS, "J.h5")),
)  # fmt: skip

UNFINISHED = (
    Unfinished("unfinished gram", "gram", "gram", "o.h5"),
    Unfinished("unfinished sum", "gram", "combine", "o.h5"),
    Unfinished("unfinished growth", "gram", "gram-append", "J2.h5.append"),
    Unfinished("unfinished factor", "factor", "solve-ooc", "o.h5.factor"),
    Unfinished("restart", "restart", "solve-cg", "o.h5.restart"),
    *(Unfinished(f"{name} of centers", "sums", "solve-nystrom", f"o.h5.{name}")
      for name in ("normal", "basis", "leverage")),
    Unfinished("unfinished map", "trainability", "meanfield-trainability", "o.h5"),
)

# Every format of which a file is damaged here: a test compares them with those that are read.
FORMATS = {row.format for row in (*WHOLE, *UNFINISHED)} | {SHARD}


def campaign(runner: Runner, folder: Path, options: argparse.Namespace) -> int:
    """``options.count`` flips, in turn over the kinds of files."""
    generator = random.Random(options.seed)
    commands.make_inputs(runner, folder, _chosen(options.only))
    samples = list(_samples(runner, options.only))
    counts: collections.Counter[str] = collections.Counter()
    bad: list[str] = []
    known: dict[tuple[str, str], Any] = {}
    for index in range(options.count):
        sample = samples[index % len(samples)]
        damaged, where = _flipped(sample, generator)
        for problem in _verified(runner, sample, damaged, counts):
            bad.append(f"{sample.kind}, {where}: {problem}")
        if sample.readers:
            reader = generator.choice(sample.readers)
            if (sample.kind, reader.name) not in known:
                known[sample.kind, reader.name] = _read(runner, sample, reader, sample.data)
            expected = known[sample.kind, reader.name][1]
            for problem in _judged(runner, sample, reader, damaged, expected, counts):
                bad.append(f"{sample.kind}, {where}, read by {reader.name}: {problem}")
    kinds = len(samples)
    return harness.report("bitflips", {"flips": options.count, "kinds": kinds, **counts}, bad,
                          options.json)  # fmt: skip


def _chosen(only: str) -> list[Whole | Command]:
    """What makes and reads the kinds of files whose name has ``only`` in it."""
    left = {row.command for row in UNFINISHED if only in row.kind}
    return [
        *(row for row in WHOLE if only in row.kind),
        *(_JOIN if only in SHARD else ()),
        *(_VIEW if only in SHARD or only in VIRTUAL else ()),
        *(command for command in commands.COMMANDS if command.name in left),
    ]


def _samples(runner: Runner, only: str) -> Iterator[Sample]:
    for kind, _, line, readers in WHOLE:
        if only not in kind:
            continue
        runner.empty()
        ended = runner.run(Command(kind, line).words)
        if ended.code:
            raise RuntimeError(f"{line}: {ended.line}")
        yield Sample(kind, "in.h5", (runner.folder / "o.h5").read_bytes(), readers)
    if only in SHARD:
        for name in commands.SHARDS:
            data = (commands.base_of(runner) / name).read_bytes()
            yield Sample(SHARD, name, data, (*_JOIN, *_VIEW))
    if only in VIRTUAL:
        data = (commands.base_of(runner) / "J.h5").read_bytes()
        yield Sample(VIRTUAL, "J.h5", data, _VIEW, commands.SHARDS)
    for kind, _, name, left in UNFINISHED:
        if only not in kind:
            continue
        command = next(c for c in commands.COMMANDS if c.name == name)
        yield Sample(kind, left, _left(runner, command, left), (command,))


def _left(runner: Runner, command: Command, name: str) -> bytes:
    """The file ``name`` as a kill leaves it, with something in it that is flagged as done."""
    commands.begin(runner, command)
    most = runner.run(command.words, prepare=command.prepare).operations
    for percent in (*range(40, 100), *range(2, 40)):
        commands.begin(runner, command)
        at = most * percent // 100
        runner.run(command.words, Fault(KILL, at), command.prepare)
        path = runner.folder / name
        if path.exists() and _begun(path):
            return path.read_bytes()
    raise RuntimeError(f"{command.name}: no kill leaves a {name} with something done")


def _begun(path: Path) -> bool:
    with h5py.File(path, "r", locking=False) as file:
        flags = next((file[n][()] for n in ("state/tiles", "state/rows", "state") if n in file
                      and isinstance(file[n], h5py.Dataset)), None)  # fmt: skip
        return flags is None or bool(1 < flags.sum() < flags.size)


def _flipped(sample: Sample, generator: random.Random) -> tuple[bytes, str]:
    """The file with one bit changed: in half of the cases among the first and last 4 kB of it or
    around text, where its structure is, else anywhere."""
    size = len(sample.data)
    if generator.random() < 0.5:
        at = generator.choice((generator.randrange(min(size, 8192)), size - 1 -
                               generator.randrange(min(size, 8192))))  # fmt: skip
    else:
        at = generator.randrange(size)
    bit = generator.randrange(8)
    damaged = bytearray(sample.data)
    damaged[at] ^= 1 << bit
    return bytes(damaged), f"byte {at} of {size}, bit {bit}"


def _verified(
    runner: Runner, sample: Sample, damaged: bytes, counts: collections.Counter[str]
) -> list[str]:
    commands.laid(runner, sample.beside)
    path = runner.folder / sample.name
    path.write_bytes(damaged)
    ended = runner.run(["verify", sample.name, "--sample", "0"])
    if ended.hung or ended.code < 0 or ended.traceback:
        return [f"verify: {ended.code}{' hangs' if ended.hung else ''}: {ended.line}"]
    if ended.code in (2, 3):
        counts[f"verify says damaged ({ended.code})"] += 1
        return []
    counts["verify finds nothing"] += 1
    if sample.kind.startswith(("unfinished", SHARD)):
        return []  # nor is room that no tile fills; whether it is used shows below
    commands.laid(runner, sample.beside)
    good = runner.folder / sample.name
    good.write_bytes(sample.data)
    expected = commands.content(good)
    good.write_bytes(damaged)
    if ended.code or commands.content(good) != expected:
        return [f"verify ends with {ended.code}, and what is read has changed"]
    return []


def _put(path: Path, data: bytes) -> None:
    """Write a file; one that is there keeps its times, as when a disk rots."""
    before = path.stat() if path.exists() else None
    path.write_bytes(data)
    if before is not None:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _read(
    runner: Runner, sample: Sample, reader: Command, data: bytes
) -> tuple[harness.Ended, dict[str, Any]]:
    commands.begin(runner, reader)
    _put(runner.folder / sample.name, data)
    ended = runner.run(reader.words, prepare=reader.prepare)
    return ended, commands.whole(runner, reader) if ended.code == 0 else {}


def _judged(
    runner: Runner,
    sample: Sample,
    reader: Command,
    damaged: bytes,
    expected: dict[str, Any],
    counts: collections.Counter[str],
) -> list[str]:
    ended, found = _read(runner, sample, reader, damaged)
    if ended.hung or ended.code < 0 or ended.traceback:
        return [f"{ended.code}{' hangs' if ended.hung else ''}: {ended.line}"]
    if ended.code == 2:
        counts["reader refuses"] += 1
        return []
    if ended.code:
        return [f"exit code {ended.code}: {ended.line}"]
    if not commands.same(reader, found, expected, runner.folder):
        counts["silent"] += 1
        return ["exit 0, and the result has changed"]
    counts["reader gives the same bits"] += 1
    return []


if __name__ == "__main__":
    harness.start(campaign, harness.arguments(__doc__ or "", 500))
