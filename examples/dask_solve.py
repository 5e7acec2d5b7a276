"""dask.array on the file's own chunks: lazily, in parallel, larger than memory."""

import sys
from pathlib import Path

import dask.array as da
import h5py
import numpy as np

folder = Path(sys.argv[1])
with h5py.File(folder / "digits.h5") as data:
    y_train, y_test = data["train/y"][:], data["test/y"][:]

with h5py.File(folder / "K.h5") as train, h5py.File(folder / "Kc.h5") as cross:
    n = train["ntk"].shape[0]
    k = da.from_array(train["ntk"], chunks=(200, 200))  # square chunks, as its Cholesky needs
    reg = 1e-3 * da.trace(k) / n
    one_hot = da.from_array(np.eye(10)[y_train] - 0.1, chunks=(200, 10))
    alpha = da.linalg.solve(k + reg * da.eye(n, chunks=200), one_hot, assume_a="pos")
    mean = (da.from_array(cross["ntk"], chunks=(200, 200)) @ alpha).compute()
print(f"accuracy {np.mean(mean.argmax(axis=1) == y_test):.4f}")
