"""Hostile values for each type of option, for every command that Click's tree holds."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from campaigns.case import BASE, Case
from campaigns.commands import SHARDS

_LONG = "9" * 5000
_TEXTS = ("", " ", "x", "x" * 5000, "nan", "\x1b[2J", "é", "日本", "-", "--", "{}", "[1]", "a\nb",
          "\udcff", "%s%n", "$(id)", "1,,2", ",", "null")  # fmt: skip
# Values that no option of the kind may take, and odd ones that some may.
NEVER = {
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
    "address": ("", "x", "local", "local:", "local:0", "local:-1", "local:99999", "local:1.5",
                "local:" + "9" * 50, "tcp://", "tcp://x", "http://127.0.0.1", "missing.json",
                "empty.npy", "pipe", "folder", f"{BASE}/digits.h5", "tcp://127.0.0.1:x",
                "\udcff", "tcp://" + "x" * 5000),
    "rows": ("", "::", "1", "5:1", "0:0", "-1:3", "0:1,0:1", "0:" + "9" * 30, "a:b", "0:1;2:3",
             "missing.npy", "pipe.npy", "folder", "empty.npy", f"{BASE}/v.npy", f"{BASE}/K.h5:ntk",
             "0:1," * 3000, "\udcff.npy", "0:1000000"),
    "grid": ("", "fcn:depth={}", "fcn:depth={", "fcn:depth={1", "fcn:depth=1}",
             "fcn:depth={1..1e9}", "fcn:depth={{1,2}}", "fcn:depth={x}", "fcn:depth={1,nan}",
             "fcn:w_var={1..inf}", "fcn:w_var={2..1}", "fcn:act={relu,nope}", "pipe", "folder"),
    "duration": ("", "x", "0s", "-1h", "1", "h", "1 year", "9" * 30 + "h", "nan", "infs", "1h30"),
    "shard": ("", "x", "0/3", "4/3", "1/0", "1", "-1/3", "1/3/3", "1.5/3", "1/" + "9" * 30),
    "device": ("", "gpu", "cuda:x", "cuda:-1", "cpu:0", "tpu"),
    "act": ("", "nope", "erf:a", "erf:q=1", "erf:a=nan", "leakyrelu:alpha=x"),
    "range": ("", "x", "1:", "1:2", "0:1:0", "1:0:1", "nan", "inf", "-1", "1,,2", "0:inf:1"),
    "head": ("nope", "x" * 5000), "kernel": ("", "rbf", "ntk,nngp"),
    "dtype": ("", "int8", "complex64", "float128x"), "column": ("", "nope"),
    "text": (),
}  # fmt: skip
NEVER["floats above 0"] = (*NEVER["floats"], "0", "-1", "nan", "inf", "1e400")
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
    "address": ("tcp://127.0.0.1:1",),
    "rows": (":", "0:3", " 0:2 , 3:4", ":2", "2:0", f"{BASE}/digits.h5:train/y",
             f"{BASE}/C.h5:ntk"),
    "grid": ("fcn", "fcn:{depth}={1}", "fcn:depth={1}", "fcn:depth={1,1}", "fcn:depth={1..2}",
             "fcn:w_var={0,1}",
             "fcn:depth={1,2},w_var={1,1.5,2}", '{"input_shape":[64],"layers":[]}'),
    "duration": ("1s", "1e3s", "0.000001s", "999999999d", "１h"),
    "floats above 0": ("1", "1,1", "1e308", "1e-320", "1e-308,1e308"),
    "shard": ("1/3", "1/1", " 1/3", "1/100"),
    "text": (*_TEXTS, "cpu", "cuda", "cuda:99", "cuda:" + "9" * 50, "auto", "cuda:0,0", "float16",
             "O", "relu", "erf:a=inf", "leaky_relu", "rbf:gamma=-1", "tanh", "0:1", "0:1:0",
             "1:0:1", "0:inf:1", "0:1e9:1e-9", "-1", "0", "1e308", "inf", "1,2", "1e400",
             "fcn", "cnn-p", "a=1,a=2", "fcn:depth={1,2}", "fcn:depth={1}", "fcn:depth={1..2}",
             "fcn:depth={", "fcn:w_var={}"),
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
# Further calls, in which other options count.
MORE = (
    ("gram", f"--net fcn:depth=2 --x {_IN}digits.h5:train/x --limit 62 --device cpu --threads 1 "
             "--append --out J2.h5"),
    ("gram", f"--net fcn:depth=1 --x {_IN}v.npy --limit 8 --device cpu --plan --deadline 1h --out "
             "o.h5"),
    ("export", f"{_IN}J.h5 --kernel nngp --rows 0:10 --columns 5:8 --to o.h5"),
    ("eig", f"{_IN}K.h5 --rows 0:50 --full --out o.h5"),
    ("solve", f"{_IN}K.npy --y {_IN}digits.h5:train/y --diag-reg 1e-3 --out o.h5"),
    ("solve", f"{_IN}K.h5 --y {_IN}digits.h5:train/y --method svm --c-path 1,10 --folds 2 --rows "
              "0:80 --out o.h5"),
    ("solve", f"{_IN}KX.h5 --centers {_IN}KC.h5 --method nystrom --y {_IN}digits.h5:train/y "
              "--diag-reg-path 1e-3,1e-2 --scale-prior --out o.h5"),
    ("solve", f"{_IN}K.h5 --y {_IN}digits.h5:train/y --method cg --diag-reg 1e-2 --rank 5 --seed 1 "
              "--out o.h5"),
    ("solve", f"{_IN}K.h5 --y {_IN}digits.h5:train/y --diag-reg-path 1e-3,1e-2 --evidence "
              "--unit-diagonal --rows 0:60 --out o.h5"),
    ("predict", f"{_IN}A.h5 --cross {_IN}C.h5 --rows 0:10 --variance --time 1,inf --csv o.csv "
                f"--ids {_IN}digits.h5:test/y --y {_IN}digits.h5:test/y --out o.h5"),
    ("predict", f"{_IN}A.h5 --rows 0:9 --gram {_IN}K.h5 --csv o.csv"),
    ("predict", f"{_IN}M.h5 --cross {_IN}C.h5 --csv o.csv --out o.h5"),
    ("predict", f"{_IN}AN.h5 --cross {_IN}CX.h5 --out o.h5"),
    ("tune", f"--net fcn:depth={{1,2}} --x {_IN}digits.h5:train/x --y {_IN}digits.h5:train/y "
             "--limit 8 --criterion holdout --samples 1 --device cpu --plot o.png --out o.h5"),
    ("data prepare", f"{_IN}table.csv --target kind --category size --drop colour --train 20 "
                     "--out o.h5"),
    ("data apply", f"{_IN}TABLE.h5 {_IN}table.csv --out o.h5"),
    ("join", "J.h5 --virtual"),
)  # fmt: skip
_TEXT_KINDS = {
    "device": "device", "act": "act", "w_var": "range", "b_var": "range", "head": "head",
    "kernel": "kernel", "dtype": "dtype", "target": "column", "category": "column",
    "drop": "column", "only": "column",
}  # fmt: skip
_ODD |= dict.fromkeys(_TEXT_KINDS.values(), _ODD["text"])
# Kinds of options by their names, where types do not tell.
_NAMED = {"dask": "address", "rows": "rows", "columns": "rows", "nets": "grid",
          "deadline": "duration", "c_path": "floats above 0", "shard": "shard"}  # fmt: skip


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Every command under a group, with its words."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        elif command is not None:
            yield " ".join((*path, name)), command


def kind_of(parameter: click.Parameter) -> str:
    """Which of the lists belongs to a parameter."""
    if parameter.name in _NAMED:
        return _NAMED[parameter.name]
    kind: Any = parameter.type
    name = type(kind).__name__.removesuffix("File").removesuffix("Names").lower()
    name = "kernels" if name == "kernel" else name
    if getattr(kind, "positive", False):
        return "floats above 0"
    if name in ("picture", "input", "output", "size", "depths", "shape", "kernels", "floats"):
        return name
    if isinstance(kind, click.Choice):
        return "choice"
    if isinstance(kind, click.types.IntParamType | click.IntRange):
        return "int"
    if isinstance(kind, click.types.FloatParamType | click.FloatRange):
        return "float"
    return _TEXT_KINDS.get(parameter.name or "", "text")


def option_cases(rng: random.Random) -> list[Case]:
    """One hostile value of one parameter of a good call of every command, in random order: first a
    value of each parameter of each call, then the others."""
    from widegram_cli.main import program

    first: list[Case] = []
    rest: list[Case] = []
    for name, command in commands(program):
        lines = [LINES.get(name, ""), *(line for other, line in MORE if other == name)]
        for line in lines:
            for parameter in command.params:
                found = list(_hostile(name, command, line.split(), parameter))
                rng.shuffle(found)
                first += found[:1]
                rest += found[1:]
    rng.shuffle(first)
    rng.shuffle(rest)
    return first + rest


def _hostile(
    name: str, command: click.Command, line: list[str], parameter: click.Parameter
) -> Iterator[Case]:
    """The call with each hostile value of a parameter."""
    if getattr(parameter, "is_flag", False):
        return
    kind = kind_of(parameter)
    # A benchmark or a demo that is not refused runs for long.
    odd = () if name.startswith(("bench", "demo")) else _ODD[kind]
    for value in (*NEVER[kind], *odd):
        label = f"{name} {parameter.opts[-1]} {value[:30]!r}"
        codes = (2,) if value in NEVER[kind] else (0, 2)
        codes = (*codes, 3) if name == "verify" else codes
        words = replaced(command, line, parameter, value)
        yield Case("options", label, (*name.split(), *words), codes, _beside(words))


def _beside(words: Sequence[str]) -> Callable[[Path], None] | None:
    """Puts the files that a call expects in its folder there."""
    needed = [name for name in (*SHARDS, "J2.h5") if name.split(".shard")[0] in words]
    if not needed:
        return None

    def put(folder: Path) -> None:
        for name in needed:
            shutil.copy2(folder / BASE / name, folder)

    return put


def replaced(
    command: click.Command, line: list[str], parameter: click.Parameter, value: str
) -> list[str]:
    """A call with another value of an option, or of an argument, which stand first."""
    option = parameter.opts[-1]
    if option.startswith("-"):
        if option in line:
            at = line.index(option)
            line = line[:at] + line[at + 2 :]
        return [*line, f"{option}={value}"]
    own = [one for one in command.params if isinstance(one, click.Argument)]
    count = next((at for at, word in enumerate(line) if word.startswith("-")), len(line))
    given, at = line[:count], own.index(parameter)
    given[at : at + 1] = [value]  # One that may be left out is added.
    return [*line[count:], "--", *given]


def shuffled_words(rng: random.Random) -> Case:
    """Words of good calls in a wrong order, doubled, cut, or with strangers among them: odd texts,
    flags, and options that the call has no use for."""
    from widegram_cli.main import program

    skipped = ("doctor", "meanfield table")
    calls = [call for call in (*LINES.items(), *MORE) if not call[0].startswith(skipped)]
    name, line = rng.choice(calls)
    words = line.split()
    parameters = dict(commands(program))[name].params
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(words) + 1)
        how = rng.randrange(7)
        if how == 0:
            words.insert(at, rng.choice(_TEXTS))
        elif how == 1 and words:
            del words[at % len(words)]
        elif how == 2 and words:
            words[at % len(words)] = words[at % len(words)][: rng.randint(0, 4)]
        elif how == 3:
            rng.shuffle(words)
        else:
            parameter = rng.choice(parameters)
            option = parameter.opts[-1]
            if getattr(parameter, "is_flag", False):
                words.append(option)
            elif option.startswith("-"):
                words.append(f"{option}={rng.choice(_ODD[kind_of(parameter)])}")
    codes = (0, 2, 3) if name == "verify" else (0, 2)
    label = f"{name}: {' '.join(words)[:60]!r}"
    return Case("words", label, (*name.split(), *words), codes, _beside(words))
