"""Every parameter of every command with every kind of bad value, and every option beside others.

Commands run one after the other in this process, so that thousands take a few minutes. Right is: a
bad value ends with exit code 2 and one line that names the option, its value or a file; no file is
written, none changed, and an output that was there keeps its bytes. An option that is taken changes
what the command answers or writes, or a note names it: nothing is ignored in silence.
"""

from __future__ import annotations

import argparse
import collections
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import click

from campaigns import commands, harness, hostile_words, wrong_files
from campaigns.good_values import IMPLIED, LINES, NEUTRAL, good_value
from campaigns.inside import Inside, Outcome
from widegram_cli.files import InputFile, OutputFile
from widegram_cli.main import program

BASE = "../base/"
_SENTINEL = b"what was here before"


class Walk:
    """Cases of the kinds below, judged; ``bad`` says what was wrong."""

    def __init__(self, folder: Path, only: str) -> None:
        self.inside = Inside(folder)
        self.only = only
        self.counts: collections.Counter[str] = collections.Counter()
        self.bad: list[str] = []
        self.taken: list[str] = []
        self._outcomes: dict[tuple[str, ...], Outcome] = {}

    def refused(self, kind: str, words: list[str], parameter: click.Parameter, value: str,
                codes: tuple[int, ...]) -> None:  # fmt: skip
        """Run what should end with one of ``codes``; an output that is there has a sentinel."""
        label = f"{kind}: {' '.join(words)[:150]}"
        if self.only not in label:
            return
        self.counts[kind] += 1
        ended = self.inside.run(words, self._laid(words))
        wrong = ended.wrong(codes)
        named = is_named(ended.line, parameter, value)
        if kind == "files":  # It may be the other one of two that do not go together.
            named = named or any(word.split("/")[-1] in ended.line for word in words if "." in word)
        if ended.code == 2 and not wrong and not named:
            wrong = ["neither option nor value is named"]
        if wrong:
            self._note(f"{label}: {', '.join(wrong)}: {ended.line[:300]}")
        elif ended.code == 0:
            self.taken.append(label)

    def _laid(self, words: list[str]) -> dict[str, bytes | Path]:
        """Files that lie in the folder before: what the call needs, a sentinel for an output."""
        found: dict[str, bytes | Path] = {}
        for name in (*commands.SHARDS, "J2.h5"):
            if any(name.split(".shard")[0] == word for word in words):
                found[name] = self.inside.base / name
        if "--overwrite" in words:
            found |= {name: _SENTINEL for name in words if name in ("o.h5", "o.npy", "o.html")}
        return found

    def outcome(self, words: list[str]) -> Outcome:
        """What a call answers and writes, computed once."""
        key = tuple(words)
        if key not in self._outcomes:
            self._outcomes[key] = self.inside.run(words, self._laid(words), keep=True)
        return self._outcomes[key]

    def counting(self, kind: str, name: str, line: list[str], option: str) -> None:
        """Flag a call whose ``option`` is accepted, changes nothing, and is not named."""
        label = f"{kind}: {name} {' '.join(line)[:150]} with {option}"
        if self.only not in label:
            return
        self.counts[kind] += 1
        without = self.outcome([*name.split(), *line])
        given = self.outcome([*name.split(), *_with(name, line, option)])
        if sorted(_with(name, line, option)) == sorted(line):
            return  # as it is
        wrong = given.wrong((0, 2, 3) if name == "verify" else (0, 2))
        if not wrong and without.code == given.code == 0 and option not in given.err:
            silent = given.answer == without.answer and f"{name} {option}" not in IMPLIED
            wrong = ["ignored in silence"] if silent else []
        if wrong:
            self._note(f"{label}: {', '.join(wrong)}: {given.line[:300]}")

    def _note(self, line: str) -> None:
        self.bad.append(line)
        sys.stderr.write(f"WRONG {line}\n".encode(errors="replace").decode())
        sys.stderr.flush()


def _with(name: str, line: list[str], option: str) -> list[str]:
    """A call with an option that has a good value; what it had is replaced."""
    if option in line:
        at = line.index(option)
        line = line[:at] + line[at + 2 :]
    value = good_value(name, option)
    return [*line, option] if value is None else [*line, option, value]


def is_named(line: str, parameter: click.Parameter, value: str) -> bool:
    """Whether a message says where: the option, its name in the library, or its value."""
    names = {*parameter.opts, str(parameter.name), parameter.human_readable_name}
    names |= {name.replace("_", " ") for name in names}
    shown = value.strip()[:12].encode("unicode_escape", "surrogatepass").decode()
    parts = re.split("[:={]", shown)  # of a network or an activation
    quoted = any(f"'{part}'" in line for part in parts)
    named = any(len(part) > 2 and part.lower() in line.lower() for part in (shown, *parts))
    return quoted or named or any(name in line for name in names)


def values(walk: Walk) -> None:
    """Values that no parameter of the kind takes; that of an option a good call has otherwise."""
    for name, command, line, parameter in _parameters():
        never = hostile_words.NEVER[hostile_words.kind_of(parameter)]
        more = ["--overwrite"] if _has(command, "--overwrite") and "o." in " ".join(line) else []
        if getattr(parameter, "is_flag", False):
            words = [*line, f"{parameter.opts[-1]}=1"]
            walk.refused("values", [*name.split(), *words], parameter, "1", (2,))
            continue
        for value in (*never, *ends(parameter)):
            if "\0" in value:
                continue  # no system passes it on
            words = [*hostile_words.replaced(command, line, parameter, value)]
            at = words.index("--") if "--" in words else len(words)
            words[at:at] = more if "--overwrite" not in words else []
            walk.refused("values", [*name.split(), *words], parameter, value, (2,))


def ends(parameter: click.Parameter) -> Iterator[str]:
    """Numbers just beyond the ends of a range."""
    kind = parameter.type
    if isinstance(kind, click.IntRange | click.FloatRange):
        if kind.min is not None:
            yield str(kind.min if kind.min_open else kind.min - 1)
        if kind.max is not None and kind.max < 2**62:
            yield str(kind.max if kind.max_open else kind.max + 1)


def files(walk: Walk) -> None:
    """Files that are damaged, and good ones of every other kind, for every input."""
    there = wrong_files.make(walk.inside.folder.parent / "wrong", walk.inside.base)
    for name, command, line, parameter in _parameters():
        if not isinstance(parameter.type, InputFile) or name.startswith("bench"):
            continue
        verified = (3,) if name in ("verify", "report") else ()
        for value in there.damaged:
            words = hostile_words.replaced(command, line, parameter, value)
            codes = (2, *verified, *([0] if there.is_harmless(name, parameter, value) else []))
            walk.refused("files", [*name.split(), *words], parameter, value, codes)
        for value in there.others:
            words = hostile_words.replaced(command, line, parameter, value)
            walk.refused("files", [*name.split(), *words], parameter, value, (0, 2, *verified))


def outputs(walk: Walk) -> None:
    """An output that is an input, or a file of somebody else's."""
    for name, command, line, parameter in _parameters():
        if not isinstance(parameter.type, OutputFile) or name.startswith(("bench", "demo", "join")):
            continue
        inputs = {word.split(":")[0] for word in line if word.startswith(BASE)}
        for value in sorted(inputs):
            for more in [[], ["--overwrite"]] if _has(command, "--overwrite") else [[]]:
                words = [*hostile_words.replaced(command, line, parameter, value), *more]
                walk.refused("outputs", [*name.split(), *words], parameter, value, (2,))


def alone(walk: Walk) -> None:
    """Every option with a good value beside every good call."""
    for name, command, lines in _short_calls():
        for line in lines:
            for option in _options(command):
                walk.counting("alone", name, line, option)


def pairs(walk: Walk) -> None:
    """Every option beside the first good call that has another option, too."""
    for name, command, (line, *_) in _short_calls():
        for beside in _options(command):
            given = _with(name, line, beside)
            if walk.only in name and walk.outcome([*name.split(), *given]).code == 0:
                for option in _options(command):
                    if option != beside:
                        walk.counting("pairs", name, given, option)


def _options(command: click.Command) -> list[str]:
    """The options that a call may have besides, without those that must change nothing."""
    names = [parameter.opts[0] for parameter in command.params if parameter.opts[0][0] == "-"]
    return [name for name in names if name not in NEUTRAL]


def _calls() -> Iterator[tuple[str, click.Command, list[list[str]]]]:
    for name, command in hostile_words.commands(program):
        if name in LINES:
            yield name, command, [line.split() for line in LINES[name]]


def _short_calls() -> Iterator[tuple[str, click.Command, list[list[str]]]]:
    """Those that are over soon."""
    return (call for call in _calls() if not call[0].startswith(("bench", "demo")))


def _parameters() -> Iterator[tuple[str, click.Command, list[str], click.Parameter]]:
    """Every parameter of every command, in the first of its good calls that has it."""
    for name, command, lines in _calls():
        for parameter in command.params:
            having = [line for line in lines if parameter.opts[0] in line]
            yield name, command, (having or lines)[0], parameter


def _has(command: click.Command, option: str) -> bool:
    return any(option in parameter.opts for parameter in command.params)


KINDS = {"values": values, "files": files, "outputs": outputs, "alone": alone, "pairs": pairs}


def campaign(options: argparse.Namespace) -> int:
    """Walk, and say what was wrong."""
    folder = Path(tempfile.mkdtemp(prefix="widegram-walk-"))
    (folder / "work").mkdir()
    try:
        walk = Walk(folder / "work", options.only)
        commands.make_inputs(walk.inside, folder)  # type: ignore[arg-type]  # runs as a Runner does
        for kind in options.kinds.split(","):
            KINDS[kind](walk)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if options.taken:
        sys.stderr.write("".join(f"taken {label}\n" for label in walk.taken))
    return harness.report("walk", dict(walk.counts), walk.bad, options.json)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kinds", default="values,files,outputs,alone", help=", ".join(KINDS))
    parser.add_argument("--only", default="", help="cases whose label has this in it")
    parser.add_argument("--taken", action="store_true", help="list what was not refused")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(campaign(_arguments()))
