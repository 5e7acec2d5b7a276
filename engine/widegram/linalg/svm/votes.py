"""One against one: what a machine for each pair of classes says of all of them.

The machines of k classes are those of :func:`pairs`, each a function whose sign decides between
two classes. A class gets a vote for every machine that it wins; the first of those with the most
votes is predicted, as in LIBSVM.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def pairs(k: int) -> Array:
    """(p, 2) places of classes: the first of a row where its machine is positive, else the second.

    The order and the signs are those of scikit-learn's ``decision_function(shape='ovo')``, where
    two classes have one machine, which is positive for the later one.
    """
    return np.array([(1, 0)] if k == 2 else list(combinations(range(k), 2)))


def votes(decision: Array, k: int) -> Array:
    """The votes of every class, float64 (n, k), from decision values (n, p); of a value of 0 for
    the later class, as in LIBSVM."""
    found = np.zeros((len(decision), k))
    for column, (first, second) in zip(decision.T, pairs(k), strict=True):
        wins = column >= 0 if first > second else column > 0
        found[:, first] += wins
        found[:, second] += ~wins
    return found
