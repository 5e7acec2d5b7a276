"""How exact kernels are between nearly equal inputs: ``python -m widegram_bench.accuracy``.

Pairs of inputs at given angles go through networks of given depths, in float32 and float64. The
truth for fully connected networks is the recursion of a pair's (q, k, T) in 60 digits (mpmath),
written here from the formulas of Cho and Saul 2009 (ReLU), Williams 1997 (Erf) and of sines; where
no such formula is at hand, and for images, the engine's own float64 serves for float32. Errors are
relative to the largest entry, that of the inputs with themselves. Prints a table in Markdown;
``--json FILE`` keeps every figure.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import mpmath as mp
import numpy as np

import widegram
from widegram.validation.choices import DTYPES, KERNELS

DEPTHS = (1, 3, 10, 30, 100)
ANGLES = (0.0, 1e-4, 1e-3, 2e-3, 1e-2, 1e-1, 1.0)
FEATURES = 32
IMAGE = (6, 6, 3)
PAIRS = 4
DIGITS = 60

Pair = tuple[Any, Any]
Dual = Callable[[Any, Any], Pair]


def _relu(q: Any, k: Any) -> Pair:
    c = k / q
    angle = mp.acos(c)
    value = q * (mp.sqrt(1 - c * c) + (mp.pi - angle) * c) / (2 * mp.pi)
    return value, (mp.pi - angle) / (2 * mp.pi)


def _abrelu(a: float, b: float) -> Dual:
    def dual(q: Any, k: Any) -> Pair:
        value, slope = _relu(q, k)
        square, product = mp.mpf(a - b) ** 2, mp.mpf(a) * b
        return square * value + product * k, square * slope + product

    return dual


def _erf(q: Any, k: Any) -> Pair:
    value = 2 / mp.pi * mp.asin(2 * k / (1 + 2 * q))
    return value, 4 / mp.pi / mp.sqrt((1 + 2 * q) ** 2 - 4 * k * k)


def _sin(q: Any, k: Any) -> Pair:
    near, far = mp.exp(k - q) / 2, mp.exp(-k - q) / 2
    return near - far, near + far


def _rbf(q: Any, k: Any) -> Pair:
    value = mp.exp(-2 * (q - k))
    return value, 2 * value


class Subject(NamedTuple):
    """One kind of network: activation, W_std^2, b_std^2, and its dual in many digits or None."""

    name: str
    layer: dict[str, Any]
    w_var: float
    b_var: float
    dual: Dual | None = None


SETTINGS = (
    Subject("ReLU", {"layer": "Relu"}, 2.0, 0.0, _relu),
    Subject("LeakyReLU 0.1", {"layer": "LeakyRelu", "alpha": 0.1}, 1.9, 0.05, _abrelu(0.1, 1.0)),
    Subject("Abs", {"layer": "Abs"}, 1.0, 0.0, _abrelu(-1.0, 1.0)),
    Subject("Erf, ordered", {"layer": "Erf"}, 1.25, 0.05, _erf),
    Subject("Erf, critical", {"layer": "Erf"}, 1.75, 0.18, _erf),
    Subject("Erf, chaotic", {"layer": "Erf"}, 3.0, 0.05, _erf),
    Subject("Sin", {"layer": "Sin"}, 2.0, 0.1, _sin),
    Subject("Rbf", {"layer": "Rbf"}, 1.0, 0.1, _rbf),
    Subject("GELU", {"layer": "Gelu"}, 2.0, 0.1),
    Subject("Tanh, chaotic", {"layer": "Tanh"}, 2.5, 0.1),
)


def spec_of(setting: Subject, depth: int, image: bool) -> dict[str, Any]:
    """``depth`` times a Dense (a 3 x 3 Conv) and the activation, a global pool for images, and a
    readout."""
    weights = {"W_std": setting.w_var**0.5, "b_std": setting.b_var**0.5}
    layer = {"layer": "Dense", **weights}
    if image:
        layer = {"layer": "Conv", "filter_shape": [3, 3], "padding": "CIRCULAR", **weights}
    layers = [layer, setting.layer] * depth
    layers += [{"layer": "GlobalAvgPool"}] * image + [{"layer": "Dense", **weights}]
    return {"input_shape": list(IMAGE) if image else [FEATURES], "layers": layers}


def inputs(angle: float, image: bool) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of inputs ``angle`` apart, of mean square 1, numbers of float32 in float64."""
    rng = np.random.default_rng(3)
    shape = IMAGE if image else (FEATURES,)
    x, z = rng.standard_normal((2, PAIRS, *shape)).reshape(2, PAIRS, -1)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    z -= (z * x).sum(axis=1, keepdims=True) * x
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    pair = x, np.cos(angle) * x + np.sin(angle) * z
    size = np.sqrt(x.shape[1])
    first, second = (
        (v * size).astype(np.float32).astype(np.float64).reshape(PAIRS, *shape) for v in pair
    )
    return first, second


def recursion(setting: Subject, depth: int, x: np.ndarray, y: np.ndarray) -> dict[str, list[Any]]:
    """nngp and ntk of every pair, in many digits; the last pair is x[0] with itself."""
    found: dict[str, list[Any]] = {kernel: [] for kernel in KERNELS}
    for a, b in [*zip(x, y, strict=True), (x[0], x[0])]:
        k, t = _recursion(setting, depth, [mp.mpf(v) for v in a], [mp.mpf(v) for v in b])
        found["nngp"].append(k)
        found["ntk"].append(t)
    return found


def _recursion(setting: Subject, depth: int, a: list[Any], b: list[Any]) -> Pair:
    assert setting.dual is not None
    weights = setting.w_var**0.5, setting.b_var**0.5
    gain, bias = (mp.mpf(v) ** 2 for v in weights)
    n = len(a)
    qs = [mp.fdot(v, v) / n for v in (a, b)]
    k, t = mp.fdot(a, b) / n, mp.mpf(0)
    for layer in range(depth + 1):
        if layer:
            # One variance for both: the norms differ by a rounding of float32 alone, which the
            # cosine carries. Duals of two variances follow from it for homogeneous phi only.
            k, slope = _two(setting, qs, k)
            qs = [setting.dual(q, q)[0] for q in qs]
            t *= slope
        k, qs = gain * k + bias, [gain * q + bias for q in qs]
        t = k + gain * t
    return k, t


def _two(setting: Subject, qs: list[Any], k: Any) -> Pair:
    """The dual at two variances that hardly differ: of their geometric mean, which is exact for
    homogeneous phi and off by their relative difference squared (1e-14) for others."""
    assert setting.dual is not None
    q = mp.sqrt(qs[0] * qs[1])
    return setting.dual(q, min(k, q))


class Finding(NamedTuple):
    """The largest error over the pairs of one network at one angle, of the largest entry."""

    network: str
    depth: int
    angle: float
    kernel: str
    dtype: str
    error: float


def measure(depths: tuple[int, ...], angles: tuple[float, ...], image: bool) -> Iterator[Finding]:
    """Every setting at every depth and angle."""
    parts = [inputs(angle, image) for angle in angles]
    x, y = (np.concatenate([part[side] for part in parts]) for side in (0, 1))
    for setting in SETTINGS:
        exact = setting.dual is not None and not image
        for depth in depths:
            spec = spec_of(setting, depth, image)
            found = {dtype: _engine(spec, x, y, dtype) for dtype in DTYPES}
            truth: dict[str, list[Any]] = {k: list(v) for k, v in found["float64"].items()}
            if exact:
                with mp.workdps(DIGITS):
                    truth = recursion(setting, depth, x, y)
            for dtype in DTYPES if exact else ("float32",):
                for n, angle in enumerate(angles):
                    part = slice(n * PAIRS, (n + 1) * PAIRS)
                    yield from _rows(setting, depth, angle, dtype, found[dtype], truth, part)


def _engine(spec: dict[str, Any], x: np.ndarray, y: np.ndarray, dtype: str) -> dict[str, Any]:
    """nngp and ntk of the pairs, and of x[0] with itself."""
    cross = widegram.kernel(spec, x, y, dtype=dtype, device="cpu", threads=1)
    own = widegram.kernel(spec, x[:1], dtype=dtype, device="cpu", threads=1)
    return {
        kernel: [*np.diag(getattr(cross, kernel)).astype(float), float(getattr(own, kernel)[0, 0])]
        for kernel in KERNELS
    }


def _rows(
    setting: Subject, depth: int, angle: float, dtype: str, found: dict[str, Any],
    truth: dict[str, list[Any]], part: slice,
) -> Iterator[Finding]:  # fmt: skip
    for kernel in KERNELS:
        largest = max(abs(v) for v in truth[kernel])
        pairs = zip(found[kernel][part], truth[kernel][part], strict=True)
        error = max(float(abs(mp.mpf(f) - v) / largest) for f, v in pairs)
        yield Finding(setting.name, depth, angle, kernel, dtype, error)


def table(rows: list[Finding], dtype: str, across: str) -> str:
    """Markdown: the largest error of each network by ``across`` ('depth' or 'angle')."""
    columns = sorted({getattr(row, across) for row in rows})
    shown = ["equal" if across == "angle" and c == 0 else f"{c:g}" for c in columns]
    lines = [f"| {across} | " + " | ".join(shown) + " |", "|---" * (len(columns) + 1) + "|"]
    for name in dict.fromkeys(row.network for row in rows):
        cells = []
        for column in columns:
            errors = [r.error for r in rows
                      if r.network == name and r.dtype == dtype and getattr(r, across) == column]
            cells.append(f"{max(errors):.0e}" if errors else "")
        if any(cells):
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def report(vectors: list[Finding], images: list[Finding]) -> str:
    """All tables."""
    parts = []
    for title, rows in (("Fully connected", vectors), ("Convolutional, global pooling", images)):
        for dtype in DTYPES:
            if not any(row.dtype == dtype for row in rows):
                continue
            parts.append(f"## {title}, {dtype}\n\nBy the number of layers, at the worst angle:\n")
            parts.append(table(rows, dtype, "depth"))
            parts.append("\nBy the angle between the inputs (radians), at the worst depth:\n")
            parts.append(table(rows, dtype, "angle") + "\n")
    return "\n".join(parts)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--depths", default=",".join(map(str, DEPTHS)))
    parser.add_argument("--image-depths", default="1,3,10,30")
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    depths, image_depths = (
        tuple(int(d) for d in text.split(",") if d) for text in (args.depths, args.image_depths)
    )
    vectors = list(measure(depths, ANGLES, False))
    images = list(measure(image_depths, ANGLES, True))
    if args.json:
        with open(args.json, "w") as file:
            rows = [{"inputs": kind, **row._asdict()} for kind, rows in
                    (("vectors", vectors), ("images", images)) for row in rows]  # fmt: skip
            json.dump({"version": widegram.__version__, "rows": rows}, file, indent=0)
            file.write("\n")
    print(report(vectors, images))


if __name__ == "__main__":
    main()
