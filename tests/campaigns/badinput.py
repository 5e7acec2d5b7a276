"""Bad input of every kind, to every command: what is refused is refused in one line.

Right is: the exit code is one that the case may have, no traceback and no death by a signal, an end
within twenty seconds of processor time, a message of one line and at most 1 kB where the command
fails, and then no file written and none changed; inputs are never changed.
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import resource
import sys
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from campaigns import commands, harness
from campaigns.case import Case
from campaigns.harness import Ended, Runner

CPU_SECONDS, MEMORY = 20, 12 << 30
LONGEST = 1024  # bytes of a message, "widegram: error: " included
_SHARES = {"networks": 0.22, "deep": 0.03, "data": 0.15, "archives": 0.04, "files": 0.16,
           "words": 0.05, "settings": 0.03}  # fmt: skip
_INPUTS = tuple(f"in.{ending}".encode() for ending in ("h5", "npy", "npz", "csv"))
_INPUTS += (b"net.json", b"widegram.toml")


def cases(count: int, seed: int, base: Path) -> list[Case]:
    """``count`` different cases in random order; what the shares leave are options."""
    from campaigns import hostile_files, hostile_networks, hostile_settings, hostile_words

    rng = random.Random(seed)
    makers = {
        "networks": hostile_networks.network_case,
        "deep": hostile_networks.deep_case,
        "data": hostile_files.data_case,
        "archives": hostile_files.archive_case,
        "files": lambda rng: hostile_files.file_case(rng, base),
        "words": hostile_words.shuffled_words,
        "settings": hostile_settings.settings_case,
    }
    found: list[Case] = []
    for name, share in _SHARES.items():
        found += [makers[name](rng) for _ in range(round(share * count))]
    found += hostile_words.option_cases(rng)[: count - len(found)]
    rng.shuffle(found)
    return found


def _surroundings(case: Case) -> None:
    os.environ.update(case.environment)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 5))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _furnish(folder: Path) -> None:
    """What the words of options name."""
    for name in ("pipe", "pipe.h5", "pipe.npy"):
        os.mkfifo(folder / name)
    (folder / "folder").mkdir()
    (folder / "loop.h5").symlink_to("loop.h5")
    (folder / "link.h5").symlink_to("folder")
    (folder / "link-to-nowhere").symlink_to("nowhere")
    (folder / "empty.h5").touch()
    (folder / "empty.npy").touch()
    (folder / "text.h5").write_text("no HDF5 file at all")


def _state(folder: Path) -> dict[str, Any]:
    """Names below a folder, with the content of regular files."""
    found: dict[str, Any] = {}
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(place, name)
            regular = path.is_file() and not path.is_symlink()
            found[os.fsencode(path)] = hash(path.read_bytes()) if regular else None
    return found


def _wrong(case: Case, ended: Ended, before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What is wrong with the end of a case, in words."""
    bad = []
    if ended.hung or ended.code == -24:  # SIGXCPU
        bad.append("hangs")
    elif ended.traceback:
        bad.append("traceback")
    elif ended.code < 0:
        bad.append(f"died of signal {-ended.code}")
    elif ended.code not in case.codes:
        bad.append(f"exit code {ended.code}")
    if ended.code and not ended.hung:
        if after != before:
            names = {*before.items()} ^ {*after.items()}
            bad.append(f"left {sorted({os.path.basename(name) for name, _ in names})}")
        lines = [x for x in ended.err.splitlines() if x.startswith("widegram: error: ")]
        others = [x for x in ended.err.splitlines() if not x.startswith("widegram: ")]
        usage = ended.err.startswith("Usage: ")
        if not ended.traceback and ended.code > 0 and not usage and (len(lines) != 1 or others):
            bad.append(f"{len(lines)} error lines and {len(others)} others")
        if lines and len(lines[0].encode()) > LONGEST:
            bad.append(f"a message of {len(lines[0].encode())} bytes")
        if any(not c.isprintable() for line in lines for c in line):
            bad.append("a message with control characters")
    changed = [n for n in before if n.endswith(_INPUTS) and before[n] != after.get(n)]
    if changed and "--out in.h5" not in " ".join(case.words):
        bad.append("an input was changed")
    return bad


def campaign(runner: Runner, folder: Path, options: argparse.Namespace) -> int:
    """Run the cases and say which ended badly."""
    commands.make_inputs(runner, folder)
    # Whoever compiles the kernels of images takes most of the time that a case may have.
    images = "--x ../base/digits.h5:train/x --limit 2 --device cpu --out o.h5"
    runner.run(f"gram --net cnn-p:depth=1 {images}".split())
    runner.empty()
    base = _state(folder / "base")
    counts: collections.Counter[str] = collections.Counter()
    bad: list[str] = []
    for case in cases(options.count, options.seed, folder / "base"):
        if options.only not in f"{case.kind}: {case.label}":
            continue
        runner.empty()
        _furnish(runner.folder)
        if case.make is not None:
            case.make(runner.folder)
        before = _state(runner.folder)
        if any("\0" in word for word in case.words):
            continue  # no system passes it on
        ended = runner.run(case.words, prepare=partial(_surroundings, case))
        counts[case.kind] += 1
        counts["refused" if ended.code else "accepted"] += 1
        found = _wrong(case, ended, before, _state(runner.folder))
        if _state(folder / "base") != base:
            found.append("a file of the base was changed")
            base = _state(folder / "base")
        if found:
            bad.append(f"{case.kind}: {case.label}: {', '.join(found)}: {ended.line}")
            if not options.json:
                sys.stderr.write(f"WRONG {bad[-1]}\n".encode(errors="replace").decode())
                sys.stderr.flush()
    total = sum(counts[kind] for kind in counts if kind not in ("refused", "accepted"))
    return harness.report("badinput", {"cases": total, **counts}, bad, options.json)


if __name__ == "__main__":
    harness.start(campaign, harness.arguments(__doc__ or "", 1500))
