"""CNTK-GAP (Arora et al. 2019, arXiv:1904.11955): convolutions, global average pooling, and a first
and last layer that are not trained; beside it the kernel of the network with all layers trained."""

import sys
from pathlib import Path

import h5py
import numpy as np

import widegram

folder = Path(sys.argv[1])
with h5py.File(folder / "digits.h5") as data:
    x, x_test = data["train/x"][:200], data["test/x"][:100]
    y, y_test = data["train/y"][:200], data["test/y"][:100]

CNTK = "cnn-p:depth=2,padding=same"  # as a specification: "W_rate": 0, "b_rate": 0 in a layer
for title, options in (("all layers trained", ""), ("CNTK-GAP", ",fixed_first=1,fixed_last=1")):
    network = CNTK + options
    ntk = widegram.kernel(network, x, get="ntk", dtype="float64")
    alpha = np.linalg.solve(ntk, np.eye(10)[y] - 0.1)
    found = widegram.kernel(network, x_test, x, get="ntk", dtype="float64") @ alpha
    accuracy = np.mean(found.argmax(axis=1) == y_test)
    print(f"{title}: {accuracy:.4f}")
print(f"accuracy {accuracy:.4f}")
