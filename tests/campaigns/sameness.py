"""Whether a change of the code leaves every bit alone: ``python -m campaigns.sameness FILE``.

Writes digests of Gram matrices and of the text of ``widegram net --device cuda --source`` of many
networks to FILE, or compares with those where FILE exists. Digests hold for one machine and one
set of installed packages. Every layer, padding, stride, window and activation occurs, with depths,
vectors and images, both dtypes, symmetric and cross matrices; then random networks.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from click.testing import CliRunner

import widegram
from campaigns.drawing import CLOSED, SERIES, draw
from widegram_cli.main import program

RANDOM = 60


class Case(NamedTuple):
    """A network with inputs; ``depths`` () without a sweep."""

    spec: dict[str, Any]
    x1: np.ndarray
    x2: np.ndarray | None = None
    depths: tuple[int, ...] = ()


def conv(rows: int = 3, cols: int = 3, padding: str = "SAME", strides: Any = (1, 1)) -> dict:
    return {
        "layer": "Conv", "filter_shape": [rows, cols], "padding": padding,
        "strides": list(strides), "W_std": 1.2, "b_std": 0.1,
    }  # fmt: skip


def pool(kind: str, rows: int, cols: int, strides: Any, padding: str = "VALID") -> dict:
    return {
        "layer": kind, "window_shape": [rows, cols], "strides": list(strides), "padding": padding,
    }  # fmt: skip


RELU, DENSE = {"layer": "Relu"}, {"layer": "Dense", "W_std": 1.3, "b_std": 0.2}
GAP, GSP, FLATTEN = ({"layer": f"{n}"} for n in ("GlobalAvgPool", "GlobalSumPool", "Flatten"))
NORM, DROPOUT = {"layer": "LayerNorm"}, {"layer": "Dropout", "rate": 0.6}
PADDINGS = ("SAME", "VALID", "CIRCULAR")
PARAMETERS = {"LeakyRelu": {"alpha": 0.1}, "ABRelu": {"a": 0.2, "b": 1.1}}


def residual(*branch: dict, shortcut: tuple[dict, ...] = ()) -> dict:
    return {"layer": "Residual", "branch": list(branch), "shortcut": list(shortcut)}


def repeat(times: int, *body: dict) -> dict:
    return {"layer": "Repeat", "times": times, "body": list(body)}


def image_stacks() -> Iterator[tuple[str, list[dict]]]:
    """Layers of networks of images, by name."""
    for padding in PADDINGS:
        for window in ((1, 1), (3, 3), (5, 5), (3, 1), (2, 2), (7, 7)):
            c = conv(*window, padding=padding)
            more = [c, RELU] if padding != "VALID" or window[0] < 5 else []
            yield f"{padding} {window}", [c, RELU, *more, FLATTEN, DENSE]
        for strides in ((2, 2), (1, 2), (3, 2)):
            c = conv(padding=padding, strides=strides)
            yield f"{padding} strides {strides}", [c, RELU, conv(2, 2), RELU, GAP, DENSE]
        for kind in ("AvgPool", "SumPool"):
            for window, strides in (((2, 2), (2, 2)), ((3, 3), (2, 2)), ((2, 1), (1, 1))):
                p = pool(kind, *window, strides, padding)
                stack = [conv(), RELU, p, conv(padding="CIRCULAR"), RELU, GAP]
                yield f"{kind} {padding} {window} {strides}", stack
    c, p = conv(), pool("AvgPool", 2, 2, (1, 1), "SAME")
    for name, end in (("gap", [GAP]), ("gsp", [GSP]), ("dense", [FLATTEN, DENSE, RELU, DENSE])):
        yield f"residual {name}", [c, residual(RELU, c, RELU, c), *end]
        yield f"pooled residual {name}", [c, p, residual(p, RELU, c), *end]
        yield f"projection {name}", [c, residual(RELU, c, shortcut=(conv(1, 1),)), *end]
        yield f"norm {name}", [c, NORM, RELU, DROPOUT, c, RELU, *end]
        yield f"deep {name}", [repeat(12, conv(padding="CIRCULAR"), RELU), *end]
    head = [DENSE, NORM, RELU, DENSE, residual(RELU, DENSE), RELU, DENSE]
    yield "heads", [conv(5, 5, "VALID"), RELU, GAP, *head]
    yield "whole image", [conv(8, 8, "VALID"), RELU, FLATTEN, DENSE]


def cases() -> Iterator[tuple[str, Case]]:
    """All cases by name, always the same."""
    rng = np.random.default_rng(5)
    small, other = rng.standard_normal((5, 8, 8, 3)), rng.standard_normal((4, 8, 8, 3))
    for number, (name, layers) in enumerate(image_stacks()):
        spec = {"input_shape": [8, 8, 3], "layers": layers}
        yield name, Case(spec, small, other if number % 2 else None)
    wide = rng.standard_normal((4, 12, 20, 2))
    for padding in PADDINGS:
        c = conv(padding=padding)
        yield (
            f"wide {padding}",
            Case({"input_shape": [12, 20, 2], "layers": [repeat(3, c, RELU), GAP, DENSE]}, wide),
        )
    vectors, others = rng.standard_normal((40, 17)), rng.standard_normal((9, 17))
    for act in (*CLOSED, *SERIES, "Identity", "Identity"):
        phi = {"layer": act, **PARAMETERS.get(act, {})}
        vector = [DENSE, phi, DENSE, phi, DENSE]
        yield f"fcn {act}", Case({"input_shape": [17], "layers": vector}, vectors, others)
        layers = [conv(), phi, conv(padding="CIRCULAR"), phi, GAP, DENSE]
        yield f"cnn {act}", Case({"input_shape": [8, 8, 3], "layers": layers}, small)
    body = [DENSE, NORM, {"layer": "Erf"}, DROPOUT]
    spec = {"input_shape": [17], "layers": [repeat(5, *body), DENSE]}
    yield "depths", Case(spec, vectors, None, (1, 2, 5))
    for name, end in (("flatten", [FLATTEN, DENSE]), ("pool", [GAP, DENSE])):
        spec = {"input_shape": [8, 8, 3], "layers": [conv(), repeat(4, RELU, conv()), *end]}
        yield f"depths {name}", Case(spec, small, other, (1, 3, 4))
    for number in range(RANDOM):
        drawn = draw(11, number)
        yield f"random {number}", Case(drawn.spec, drawn.x1, drawn.x2, drawn.depths)


def digests(folder: Path) -> dict[str, str]:
    """A digest, or the words of a refusal, by name of case, dtype and kind."""
    found = {}
    for name, case in cases():
        for dtype in ("float32", "float64"):
            found[f"{name}, {dtype}, bytes"] = _matrices(case, dtype, folder / "K.h5")
            found[f"{name}, {dtype}, source"] = _source(case, dtype)
    return found


def _matrices(case: Case, dtype: str, out: Path) -> str:
    out.unlink(missing_ok=True)
    options: dict[str, Any] = {"depths": case.depths} if case.depths else {}
    try:
        widegram.gram(
            case.spec, case.x1, out, case.x2, dtype=dtype, device="cpu", **options
        )
    except widegram.WidegramError as error:
        return f"refused: {error}"
    digest = hashlib.sha256()
    with h5py.File(out) as file:
        for key in sorted(_datasets(file)):
            digest.update(key.encode() + file[key][...].tobytes())
    return digest.hexdigest()


def _datasets(file: h5py.File) -> list[str]:
    keys: list[str] = []
    file.visititems(lambda key, item: keys.append(key) if _is_kernel(key, item) else None)
    return keys


def _is_kernel(key: str, item: Any) -> bool:
    """Whether a dataset is a matrix, or has the checksums of one; not K(x, x) of the inputs."""
    last = key.rpartition("/")[2]
    return isinstance(item, h5py.Dataset) and last in ("nngp", "ntk") and "diagonal" not in key


def _source(case: Case, dtype: str) -> str:
    words = ["net", json.dumps(case.spec), "--device", "cuda", "--source", "--dtype", dtype]
    if case.depths:
        words += ["--depths", ",".join(map(str, case.depths))]
    result = CliRunner().invoke(program, words)
    if result.exit_code == 2:
        return f"refused: {result.output}"
    if result.exit_code:
        return f"crashed: {result.exception!r}"
    return hashlib.sha256(result.stdout.encode()).hexdigest()


def main() -> int:
    """Record or compare; exit code 1 where a digest differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="digests, JSON")
    args = parser.parse_args()
    logging.getLogger("widegram").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        found = digests(Path(folder))
    if not args.file.exists():
        args.file.write_text(json.dumps(found, indent=0))
        print(f"{len(found)} digests recorded in {args.file}")
        return 0
    known = json.loads(args.file.read_text())
    differing = [name for name in {**known, **found} if known.get(name) != found.get(name)]
    for name in differing:
        print(f"{name}: {known.get(name)} became {found.get(name)}")
    print(f"{len(found) - len(differing)} of {len(found)} digests as recorded")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
