"""CIFAR-10 kept as JPEG, decoded for ``widegram data prepare``.

    python -m widegram_bench.published.jpeg cifar10_jpeg.npz --train 2000 --out cifar10.npz

The file has, for part = train, test: jpeg_<part>, all pictures one behind the other as bytes,
offsets_<part> (n + 1,), and y_<part> (n,). Prints one JSON object.
"""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.durable import write_bytes
from widegram_bench.published.modules import ended, opened


def decoded(source: Path, part: str, limit: int | None) -> tuple[NDArray[np.uint8], NDArray]:
    """(images (n, 32, 32, 3), labels (n,)) of 'train' or 'test', the first ``limit`` of them.

    Raises WidegramError for a file that lacks them.
    """
    from PIL import Image

    with opened(source) as pack:
        data, at, y = (pack[f"{name}_{part}"] for name in ("jpeg", "offsets", "y"))
    n = len(y) if limit is None else min(limit, len(y))
    images = np.empty((n, 32, 32, 3), np.uint8)
    for k in range(n):
        picture = Image.open(io.BytesIO(data[at[k] : at[k + 1]].tobytes()))
        images[k] = np.asarray(picture.convert("RGB"))
    return images, y[:n]


def main() -> None:
    """Decode, write x_train, y_train, x_test, y_test."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("--train", type=int, help="the first N training images [default: all]")
    parser.add_argument("--test", type=int, help="the first N test images [default: all]")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    arrays: dict[str, Any] = {}
    for part, limit in (("train", given.train), ("test", given.test)):
        arrays[f"x_{part}"], arrays[f"y_{part}"] = decoded(given.source, part, limit)
    file = io.BytesIO()
    np.savez(file, **arrays)
    write_bytes(given.out, file.getvalue(), overwrite=True)
    print(json.dumps({name: list(array.shape) for name, array in arrays.items()}))


if __name__ == "__main__":
    ended(main)
