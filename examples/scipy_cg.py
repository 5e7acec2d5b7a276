"""SciPy's conjugate gradients on an operator that reads the file row panel by row panel."""

import sys
from pathlib import Path

import h5py
import numpy as np
from scipy.sparse.linalg import LinearOperator, cg

PANEL = 512

folder = Path(sys.argv[1])
with h5py.File(folder / "digits.h5") as data:
    y_train, y_test = data["train/y"][:], data["test/y"][:]

with h5py.File(folder / "K.h5") as train, h5py.File(folder / "Kc.h5") as cross:
    k, n = train["ntk"], train["ntk"].shape[0]
    diagonal = np.array([k[i, i] for i in range(n)])
    reg = 1e-3 * diagonal.mean()

    def product(v: np.ndarray) -> np.ndarray:
        """(K + reg I) v without ever holding K."""
        panels = [k[lo : lo + PANEL] @ v for lo in range(0, n, PANEL)]
        return np.concatenate(panels) + reg * v

    operator = LinearOperator((n, n), matvec=product, dtype=np.float64)
    columns = []
    for column in (np.eye(10)[y_train] - 0.1).T:
        alpha, failed = cg(operator, column, rtol=1e-8, maxiter=5000)
        if failed:
            raise SystemExit(f"not converged: {failed}")
        columns.append(alpha)
    mean = cross["ntk"][:] @ np.stack(columns, axis=1)
print(f"accuracy {np.mean(mean.argmax(axis=1) == y_test):.4f}")
