"""A million rows on one machine: n x M in place of n x n, by our own command line.

    python examples/million_rows.py FOLDER --images /usr/share/datasets/fashion-mnist

60,000 images of 28 x 28 (four IDX files, as Debian's dataset-fashion-mnist has them), each shifted
by every (dx, dy) of a 4 x 4 grid, in a seeded random order: 960,000 training rows. Centers are
drawn from them, both kernels computed, a path of regularisers solved with its leave-one-out errors,
and the 10,000 test images predicted; beside it 10,000 rows solved exactly. Needs 25 GB of disk.

Each step that is done is a line of FOLDER/steps.jsonl: wall and processor seconds, peak memory,
what the command printed. Run again it goes on with the first one that is not there. --limit, --grid
and --centers make it small.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np

NET = "fcn:depth=5"
PATH = "1e-5,1e-4,1e-3,1e-2,1e-1,1"
BLOCK = 4096


def idx(path: Path, skip: int) -> np.ndarray:
    """The bytes of a gzipped IDX file behind its header."""
    return np.frombuffer(gzip.open(path).read(), np.uint8, offset=skip)


def images(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """(images (n, 28, 28), labels (n,)) of 'train' or 't10k'."""
    pixels = idx(folder / f"{name}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
    return pixels, idx(folder / f"{name}-labels-idx1-ubyte.gz", 8)


def shifted_rows(arguments: argparse.Namespace) -> None:
    """FOLDER/raw.h5: all shifts of all images in random order, and the test images."""
    pixels, labels = images(arguments.images, "train")
    pixels, labels = pixels[: arguments.limit], labels[: arguments.limit]
    grid, low = arguments.grid, -((arguments.grid - 1) // 2)
    order = np.random.default_rng(arguments.seed).permutation(len(pixels) * grid**2)
    with h5py.File(arguments.folder / "raw.h5", "w") as file:
        rows = file.create_dataset("x_train", (order.size, 28, 28), np.uint8)
        for start in range(0, order.size, BLOCK):
            number, shift = np.divmod(order[start : start + BLOCK], grid**2)
            block = np.zeros((number.size, 28, 28), np.uint8)
            for which in range(grid**2):
                mine = shift == which
                dy, dx = (offset + low for offset in divmod(which, grid))
                moved = np.pad(pixels[number[mine]], ((0, 0), (grid, grid), (grid, grid)))
                block[mine] = moved[:, grid - dy : grid - dy + 28, grid - dx : grid - dx + 28]
            rows[start : start + number.size] = block
        file["y_train"] = labels[order // grid**2]
        file["x_test"], file["y_test"] = images(arguments.images, "t10k")


def commands(folder: Path, centers: int, seed: int, exact: int) -> list[tuple[str, list[str]]]:
    """(name, arguments) of the program's commands, in their order."""
    data, c = f"{folder}/data.h5", f"{folder}/centers.h5"
    train, test = f"{data}:train/x", f"{data}:test/x"
    gram = ["gram", "--net", NET, "--get", "ntk", "--x"]
    labels, tested = ["--y", f"{data}:train/y"], ["--y", f"{data}:test/y"]
    path = ["--diag-reg-path", PATH]
    few = ["--limit", str(exact)]

    def out(name: str) -> list[str]:
        return ["--out", f"{folder}/{name}.h5"]

    nystrom = ["--centers", f"{folder}/K-centers.h5", "--method", "nystrom"]
    return [
        ("prepare", ["data", "prepare", f"{folder}/raw.h5", *out("data")]),
        (
            "sample",
            ["data", "sample", train, "--n", str(centers), "--seed", str(seed), *out("centers")],
        ),
        ("gram of centers", [*gram, f"{c}:x", *out("K-centers")]),
        ("gram of test and centers", [*gram, test, "--x2", f"{c}:x", *out("K-test")]),
        ("gram of rows and centers", [*gram, train, "--x2", f"{c}:x", *out("K-train")]),
        ("solve", ["solve", f"{folder}/K-train.h5", *nystrom, *labels, *path, *out("alpha")]),
        ("predict", ["predict", f"{folder}/alpha.h5", "--cross", f"{folder}/K-test.h5", *tested]),
        ("exact: gram", [*gram, train, *few, *out("K-exact")]),
        (
            "exact: gram of test",
            [*gram, test, "--x2", train, "--limit2", str(exact), *out("K-test-exact")],
        ),
        ("exact: solve", ["solve", f"{folder}/K-exact.h5", *labels, *few, *path, *out("exact")]),
        (
            "exact: predict",
            ["predict", f"{folder}/exact.h5", "--cross", f"{folder}/K-test-exact.h5", *tested],
        ),
    ]


def measured(name: str, command: list[str]) -> dict[str, object]:
    """Run the program; wall and processor seconds, peak memory, and what it printed."""
    before, load = time.monotonic(), os.getloadavg()[0]
    run = [sys.executable, "-m", "widegram_cli", *command, "--json"]
    with subprocess.Popen(run, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        printed = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{name}: exit code {process.returncode}; run again to go on")
    return {
        "step": name,
        "seconds": round(time.monotonic() - before, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_gb": round(usage.ru_maxrss * 1024 / 1e9, 2),
        "load_before": load,
        "printed": json.loads(printed),
    }


def main() -> None:
    """Every step that is not done yet, each recorded when it is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--limit", type=int, help="images that are shifted [default: all]")
    parser.add_argument("--grid", type=int, default=4, help="shifts along each axis")
    parser.add_argument("--centers", type=int, default=5000)
    parser.add_argument("--exact", type=int, default=10_000, help="rows solved exactly")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--memory", help="of every command, such as 3GB")
    parser.add_argument("--until", help="the last step to do")
    arguments = parser.parse_args()
    folder = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "steps.jsonl"
    done = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    finished = {step["step"] for step in done}
    if not finished:
        shifted_rows(arguments)
    memory = ["--memory", arguments.memory] if arguments.memory else []
    for name, command in commands(folder, arguments.centers, arguments.seed, arguments.exact):
        if name not in finished:
            step = measured(name, [*command, *memory])
            done.append(step)
            with log.open("a") as file:
                file.write(json.dumps(step) + "\n")
        if name == arguments.until:
            break
    for step in done:
        figures = step["printed"].get("accuracy")
        accuracy = "" if figures is None else f", accuracy {figures:.4f}"
        print(f"{step['step']}: {step['seconds']} s, {step['peak_gb']} GB{accuracy}")


if __name__ == "__main__":
    main()
