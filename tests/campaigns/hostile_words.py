"""Hostile values for each type of option, for every command that Click's tree holds."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from campaigns.case import BASE, Case
from campaigns.commands import SHARDS

_LONG = "9" * 5000
_TEXTS = ("", " ", "x", "x" * 5000, "nan", "\x1b[2J", "é", "日本", "-", "--", "{}", "[1]", "a\nb",
          "\udcff", "%s%n", "$(id)", "1,,2", ",", "null")  # fmt: skip
# Values that no option of the kind may take, and odd ones that some may.
_NEVER = {
    "int": ("", "x", "1.5", "nan", "9" * 30, _LONG, "-" + "9" * 30, "1e3", "0x10", "1 2"),
    "float": ("", "x", "nan", "1,2", "--", "0x1p3", "1e", "٠x"),
    "size": ("", "x", "0", "-1", "nan", "inf", "1e30", "5 apples", "16MB;", "1" + "0" * 400 + "GB"),
    "depths": ("", "x", "1-", "-1", "5-1", "1,,2", "1-1000000000000", _LONG, "1.5", "1-2-3"),
    "shape": ("", "x", "1,", "-1", "1.5", _LONG, "32 32"),
    "kernels": ("", ",", "foo", "ntk,foo", "ntk;nngp"),
    "choice": ("", "foo", "\x1b[2J", "x" * 5000),
    "floats": ("", ",", "x", "1e-3,", ",".join(["1"] * 5000)),
    "picture": ("p.bad", "p.txt", "p.h5"),
    "input": ("", "missing.npy", "nowhere/x.h5", "/dev/null", "pipe", "pipe.h5", "x" * 300,
              "x" * 5000, "loop.h5", "empty.h5", "empty.npy", "text.h5", "\udcff.npy", "a\nb.h5"),
    "output": ("", ".", "/dev/null/x.h5", "nowhere/o.h5", "folder", "n" * 300 + ".h5", "\0.h5",
               "/proc/o.h5", "pipe", "link-to-nowhere/o.h5"),
    "text": (),
}  # fmt: skip
_ODD = {
    "int": ("0", "-1", "1", "2", "１", "1_0", " 3 ", "99999999", "2147483648", "+1"),
    "float": ("inf", "-inf", "1e400", "-1", "0", "1e-400", "1e308", "1e-300", "1_0"),
    "size": ("16MB", "16", ".5GB", "１６MB", "16 MB", "17000000", "99999999999TB"),
    "depths": ("1", "0", "2,1", "1-3", " 1 ", "9999", "99999", "１"),
    "shape": ("1", "0", "8,8,1", "8x8x1", "64", "1,1,1,1", "99999999999,1,1", "1000,1000,1"),
    "kernels": ("ntk", "NTK", "ntk,ntk", " nngp ", "nngp,ntk"),
    "choice": _TEXTS,
    "floats": ("1", "nan", "inf", "-1", "0", "1e400", "1,1", "1e308", "1e-320"),
    "picture": ("p.png", "p", "nowhere/p.png", "", "folder"),
    "input": (".", "/", "folder", "file:///x", "~", "in.npy:k", "::", "{}", "fcn", "digits",
              *(f"{BASE}/{name}" for name in ("K.h5", "C.h5", "A.h5", "digits.h5", "v.npy",
                                              "digits.h5:train/y", "digits.h5:train",
                                              "K.h5:ntk", "K.h5:state/tiles", "v.npy:x"))),
    "output": ("o", "o.txt", "o.npy", "a\nb.h5", "\udcff.h5", "é.h5", "link.h5"),
    "text": (*_TEXTS, "cpu", "cuda", "cuda:99", "cuda:" + "9" * 50, "auto", "cuda:0,0", "float16",
             "O", "relu", "erf:a=inf", "leaky_relu", "rbf:gamma=-1", "tanh", "0:1", "0:1:0",
             "1:0:1", "0:inf:1", "0:1e9:1e-9", "-1", "0", "1e308", "inf", "1,2", "1e400",
             "fcn", "cnn-p", "a=1,a=2", "1/3", "0/3", "4/3", "1/0", "1/" + "9" * 30, "1/100",
             "fcn:depth={1,2}", "fcn:depth={1}", "fcn:depth={1..2}", "fcn:depth={", "fcn:w_var={}"),
}  # fmt: skip

_IN = f"{BASE}/"
LINES = {
    "gram": f"--net fcn:depth=2 --x {_IN}v.npy --limit 8 --device cpu --threads 1 --out o.h5",
    "info": f"{_IN}K.h5",
    "verify": f"{_IN}K.h5 --sample 1",
    "export": f"{_IN}K.h5 --kernel ntk --to o.npy",
    "eig": f"{_IN}K.h5 --k 2 --out o.h5",
    "solve": f"{_IN}K.h5 --y {_IN}digits.h5:train/y --diag-reg 1e-3 --out o.h5",
    "predict": f"{_IN}A.h5 --cross {_IN}C.h5 --out o.h5",
    "report": f"{_IN}K.h5 {_IN}A.h5 --out o.html",
    "net": "fcn --input-shape 8",
    "combine": f"{_IN}J1.h5 {_IN}J2.h5 --out o.h5",
    "join": "J.h5",
    "tune": f"--net fcn:depth=1 --x {_IN}digits.h5:train/x --y {_IN}digits.h5:train/y --limit 8 "
            "--diag-reg-path 0.1 --device cpu --threads 1 --out o.h5",
    "data info": f"{_IN}digits.h5",
    "data prepare": "digits --train 20 --test 5 --out o.h5",
    "data sample": f"{_IN}digits.h5:train/x --n 5 --out o.h5",
    "data apply": f"{_IN}digits.h5 digits --out o.h5",
    "doctor": "",
    "meanfield point": "--w-var 1.5 --b-var 0.1",
    "meanfield phase": "--w-var 1,2 --b-var 0.1 --out o.h5",
    "meanfield spectrum": f"--x {_IN}digits.h5 --depths 1,2 --train 8 --test 8 --out o.h5",
    "meanfield table": f"--x {_IN}digits.h5 --images 2 --nets fcn --ordered 1,2 --critical 1,2 "
                       "--chaotic 1,2",
    "meanfield trainability": f"--data {_IN}digits.h5 --w-var 1,2 --depths 1 --train 8 --test 8 "
                              "--out o.h5",
}  # fmt: skip


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Every command under a group, with its words."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        elif command is not None:
            yield " ".join((*path, name)), command


def kind_of(kind: Any) -> str:
    """Which of the lists belongs to the type of a parameter."""
    name = type(kind).__name__.removesuffix("File").lower()
    if name in ("picture", "input", "output", "size", "depths", "shape", "kernels", "floats"):
        return name
    if isinstance(kind, click.Choice):
        return "choice"
    if isinstance(kind, click.types.IntParamType | click.IntRange):
        return "int"
    if isinstance(kind, click.types.FloatParamType | click.FloatRange):
        return "float"
    return "text"


def option_cases() -> list[Case]:
    """One hostile value of one parameter of every command; all else as in a good call."""
    from widegram_cli.main import program

    found: list[Case] = []
    for name, command in commands(program):
        line = LINES.get(name, "").split()
        for parameter in command.params:
            kind = kind_of(parameter.type)
            if getattr(parameter, "is_flag", False):
                continue
            # A benchmark that is not refused runs for minutes.
            odd = () if name.startswith("bench") else _ODD[kind]
            for value in (*_NEVER[kind], *odd):
                words = _with(line, parameter, value)
                label = f"{name} {parameter.opts[-1]} {value[:30]!r}"
                codes = (2,) if value in _NEVER[kind] else (0, 2)
                codes = (*codes, 3) if name == "verify" else codes
                make = _put_shards if name == "join" else None
                found.append(Case("options", label, (*name.split(), *words), codes, make))
    return found


def _put_shards(folder: Path) -> None:
    for name in SHARDS:
        shutil.copy2(folder / BASE / name, folder)


def _with(line: list[str], parameter: click.Parameter, value: str) -> tuple[str, ...]:
    option = parameter.opts[-1]
    if not option.startswith("-"):
        return (*line[1:], "--", value)
    if option in line:
        at = line.index(option)
        line = line[:at] + line[at + 2 :]
    return (*line, f"{option}={value}")


def shuffled_words(rng: random.Random) -> Case:
    """Words of good calls in a wrong order, doubled, cut, or with a stranger among them."""
    name = rng.choice([n for n in LINES if not n.startswith(("doctor", "meanfield table"))])
    words = LINES[name].split()
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(words) + 1)
        how = rng.randrange(4)
        if how == 0:
            words.insert(at, rng.choice(_TEXTS))
        elif how == 1 and words:
            del words[at % len(words)]
        elif how == 2 and words:
            words[at % len(words)] = words[at % len(words)][: rng.randint(0, 4)]
        else:
            rng.shuffle(words)
    codes = (0, 2, 3) if name == "verify" else (0, 2)
    return Case("words", f"{name}: {' '.join(words)[:60]!r}", (*name.split(), *words), codes)
