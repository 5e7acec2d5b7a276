"""The largest learning rate at which gradient descent converges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy import linalg

from widegram.errors import WidegramError
from widegram.linalg.eigen import partial_eigen
from widegram.linalg.gramsource import open_train
from widegram.linalg.operator import GramOperator
from widegram.machine.budgets import free_memory
from widegram.predict.as_matrices import matrix
from widegram.predict.kernels import kernel_of
from widegram.validation.arrays import finite, number

_DENSE_MOST = 1500


def max_learning_rate(
    ntk_train_train: Any,
    y_train_size: int | None = None,
    momentum: float = 0.0,
    eps: float = 1e-12,
) -> float:
    """2 (1 + momentum) y_train_size / (lambda_max + eps), as in neural-tangents.

    For the loss |f - y|^2 / (2 y_train_size). ``ntk_train_train`` is an array (n, n) or
    (n, n, Y, Y, ...), or a Gram file, which is streamed; ``y_train_size`` None is its number of
    rows as a matrix. Raises WidegramError for a kernel that is not square or not finite.
    """
    momentum, eps = number(momentum, "momentum"), number(eps, "eps")
    if isinstance(ntk_train_train, (str, Path)):
        memory = free_memory() // 8
        with open_train(ntk_train_train, "ntk", memory=memory) as train:
            rows, top = train.operator.shape[0], largest_eigenvalue(train.operator, memory)
    else:
        name = "ntk_train_train"
        square = matrix(finite(kernel_of(ntk_train_train, "ntk", name), name), name)
        if square.shape[0] != square.shape[1]:
            raise WidegramError(f"{name} is not square: it has shape {square.shape}")
        rows, top = square.shape[0], _largest(square)
    size = rows if y_train_size is None else number(y_train_size, "y_train_size", 1.0)
    return 2.0 * (1.0 + momentum) * size / (top + eps)


def largest_eigenvalue(operator: GramOperator, memory: int) -> float:
    """lambda_max by block Krylov, to about 1e-10."""
    return float(partial_eigen(operator, 1, "LA", tol=1e-7, memory=memory).values[0])


def _largest(square: Any) -> float:
    n = square.shape[0]
    square = np.asarray(square, dtype=np.float64)
    if n > _DENSE_MOST:
        return largest_eigenvalue(GramOperator(square, memory=1 << 26), 8 * n * 500)
    values = linalg.eigvalsh(square, subset_by_index=[n - 1, n - 1], check_finite=False)
    return float(values[-1])
