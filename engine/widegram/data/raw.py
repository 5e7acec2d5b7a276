"""A labelled data set as its files hold it, before anything is selected or scaled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from widegram.data.columns import TableRows
from widegram.data.formats import Table
from widegram.errors import WidegramError


@dataclass(frozen=True)
class Split:
    """Inputs of shape (n, ...) and their labels of shape (n,) or (n, k), None where unknown."""

    x: Table
    y: np.ndarray | None

    def __post_init__(self) -> None:
        if self.y is not None and len(self.y) != self.x.shape[0]:
            raise WidegramError(
                f"{self.x.name}: has {self.x.shape[0]} inputs, but there are {len(self.y)} labels"
            )


@dataclass(frozen=True)
class RawData:
    """A data set: ``train``, ``test`` where the source keeps one apart, a note for the user, and
    the ``table`` that it is, if it is one."""

    name: str
    train: Split
    test: Split | None = None
    note: str = ""
    table: TableRows | None = None
