"""A grid of (w_var, depth): what is asked for, what is found, and where its kernels come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from widegram.errors import WidegramError
from widegram.meanfield.theory.fixedpoint import check_variances
from widegram.meanfield.theory.one_layer import Array
from widegram.validation.choices import FAMILIES


@dataclass(frozen=True)
class Grid:
    """What is computed: ``net`` is one of FAMILIES, times are in units of eta = 2 / lambda_max."""

    net: str
    act: str
    w_var: Array
    b_var: float
    depths: tuple[int, ...]
    times: tuple[float, ...]

    def check(self) -> None:
        """Raise WidegramError for bad variances, an unknown net, bad depths or times."""
        check_variances(self.w_var, np.array([self.b_var]))
        if self.net not in FAMILIES:
            raise WidegramError(f"net {self.net!r} is unknown; choose from {', '.join(FAMILIES)}")
        if not self.depths or min(self.depths) < 1:
            raise WidegramError("depths: give at least one, each 1 or more")
        if not self.times or not all(time > 0 for time in self.times):
            raise WidegramError("times: give at least one, each positive")


@dataclass(frozen=True)
class MapRow:
    """One w_var: arrays (depths, times), and per depth lambda_max and kappa."""

    train_accuracy: Array
    test_accuracy: Array
    train_mse: Array
    test_mse: Array
    lambda_max: Array
    kappa: Array


Work = Callable[[slice, Array], Array]
# Numbers of rows with what was found, and how many workers share the work, 0 without any.
Rows = Iterator[tuple[int, MapRow, int]]


class RowKernels(Protocol):
    """Where the deviations of a row come from; ``test`` yields blocks of test images."""

    def train(self) -> tuple[Array, Array]:
        """levels (depths,) and D = level - Theta of the training set, (depths, m, m)."""
        ...

    def test(self, work: Work) -> Iterator[Array]:
        """Yield ``work(rows, D)``, D (depths, len(rows), m), for blocks of all test images."""
        ...


