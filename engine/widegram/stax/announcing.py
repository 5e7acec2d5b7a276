"""What is said, or refused, of errors near c = 1 of kernels that the dense reference computes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from widegram.network.piece import Piece
from widegram.plan.announced import say
from widegram.plan.carried import ROUNDINGS
from widegram.plan.formulas import formulas_of
from widegram.plan.graph import piece_graph
from widegram.stax.patterns import Patterns

if TYPE_CHECKING:
    from widegram.reference.pieces import Start


def announce(
    piece: Piece, start: Start, ntk: bool, accept: float, patterns: Patterns | None
) -> None:
    """As of networks that end in vectors (:func:`widegram.plan.announced.say`), for layers on
    ``start``; ``patterns``: weights of the graphs, where values are some.

    Raises WidegramError where values may miss a tenth of their size.
    """
    received = 1.0
    if patterns is not None:
        received = max(float(np.abs(weights).sum(axis=1).max()) for weights in patterns)
    nodes = piece_graph(piece, received)
    formulas = formulas_of(nodes, start.largest, "float64")
    error = ROUNDINGS * start.eps / float(np.finfo(np.float64).eps)
    say(nodes, ntk, formulas, start.largest, "float64", accept, error)
