"""Hostile values of settings: in ``widegram.toml`` and in variables."""

from __future__ import annotations

import random
from pathlib import Path

from campaigns.case import BASE, Case

_VALUES = (
    "", " ", "x", "0", "-1", "1.5", "true", "nan", "inf", "[]", "{}", "[1]", "'1'", '"1"', '"cpu"',
    '"cuda:99"', '"500MB"', '"0"', '"1e30"', '"local:0"', '"tcp://x"', '"pipe"', '"a\\nb"',
    "1979-05-27", "9" * 30, "9" * 5000, '"' + "x" * 5000 + '"', "[" * 5000, '"\\ud800"',
)  # fmt: skip
_NAMES = ("device", "threads", "memory", "dask", "out", "overwrite", "x", "", '"a b"',
          "gram.threads", "THREADS", "é")  # fmt: skip
_LINES = (
    f"gram --net fcn:depth=1 --x {BASE}/v.npy --limit 4 --out o.h5",
    f"solve {BASE}/K.h5 --y {BASE}/digits.h5:train/y --diag-reg 1e-2 --out o.h5",
    f"verify {BASE}/K.h5 --sample 0", f"info {BASE}/K.h5", "net fcn --input-shape 8", "doctor",
    "data prepare digits --train 20 --test 5 --out o.h5", "--help", "--verbose doctor",
    f"tune --net fcn:depth=1 --x {BASE}/digits.h5:train/x --y {BASE}/digits.h5:train/y --limit 8 "
    "--diag-reg-path 0.1 --out o.h5",
)  # fmt: skip
_FILES = ("pipe", "folder", "link-to-nowhere", "missing.toml", "/dev/null", "/dev/zero", "~/x.toml",
          "x" * 5000, "/etc/passwd")  # fmt: skip


def settings_case(rng: random.Random) -> Case:
    """Settings in a file in the folder, in a file that a variable names, or in variables."""
    words = tuple(rng.choice(_LINES).split())
    how = rng.choice(("file", "file", "variables", "named"))
    environment, text = {}, b""
    if how == "file":
        lines = [f"{rng.choice(_NAMES)} = {rng.choice(_VALUES)}" for _ in range(rng.randint(1, 3))]
        text = "\n".join(lines).encode(rng.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16")))
        label = text[:60].decode("utf-8", "replace")
    elif how == "named":
        environment["WIDEGRAM_CONFIG"] = label = rng.choice(_FILES)
    else:
        for name in rng.sample(("DEVICE", "THREADS", "MEMORY", "DASK"), rng.randint(1, 2)):
            environment[f"WIDEGRAM_{name}"] = rng.choice(_VALUES).strip("\"'")
        label = str(environment)

    def make(folder: Path) -> None:
        if how == "file":
            (folder / "widegram.toml").write_bytes(text)

    codes = (0, 2, 3) if words[0] == "verify" else (0, 2)
    return Case("settings", f"{words[0]}: {label[:80]!r}", words, codes, make, environment)
