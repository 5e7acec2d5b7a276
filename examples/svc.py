"""A support vector machine on the NTK: scikit-learn with a precomputed kernel."""

import sys
from pathlib import Path

import h5py
from sklearn.svm import SVC

folder = Path(sys.argv[1])
with h5py.File(folder / "K.h5") as train, h5py.File(folder / "Kc.h5") as cross:
    k_train, k_test = train["ntk"][:], cross["ntk"][:]  # (n, n), (n_test, n)
with h5py.File(folder / "digits.h5") as data:
    y_train, y_test = data["train/y"][:], data["test/y"][:]

scale = k_train.diagonal().mean()  # SVC's C counts in units of the kernel
model = SVC(kernel="precomputed", C=10.0).fit(k_train / scale, y_train)
print(f"accuracy {model.score(k_test / scale, y_test):.4f}")
