"""Classification of graphs by the kernel of a graph network: ``graphs.py FOLDER``.

Makes graphs of two kinds, rings with a few chords and trees that grow at their hubs, and runs the
command line on them: ``gram`` with node features as --x and edges as --pattern, ``solve`` and
``predict``. What a vertex knows at first is its degree.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

NODES, TRAIN, TEST, DEGREES = 14, 60, 40, 5
NETWORK = {
    "input_shape": [NODES, DEGREES],
    "layers": [
        {"layer": "Aggregate"}, {"layer": "Dense", "W_std": 1.4}, {"layer": "Relu"},
        {"layer": "Aggregate"}, {"layer": "Dense", "W_std": 1.4}, {"layer": "Relu"},
        {"layer": "GlobalAvgPool"},
    ],
}  # fmt: skip


def ring(rng: np.random.Generator) -> np.ndarray:
    """Edges of a ring with two chords."""
    edges = np.zeros((NODES, NODES))
    edges[np.arange(NODES), (np.arange(NODES) + 1) % NODES] = 1
    for _ in range(2):
        a, b = rng.choice(NODES, 2, replace=False)
        edges[a, b] = 1
    return edges


def tree(rng: np.random.Generator) -> np.ndarray:
    """Edges of a tree whose vertices join others with a chance that grows with their degree, and
    one more."""
    edges, degrees = np.zeros((NODES, NODES)), np.ones(NODES)
    for new in range(1, NODES):
        old = rng.choice(new, p=degrees[:new] / degrees[:new].sum())
        edges[new, old] = 1
        degrees[[new, old]] += 1
    a, b = rng.choice(NODES, 2, replace=False)
    edges[a, b] = 1
    return edges


def write(folder: Path) -> None:
    """x.npy: degrees, one-hot; edges.npy: means over each vertex and its neighbours; y.npy."""
    rng = np.random.default_rng(0)
    for name, count in (("train", TRAIN), ("test", TEST)):
        y = rng.integers(0, 2, count)
        edges = np.stack([(ring, tree)[label](rng) for label in y])
        edges = np.maximum(edges, edges.transpose(0, 2, 1))
        # Vertices in another order, so that their numbers say nothing.
        for one in edges:
            order = rng.permutation(NODES)
            one[:] = one[np.ix_(order, order)]
        degrees = np.minimum(edges.sum(axis=2), DEGREES).astype(int) - 1
        with_itself = edges + np.eye(NODES)
        np.save(folder / f"{name}-x.npy", np.eye(DEGREES)[degrees])
        np.save(folder / f"{name}-edges.npy", with_itself / with_itself.sum(axis=1, keepdims=True))
        np.save(folder / f"{name}-y.npy", y)
    (folder / "network.json").write_text(json.dumps(NETWORK))


def widegram(*arguments: object) -> dict[str, float]:
    """Run a command; what it prints with --json."""
    command = [sys.executable, "-m", "widegram_cli", *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def main(folder: Path) -> None:
    """Write the graphs and classify them."""
    write(folder)
    net, train, test = ("--net", folder / "network.json"), folder / "train", folder / "test"
    x, edges = f"{train}-x.npy", f"{train}-edges.npy"
    k, cross, alpha = (folder / name for name in ("graphs.h5", "graphs-cross.h5", "alpha.h5"))
    rows = ("--x", f"{test}-x.npy", "--pattern", f"{test}-edges.npy")
    widegram("gram", *net, "--x", x, "--pattern", edges, "--dtype", "float64", "--out", k)
    widegram("gram", *net, *rows, "--x2", x, "--pattern2", edges, "--dtype", "float64",
             "--out", cross)  # fmt: skip
    widegram("solve", k, "--kernel", "ntk", "--y", f"{train}-y.npy", "--diag-reg", "1e-3",
             "--out", alpha)  # fmt: skip
    found = widegram("predict", alpha, "--cross", cross, "--y", f"{test}-y.npy")
    print(f"graph classification: accuracy {found['accuracy']:.4f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
