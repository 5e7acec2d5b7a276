"""Good calls of every command, and a good value of every option that may stand beside them."""

from __future__ import annotations

from campaigns import hostile_words
from campaigns.case import BASE

_IN = f"{BASE}/"
_DIGITS = f"{_IN}digits.h5"

# Of what measures for minutes, or runs other commands: values that are refused alone.
_UNRUN = {
    "bench kernels": "--suite quick --seconds 1", "bench roof": "--quick --seconds 1",
    "bench scaling": "--quick --seconds 1", "bench workers": "--quick --seconds 1",
    "bench published": "--data folder --rows mnist-*", "demo": "folder",
}  # fmt: skip

LINES: dict[str, list[str]] = {
    name: [line, *(more for other, more in hostile_words.MORE if other == name)]
    for name, line in (hostile_words.LINES | _UNRUN).items()
}
"""The calls of each command, in which options count."""

NEUTRAL = {
    "--json": "how an answer is printed", "--memory": "a budget", "--threads": "a budget",
    "--device": "where it is computed", "--dask": "where it is computed",
    "--overwrite": "what may be replaced", "--check": "how much is compared before",
    "--profile": "times alone", "--tile": "the order of the work",
    "--accept-series-error": "what is refused", "--accept-unseen": "what is refused",
    "--repair": "what is done about damage",
}  # fmt: skip
"""Options that leave every answer as it is, and what they are for."""

IMPLIED = {
    "solve --loo": "of a path without --evidence", "predict --gram": "where the solution names it",
    "tune --samples": "of no more networks than there are",
}
"""Options that some calls have without being asked."""

_FLAG = None
_GOOD: dict[str, str | None] = {
    "--absolute": _FLAG, "--accept-series-error": "0.5", "--accept-unseen": _FLAG, "--act": "relu",
    "--against-float64": _FLAG, "--append": _FLAG, "--b-var": "0.3", "--balanced": _FLAG,
    "--c-path": "1,10", "--category": "size", "--centers": f"{_IN}KC.h5", "--chaotic": "1,3",
    "--columns": "0:5", "--criterion": "evidence", "--critical": "1,3", "--cross": f"{_IN}C.h5",
    "--csv": "p.csv", "--data": _DIGITS, "--deadline": "2h", "--density": _FLAG, "--depth": "1",
    "--depths": "1", "--diag-reg": "0.1", "--diag-reg-path": "1e-2,1", "--diagonal":
    f"{_IN}v.npy", "--drop": "colour", "--dtype": "float64", "--evidence": _FLAG,
    "--factor-dtype": "float32", "--folds": "3", "--forms": _FLAG, "--full": _FLAG, "--get": "ntk",
    "--gram": f"{_IN}K.h5", "--head": "a", "--holdout": "0.5", "--ids": f"{_DIGITS}:test/index",
    "--images": "3", "--input-shape": "9", "--k": "3", "--kernel": "nngp", "--labels":
    f"{_DIGITS}:train/y", "--limit": "7", "--limit2": "7", "--loo": _FLAG, "--max-iter": "2",
    "--max-passes": "2", "--method": "cholesky", "--mixed-workers": _FLAG, "--n": "7", "--net":
    "fcn:depth=3", "--nets": "cnn-f", "--normalize": "none", "--normalize-y": _FLAG, "--op":
    "product", "--ordered": "1,3", "--out": "p.h5", "--pattern": f"{_IN}v.npy", "--pattern2":
    f"{_IN}v.npy", "--peer": "neural-tangents", "--peer-python": "/bin/false", "--plan": _FLAG,
    "--plot": "p.png", "--preconditioner": "none", "--probes": "3", "--quick": _FLAG, "--rank": "2",
    "--raw": _FLAG, "--repair": _FLAG, "--rows": "0:30", "--sample": "2", "--samples": "1",
    "--scale": "6", "--scale-prior": _FLAG, "--seconds": "2", "--seed": "3", "--shard": "1/2",
    "--source": _FLAG, "--steps": "6", "--suite": "full", "--target": "colour", "--target-shift":
    "0.25", "--targets": "one-hot", "--task": "regression", "--test": "9", "--test-gram":
    f"{_IN}K.h5", "--time": "2", "--times": "2", "--to": "p.npy", "--tol": "0.1", "--train": "30",
    "--unit-diagonal": _FLAG, "--unit-pixels": _FLAG, "--variance": _FLAG, "--vectors": _FLAG,
    "--virtual": _FLAG, "--w-var": "1.7", "--weights": "1,0.5", "--which": "SA", "--x":
    f"{_DIGITS}:test/x", "--x-test": f"{_DIGITS}:test/x", "--x2": f"{_IN}v.npy", "--y":
    f"{_DIGITS}:test/y", "--zca": "0.1",
    "--check": _FLAG, "--dask": "local:1", "--device": "cpu", "--json": _FLAG, "--memory": "200MB",
    "--overwrite": _FLAG, "--profile": _FLAG, "--threads": "2", "--tile": "16",
}  # fmt: skip
_OF_COMMAND: dict[str, str] = {
    "export --dtype": "float16", "meanfield spectrum --method": "engine", "meanfield spectrum --x":
    _DIGITS, "meanfield spectrum --net": "fcn:w_var=1.7", "meanfield spectrum --act": "erf",
    "meanfield table --x": _DIGITS, "meanfield table --w-var": "1.3,2.4",
    "meanfield phase --w-var": "1,1.5", "meanfield phase --b-var": "0.2,0.3",
    "meanfield trainability --w-var": "1,1.5", "meanfield trainability --net": "cnn-f",
    "solve --y": f"{_DIGITS}:train/y", "tune --y": f"{_DIGITS}:train/y", "report --y":
    f"{_DIGITS}:test/y", "bench published --rows": "none", "eig --plot": "e.png",
    "solve --method": "cg", "predict --method": "cholesky-ooc", "net --device": "cuda",
    "net --get": "nngp", "data sample --labels": f"{_DIGITS}:train/index",
    "report --out": "p.html", "tune --x": f"{_DIGITS}:train/x",
}  # fmt: skip


def good_value(command: str, option: str) -> str | None:
    """A value that an option may have in good calls of a command; None of a flag.

    Raises KeyError for an option that is new here: give it one.
    """
    return _OF_COMMAND.get(f"{command} {option}", _GOOD[option])
