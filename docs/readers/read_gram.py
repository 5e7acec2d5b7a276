"""Read a Gram file with h5py alone (and xxhash, for the checksums): `python read_gram.py K.h5`."""

import sys

import h5py
import numpy as np
import xxhash


def check(file, name):
    """Compare every tile of a matrix, and K(x, x) of its inputs, with their checksums."""
    matrix, flags, sums = (file[p] for p in (name, "state/tiles", f"state/checksums/{name}"))
    side = int(file.attrs["tile"])
    for i, j in np.ndindex(*sums.shape):
        block = matrix[i * side : (i + 1) * side, j * side : (j + 1) * side]
        if flags[i, j] != 1 or xxhash.xxh3_64_intdigest(block.tobytes()) != sums[i, j]:
            raise ValueError(f"{name}: tile {i},{j} is not what was written")
    for x in file.get("diagonal", ()):
        own = file[f"diagonal/{x}/{name}"][...]
        for k, digest in enumerate(file[f"state/checksums/diagonal/{x}/{name}"]):
            if xxhash.xxh3_64_intdigest(own[k * side : (k + 1) * side].tobytes()) != digest:
                raise ValueError(f"diagonal/{x}/{name}: stretch {k} is not what was written")


def read(path, name="ntk"):
    """One matrix (n1, n2) of a complete Gram file, its checksums compared."""
    with h5py.File(path) as file:
        if file.attrs.get("format") != "widegram-gram" or file.attrs["format_version"] != 2:
            raise ValueError(f"{path}: no Gram file of format version 2")
        if not file.attrs["complete"]:
            raise ValueError(f"{path}: tiles are missing; run its `widegram gram` command again")
        check(file, name)
        return file[name][...]


if __name__ == "__main__":
    kernel = read(*sys.argv[1:3])
    print(*kernel.shape, f"{kernel.sum(dtype=float):.10g}")
