"""SIGKILL before the k-th operation on a file, half way through a write, or at a random time.

Right is: what has its final name is good, the same command again ends with the same bits, and
leaves nothing beside its outputs.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from campaigns import commands, harness
from campaigns.commands import Command, Spread
from campaigns.faults import again, wrong_file
from campaigns.harness import KILL, KILL_HALF_WAY, Ended, Fault, Runner

_BY_SIGNAL = -9


def campaign(runner: Runner, folder: Path, options: argparse.Namespace) -> int:
    """At least ``options.count`` kills, spread over the commands."""
    return commands.spread("kills", _command, runner, folder, options)


def _command(runner: Runner, case: Spread) -> None:
    command, expected, counts = case.command, case.expected, case.counts
    before = counts["kills"]
    while counts["kills"] < before + case.count:
        commands.begin(runner, command)
        counts["cases"] += 1
        # Killed once, or again and again before it is left to end.
        for _ in range(case.generator.choice((1, 1, 2, 3))):
            how, ended = _killed(runner, command, case.plain, case.generator)
            counts["kills"] += ended.code == _BY_SIGNAL
            problems = _problems(runner, command, ended, expected)
            case.bad.extend(f"{command.name} {how}: {problem}" for problem in problems)
        problems = again(runner, command, command.words, expected)
        case.bad.extend(f"{command.name} {how}: {problem}" for problem in problems)


def _killed(
    runner: Runner, command: Command, plain: Ended, generator: random.Random
) -> tuple[str, Ended]:
    mode = generator.choice((KILL, KILL, KILL_HALF_WAY, None))
    if mode is None:
        seconds = generator.uniform(0.02, 0.95 * plain.seconds)
        ended = runner.run(command.words, prepare=command.prepare, kill_after=seconds)
        return f"after {seconds:.3f} s", ended
    fault = Fault(mode, generator.randint(1, plain.operations))
    return str(fault), runner.run(command.words, fault, command.prepare)


def _problems(
    runner: Runner, command: Command, ended: Ended, expected: dict[str, dict]
) -> list[str]:
    """What is wrong after one kill."""
    found = []
    for name in command.outs:
        path = runner.folder / name
        if path.exists():
            found += wrong_file(runner, command, path, expected[name])
    # A command whose output had got its name refuses to write it again.
    refused = ended.code == 2 and ": exists; " in ended.err
    if ended.code not in (0, _BY_SIGNAL) and not refused:
        found.append(f"exit code {ended.code}: {ended.line}")
    if ended.traceback:
        found.append(f"traceback: {ended.line}")
    return found


if __name__ == "__main__":
    harness.start(campaign, harness.arguments(__doc__ or "", 300))
