"""A memory map of the exported .npy: gradient descent, and the largest stable learning rate."""

import sys
from pathlib import Path

import h5py
import numpy as np

folder = Path(sys.argv[1])
k = np.load(folder / "K.npy", mmap_mode="r")  # pages are read when they are used
with h5py.File(folder / "digits.h5") as data, h5py.File(folder / "Kc.h5") as cross:
    y_train, y_test, k_test = data["train/y"][:], data["test/y"][:], cross["ntk"][:]

vector = np.ones(len(k))
for _ in range(30):
    vector = k @ (vector / np.linalg.norm(vector))
rate = 1.0 / np.linalg.norm(vector)  # half of the largest stable one, 2 / lambda_max

targets, alpha = np.eye(10)[y_train] - 0.1, np.zeros((len(k), 10))
for _ in range(1000):
    alpha += rate * (targets - k @ alpha)
print(f"accuracy {np.mean((k_test @ alpha).argmax(axis=1) == y_test):.4f}")
