"""The k-th operation on a file fails with ENOSPC, EDQUOT or EIO, once or from then on.

Right is: exit code 2 and one line, nothing wrong under the final name, nothing left over but work
that the next run goes on with, and the same command again ends with the same bits.
"""

from __future__ import annotations

import argparse
import collections
import errno
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from campaigns import commands, harness
from campaigns.commands import Command, Spread
from campaigns.harness import ALL, FAIL, SYNC, WRITE, Fault, Runner

_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
_WORK = (".factor", ".restart", ".normal", ".basis", ".leverage", ".kernels", ".append")
_OLD = b"an older file" * 100  # in place of an output, where --overwrite is given


def campaign(runner: Runner, folder: Path, options: argparse.Namespace) -> int:
    """``options.count`` faults, spread over the commands."""
    return commands.spread("faults", _command, runner, folder, options, faults=options.count)


def _command(runner: Runner, case: Spread) -> None:
    command, generator, plain = case.command, case.generator, case.plain
    for _ in range(case.count):
        mask = generator.choice((ALL, ALL, ALL, WRITE, SYNC))
        most = plain.operations if mask == ALL else max(1, plain.operations // 3)
        at = generator.choice((generator.randint(1, most), generator.randint(1, min(most, 12))))
        if mask == ALL and generator.random() < 0.2:
            at = generator.randint(max(1, most - 8), most)
        sticky = generator.random() < 0.5
        fault = Fault(FAIL, at, generator.choice(_ERRORS), sticky, mask)
        commands.begin(runner, command)
        words = command.words
        if generator.random() < 0.3 and not command.replaces:
            words.append("--overwrite")
            for name in command.outs:
                (runner.folder / name).write_bytes(_OLD)
        for problem in _problems(runner, command, words, fault, case.expected, case.counts):
            case.bad.append(f"{' '.join(words)} {fault}: {problem}")


def _problems(
    runner: Runner,
    command: Command,
    words: list[str],
    fault: Fault,
    expected: dict[str, dict],
    counts: collections.Counter[str],
) -> list[str]:
    """What is wrong with one fault, and with the run after it."""
    ended = runner.run(words, fault, command.prepare)
    found = []
    if ended.hung:
        found.append(f"hangs: {ended.line}")
    elif ended.code < 0:
        found.append(f"crashes with signal {-ended.code}: {ended.line}")
    if ended.traceback:
        found.append(f"traceback: {ended.line}")
    if ended.code == 0:
        right = commands.same(command, commands.whole(runner, command), expected, runner.folder)
        counts["not met or harmless" if right else "silent"] += 1
        if not right:
            found.append("exit 0 and a wrong file")
    elif ended.code == 2:
        counts["refused in one line"] += 1
        if not ended.line.startswith("widegram: error: "):
            found.append(f"exit 2 and not a line: {ended.line}")
        found += _left(runner, command, expected)
    elif ended.code > 0:
        found.append(f"exit code {ended.code}: {ended.line}")
    return found + again(runner, command, words, expected)


def _left(runner: Runner, command: Command, expected: dict[str, dict]) -> list[str]:
    """What is wrong with the files after a refusal."""
    found = []
    for path in sorted(runner.folder.iterdir()):
        if path.name in command.outs:
            found += wrong_file(runner, command, path, expected[path.name])
        elif path.suffix not in _WORK and path.name not in command.beside:
            found.append(f"left over: {path.name}")
    return found


def wrong_file(runner: Runner, command: Command, path: Path, expected: dict) -> list[str]:
    """What is wrong with a file under a final name: unless it is the right one, `verify` has to
    call it good and unfinished. What was there before may still be there."""
    if path.read_bytes() == _before(runner, command, path.name):
        return []
    if commands.is_hdf5(path):
        ended = runner.run(["verify", path.name, "--sample", "0", "--json"])
        if ended.code:
            return [f"{path.name} is damaged: {ended.code}: {ended.line}"]
        if not json.loads(ended.out)["complete"]:
            return []
        if command.grows:
            return []  # whether its rows are right shows in those of the next run
    if command.bits and commands.content(path) != expected:
        return [f"{path.name} is wrong under its final name"]
    return []


def _before(runner: Runner, command: Command, name: str) -> bytes:
    return (commands.base_of(runner) / name).read_bytes() if name in command.beside else _OLD


def again(
    runner: Runner, command: Command, words: list[str], expected: dict[str, dict]
) -> list[str]:
    """What is wrong with the same command once more, without faults."""
    ended = runner.run(words, prepare=command.prepare)
    if ended.code == 2 and ": exists; " in ended.err:
        # One of two outputs, or the whole, had got its name.
        ended = runner.run([*words, "--overwrite"], prepare=command.prepare)
    if ended.code or ended.traceback:
        return [f"does not run again: {ended.code}: {ended.line}"]
    found = []
    if not commands.same(command, commands.whole(runner, command), expected, runner.folder):
        found.append("other bits when run again")
    rest = {path.name for path in runner.folder.iterdir()} - {*command.outs, *command.beside}
    return found + ([f"left over at the end: {sorted(rest)}"] if rest else [])


if __name__ == "__main__":
    harness.start(campaign, harness.arguments(__doc__ or "", 1000))
