"""examples/finite_width.py: its gradients, its training beside the kernel's, its table."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import widegram

EXAMPLE = Path(__file__).parents[1] / "examples" / "finite_width.py"
spec = importlib.util.spec_from_file_location("finite_width", EXAMPLE)
assert spec is not None
assert spec.loader is not None
finite_width = importlib.util.module_from_spec(spec)
spec.loader.exec_module(finite_width)
SHAPE = (4, 3, 2)


def made(kind: str, width: int, seed: int = 0, depth: int = 2):
    """A network in float64."""
    network = finite_width.Network(kind, SHAPE, width, depth, 1.7, 3, np.random.default_rng(seed))
    network.weights = [w.astype(float) for w in network.weights]
    network.biases = [b.astype(float) for b in network.biases]
    return network


@pytest.mark.parametrize("kind", ["fcn", "cnn-f", "cnn-p"])
def test_gradients(kind: str) -> None:
    rng = np.random.default_rng(1)
    x, error = rng.standard_normal((2, *SHAPE)), rng.standard_normal((2, 3))
    network = made(kind, 4)
    found = network.gradients(network.forward(x)[1], error)
    of = zip([*network.weights, *network.biases], [*(w for w, _ in found), *(b for _, b in found)],
             strict=True)  # fmt: skip
    for values, gradient in of:
        for at in list(np.ndindex(values.shape))[:10]:
            kept, sums = values[at], []
            for change in (1e-5, -1e-5):
                values[at] = kept + change
                sums.append(np.sum(network.forward(x)[0] * error))
            values[at] = kept
            # third derivatives times 1e-10, rounding over 1e-5
            assert (sums[0] - sums[1]) / 2e-5 == pytest.approx(gradient[at], abs=1e-7)


@pytest.mark.parametrize("kind", ["fcn", "cnn-f", "cnn-p"])
def test_the_tangent_kernel_is_the_engines(kind: str) -> None:
    """Mean over networks of the inner products of gradients: conventions agree."""
    x = np.random.default_rng(2).standard_normal((2, *SHAPE))
    text = f"{kind}:depth=2,act=erf,w_var=1.7,b_var={finite_width.B_VAR}"
    wanted = np.asarray(widegram.kernel(text, x, get="ntk", dtype="float64"))
    drawn = []
    for seed in range(12):
        network = made(kind, 128, seed)
        rows = []
        for image in x:
            kept = network.forward(image[None])[1]
            parts = network.gradients(kept, np.eye(3)[:1])
            rows.append(np.concatenate([np.ravel(part) for pair in parts for part in pair]))
        drawn.append([[a @ b for b in rows] for a in rows])
    # means scatter by 1 / sqrt(128 * 12) = 2.6 % and are off by 1 / 128: five times the former
    np.testing.assert_allclose(np.mean(drawn, axis=0), wanted, atol=0.13 * wanted.max())


def test_prediction_is_descent() -> None:
    rng = np.random.default_rng(3)
    root = rng.standard_normal((7, 5))  # a matrix without full rank
    theta, y, cross = (
        root @ root.T,
        rng.standard_normal((7, 2)),
        rng.standard_normal((3, 5)) @ root.T,
    )
    rate = 7 / np.linalg.eigvalsh(theta)[-1]
    f, test = np.zeros_like(y), np.zeros((3, 2))
    for _ in range(40):
        error = (y - f) * rate / 7
        f, test = f + theta @ error, test + cross @ error
    found = finite_width.predicted(theta, cross, y, rate, 40)
    # rounding of 40 steps
    np.testing.assert_allclose(found[0], f, atol=1e-12)
    np.testing.assert_allclose(found[1], test, atol=1e-12)


def test_wider_is_nearer() -> None:
    """The difference falls as the width grows: by 4 where it goes as its inverse root."""
    narrow, wide = (
        finite_width.main(
            ["--width", str(width), "--w-var", "1.5", "--depths", "2", "--train", "32",
             "--test", "50", "--steps", "20", "--batch", "32"]
        )[0]
        for width in (64, 1024)
    )  # fmt: skip
    assert wide[-1] < narrow[-1] / 2
    assert wide[2] == pytest.approx(wide[3], abs=0.1)  # three of 32 images


def test_the_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rows = [(w, depth, *np.linspace(0, 1, 4), 0.1) for w in (1.0, 2.5) for depth in (1, 10, 25)]
    finite_width.picture(rows, "fcn", tmp_path / "grid.png")
    assert (tmp_path / "grid.png").read_bytes().startswith(b"\x89PNG")
