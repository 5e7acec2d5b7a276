"""One case beside the dense reference: errors, refusals, failures."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from campaigns.drawing import Case
from widegram.backends.job import Job
from widegram.computing.choosing import make_evaluator
from widegram.data import open_source
from widegram.errors import WidegramError
from widegram.network import Network, load_network
from widegram.reference import ReferenceEvaluator

DTYPES = ("float64", "float32")
BOTH = ("nngp", "ntk")
MEMORY = 2**28
Arrays = dict[str, np.ndarray]

# What is promised of the largest entry (between nearly equal inputs in float32). A case may exceed
# it by what a rounding of its inputs does to the reference.
PROMISED = {"float64": 1e-10, "float32": 1e-4}
EPS = {"float64": 2.0**-52, "float32": 2.0**-23}
# Kinked activations turn a rounding of c = 1, between pixels that coincide as between images, into
# an angle, its square root, in every layer; in the reference too. Sign makes K itself of angles:
# the next one takes the root of that.
KINKED = ("Relu", "LeakyRelu", "ABRelu", "Abs", "Sign")
ANGLES = 10


class Error(NamedTuple):
    """Largest error of one matrix, relative to its largest entry and, entry by entry, to
    sqrt(K_ii K_jj); ``allowed``: what the first may be."""

    key: str
    dtype: str
    of_largest: float
    of_diagonal: float
    allowed: float

    @property
    def promised(self) -> bool:
        """Whether it is as small as the README promises."""
        return self.of_largest <= PROMISED[self.dtype]

    @property
    def failed(self) -> bool:
        """Whether it is too large (NaN is)."""
        return not self.of_largest <= self.allowed


class Verdict(NamedTuple):
    """``errors`` of every matrix in every dtype; ``refused``: (dtype, message) where nothing was
    computed; ``unjudged``: why the reference itself says nothing, "" where it does."""

    errors: list[Error]
    refused: list[tuple[str, str]]
    unjudged: str = ""


def judge(case: Case) -> Verdict:
    """Compute a case in both dtypes and compare."""
    try:
        network = load_network(case.spec)
    except WidegramError as error:
        return Verdict([], [("network", kind_of(str(error)))])
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        wanted, diagonals = reference(network, case)
        if not all(np.isfinite(value).all() for value in wanted.values()):
            return Verdict([], [], "the reference leaves the range of float64")
    errors, refused = [], []
    for dtype in DTYPES:
        try:
            found, declared = computed(network, case, dtype)
        except WidegramError as error:
            refused.append((dtype, kind_of(str(error))))
            continue
        allowed = allowance(network, dtype, declared)
        errors += compare(network, case, dtype, allowed, found, wanted, diagonals)
    return Verdict(errors, refused)


def kind_of(message: str) -> str:
    """A message without its numbers, so that equal refusals count together."""
    return re.sub(r"-?\d[\d.,e+-]*", "#", message)


def computed(network: Network, case: Case, dtype: str) -> tuple[Arrays, float]:
    """What the CPU backend computes, and the relative error that it declares of activations
    without a closed form, 0 without them."""
    first = open_source(case.x1)
    second = None if case.x2 is None else open_source(case.x2)
    evaluator = make_evaluator(
        "cpu", Job(network, first, second, BOTH, case.depths, dtype, 1, MEMORY)
    )
    columns = range(len(case.x1 if case.x2 is None else case.x2))
    declared = evaluator.series_error or 0.0
    return evaluator.tile(range(len(case.x1)), columns, case.x2 is None), declared


def reference(network: Network, case: Case) -> tuple[Arrays, Arrays]:
    """Matrices by the dense reference, and sqrt(K_ii K_jj) for each of their entries.

    One symmetric matrix over the rows of both inputs: its corner is the cross matrix.
    """
    n = len(case.x1)
    x = case.x1 if case.x2 is None else np.concatenate([case.x1, case.x2])
    evaluator = ReferenceEvaluator(Job(network, open_source(x), None, BOTH, case.depths))
    whole = evaluator.tile(range(len(x)), range(len(x)), True)
    columns = slice(0, n) if case.x2 is None else slice(n, None)
    scales = {key: np.sqrt(np.abs(np.diag(value))) for key, value in whole.items()}
    diagonals = {key: np.outer(s[:n], s[columns]) for key, s in scales.items()}
    return {key: value[:n, columns] for key, value in whole.items()}, diagonals


def compare(
    network: Network, case: Case, dtype: str, most: float, found: Arrays, wanted: Arrays,
    diagonals: Arrays,
) -> Iterator[Error]:  # fmt: skip
    """The errors of every matrix; ``most``: see :func:`allowance`."""
    moved: Arrays = {}
    for key, value in wanted.items():
        difference = np.abs(found[key].astype(np.float64) - value)
        largest = float(np.abs(value).max())
        of_largest = _quotient(difference, largest)
        allowed = most
        if not of_largest <= allowed:
            moved = moved or sensitivity(network, case, EPS[dtype])
            allowed = max(allowed, 10 * _quotient(moved[key], largest))
        of_diagonal = _quotient(difference, diagonals[key])
        if of_diagonal <= EPS[dtype]:
            # Every entry of the matrix is nothing beside its inputs' own: 0 is as good.
            allowed = max(allowed, of_largest)
        yield Error(key, dtype, of_largest, of_diagonal, allowed)


def allowance(network: Network, dtype: str, declared: float) -> float:
    """What the layers of a network make of roundings, and of a ``declared`` error, at worst."""
    names = kinds(network)
    error = max(EPS[dtype], ANGLES * declared)
    if not set(names) & set(KINKED):
        return max(PROMISED[dtype], error)
    return max(PROMISED[dtype], ANGLES * float(error ** (0.5 ** max(1, names.count("Sign")))))


def sensitivity(network: Network, case: Case, eps: float) -> Arrays:
    """How far, entry by entry, the reference moves when inputs move by a rounding ``eps``: far
    where a LayerNorm divides by a variance in which pixels cancelled, or everything cancels."""
    rng = np.random.default_rng(0)

    def near(x: np.ndarray | None) -> np.ndarray | None:
        return None if x is None else x * (1 + eps * rng.uniform(-1, 1, x.shape))

    wanted, _ = reference(network, case)
    moved, _ = reference(network, case._replace(x1=near(case.x1), x2=near(case.x2)))
    return {key: np.abs(moved[key] - value) for key, value in wanted.items()}


def kinds(network: Network) -> list[str]:
    """The names of a network's layers, nested ones included, repeats written out."""
    return [path.rsplit(" ", 1)[-1] for path, _, _ in network.unrolled().shapes()]


def _quotient(part: Any, whole: Any) -> float:
    """The largest part / whole, 0 / 0 being 0."""
    with np.errstate(all="ignore"):
        return float(np.max(np.where(part == 0, 0.0, part / whole)))
