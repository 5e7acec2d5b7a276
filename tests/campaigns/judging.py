"""One case beside the dense reference: errors, refusals, failures."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from campaigns import exact
from campaigns.drawing import Case
from widegram.backends.augmented import Augmented
from widegram.backends.job import Job
from widegram.backends.rounded import Rounded
from widegram.computing.choosing import make_evaluator
from widegram.data import Source, open_source
from widegram.data.patterns import with_pattern
from widegram.data.several import open_inputs
from widegram.errors import WidegramError
from widegram.network import Network, load_network
from widegram.network.inputs import is_list, parts_of
from widegram.reference import ReferenceEvaluator

DTYPES = ("float64", "float32")
BOTH = ("nngp", "ntk")
MEMORY = 2**28
Arrays = dict[str, np.ndarray]

# What is promised of the largest entry (between nearly equal inputs in float32). A case may exceed
# it by what roundings explain.
PROMISED = {"float64": 1e-10, "float32": 1e-4}
EPS = {"float64": 2.0**-52, "float32": 2.0**-23}
# A layer sums up to 81 taps where the random one rounds once: about the root of that many
# roundings of random sign. The largest deviation of a few runs is within a factor of two of that of
# many.
ROUNDINGS = 10
FEW_RUNS = 2
# docs/accuracy.md: the angle that each kinked activation makes of pixels that coincide.
KINKED = ("Relu", "LeakyRelu", "ABRelu", "Abs", "Sign", "Elu")
KINKS = {"float64": 5e-8, "float32": 5e-4}
# docs/maps.md: where their numbers have either sign, what they make may cancel.
MAPS = ("DotGeneral", "Aggregate", "GlobalSelfAttention")


class Error(NamedTuple):
    """Largest error of one matrix, relative to its largest entry and, entry by entry, to
    sqrt(K_ii K_jj); ``allowed``: what the first may be; ``cause``: why it is beyond the promise, ""
    where it is not (see :meth:`Referee.explained`)."""

    key: str
    dtype: str
    of_largest: float
    of_diagonal: float
    allowed: float
    cause: str = ""

    @property
    def promised(self) -> bool:
        """Whether it is as small as the README promises."""
        return self.of_largest <= PROMISED[self.dtype]

    @property
    def failed(self) -> bool:
        """Whether it is too large (NaN is)."""
        return not self.of_largest <= self.allowed


class Known(NamedTuple):
    """What the engine says of errors: ``series``, the relative one of activations without a closed
    form, 0 without them; ``said``, the largest number in its warnings; ``wide``, whether float64
    was rounded to float32."""

    series: float = 0.0
    said: float = 0.0
    wide: bool = False


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
        try:
            wanted, diagonals = reference(network, case)
        except WidegramError as error:
            return Verdict([], [], f"the reference refuses: {kind_of(str(error))}")
        if not all(np.isfinite(value).all() for value in wanted.values()):
            return Verdict([], [], "the reference leaves the range of float64")
    errors, refused = [], []
    for dtype in DTYPES:
        try:
            found, known = computed(network, case, dtype)
        except WidegramError as error:
            refused.append((dtype, kind_of(str(error))))
            continue
        errors += compare(Referee(network, case, dtype, known), found, wanted, diagonals)
    return Verdict(errors, refused)


def kind_of(message: str) -> str:
    """A message without its numbers, so that equal refusals count together."""
    return re.sub(r"-?\d[\d.,e+-]*", "#", message)


def computed(network: Network, case: Case, dtype: str) -> tuple[Arrays, Known]:
    """What the CPU backend computes, and what it says of that."""
    first, second = sources(case)
    with _warnings_of_the_engine() as said:
        job = Job(
            network=network,
            x1=first,
            x2=second,
            kernels=BOTH,
            depths=case.depths,
            dtype=dtype,
            threads=1,
            memory=MEMORY,
        )
        evaluator = make_evaluator("cpu", job)
    columns = range(len(case.x1 if case.x2 is None else case.x2))
    wide = isinstance(evaluator, Rounded)
    known = Known(evaluator.series_error or 0.0, _largest_number(said), wide)
    return evaluator.tile(range(len(case.x1)), columns, case.x2 is None), known


def sources(case: Case) -> tuple[Source, Source | None]:
    """The inputs of a case, with their patterns."""
    first, second = case.patterns or (None, None)
    x1 = with_pattern(_opened(case, case.x1), first)
    return x1, None if case.x2 is None else with_pattern(_opened(case, case.x2), second)


def _opened(case: Case, x: np.ndarray) -> Source:
    """Rows as inputs of the network: arrays, or lists of them."""
    shapes = case.spec["input_shape"]
    if not is_list(shapes):
        return open_source(x)
    return open_inputs([
        x[:, part.numbers].reshape(len(x), *shape)
        for part, shape in zip(parts_of(shapes), shapes, strict=True)
    ])  # fmt: skip


@contextmanager
def _warnings_of_the_engine() -> Iterator[list[str]]:
    """Collects them, and shows none."""
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())
    logger = logging.getLogger("widegram")
    before, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield said
    finally:
        logger.removeHandler(handler)
        logger.propagate = before


def _largest_number(messages: list[str]) -> float:
    """The largest error that messages end with, rounded up to its last digit; infinity where one
    says that nothing is promised."""
    if any("nothing is promised" in message for message in messages):
        return np.inf
    found = [re.search(r"up to (\d(?:\.\d)?)e([+-]?\d+)$", message) for message in messages]
    return max((float(m[1] + "e" + m[2]) * 1.5 for m in found if m), default=0.0)


def reference(network: Network, case: Case) -> tuple[Arrays, Arrays]:
    """Matrices by the dense reference, and sqrt(K_ii K_jj) for each of their entries.

    One symmetric matrix over the rows of both inputs: its corner is the cross matrix.
    """
    n = len(case.x1)
    whole_case = _together(case)
    x = whole_case.x1
    job = Job(
        network=network,
        x1=sources(whole_case)[0],
        x2=None,
        kernels=BOTH,
        depths=case.depths,
    )
    plain = not network.augment
    evaluator = ReferenceEvaluator(job) if plain else Augmented(job, ReferenceEvaluator, both=True)
    whole = evaluator.tile(range(len(x)), range(len(x)), True)
    columns = slice(0, n) if case.x2 is None else slice(n, None)
    scales = {key: np.sqrt(np.abs(np.diag(value))) for key, value in whole.items()}
    diagonals = {key: np.outer(s[:n], s[columns]) for key, s in scales.items()}
    return {key: value[:n, columns] for key, value in whole.items()}, diagonals


def _together(case: Case) -> Case:
    """All inputs of a case as its first ones."""
    if case.x2 is None:
        return case
    patterns = case.patterns and (np.concatenate(case.patterns), None)
    return case._replace(x1=np.concatenate([case.x1, case.x2]), x2=None, patterns=patterns)


def compare(referee: Referee, found: Arrays, wanted: Arrays, diagonals: Arrays) -> Iterator[Error]:
    """The errors of every matrix: against ``wanted``, and where that is beyond the promise against
    the referee's values."""
    dtype = referee.dtype
    for key, value in wanted.items():
        error = _error(key, dtype, found[key], value, diagonals[key])
        for better in (referee.extended, referee.digits):
            if error.promised:
                break
            error = _error(key, dtype, found[key], better(key), diagonals[key])
            if not error.promised:
                error = referee.explained(error, float(np.abs(value).max()))
            if not error.failed:
                break
        if error.of_diagonal <= EPS[dtype]:
            # Every entry of the matrix is nothing beside its inputs' own: 0 is as good.
            error = error._replace(allowed=max(error.allowed, error.of_largest), cause="nothing")
        yield error


def _error(
    key: str, dtype: str, found: np.ndarray, wanted: np.ndarray, diagonal: np.ndarray
) -> Error:
    difference = np.abs(found.astype(np.float64) - wanted)
    of_largest = _quotient(difference, float(np.abs(wanted).max()))
    return Error(key, dtype, of_largest, _quotient(difference, diagonal), PROMISED[dtype])


class Referee:
    """Values of a case in many digits, and what random roundings do to them, made when needed."""

    def __init__(self, network: Network, case: Case, dtype: str, known: Known) -> None:
        self.dtype, self.known = dtype, known
        self._inputs = exact.Inputs.of(network, case.x1, case.x2, case.patterns)
        ends = network.ending(case.depths).items()
        self._networks = {end.path("").rstrip("/"): at_end for end, at_end in ends}
        self._kinks = KINKS[dtype] * sum(name in KINKED for name in kinds(network))
        self._maps = any(name in MAPS for name in kinds(network))
        self._made: dict[tuple[str, str], Arrays] = {}

    def extended(self, key: str) -> np.ndarray:
        """A matrix in extended precision."""
        return self._of(key, "extended", exact.extended)

    def digits(self, key: str) -> np.ndarray:
        """A matrix in 40 digits."""
        return self._of(key, "digits", exact.digits)

    def explained(self, error: Error, largest: float) -> Error:
        """``error`` with what it may be, as far as roundings go, and its cause, as a user can know
        it. ``largest``: of the matrix's entries.

        - said: a warning of this run gives as much;
        - inputs: a rounding of the inputs moves the matrix as far;
        - sums: those of the judge itself leave out as much;
        - kinks: pixels that coincide at kinks, as far as docs/accuracy.md says;
        - maps: the numbers of a map between pixels cancel, and roundings, and what warnings give,
          are relative to what it adds up, as docs/maps.md says.

        Without a cause it fails.
        """
        eps = EPS["float64" if self.known.wide else self.dtype]

        def moved(what: str, function: Callable[..., Arrays], *noise: float) -> float:
            return FEW_RUNS * _quotient(self._of(error.key, what, function, *noise), largest)

        by_all = moved("spread", exact.spread, ROUNDINGS * eps, self.known.series)
        known = {"said": self.known.said, "kinks": self._kinks}
        known["sums"] = moved("sums", exact.spread, 0.0)
        if not error.of_largest <= max(known.values()):
            known["inputs"] = moved("inputs", exact.spread_of_inputs, eps)
        if self._maps and not error.of_largest <= max(known.values()):
            lost = max(ROUNDINGS * eps, self.known.said)
            known["maps"] = moved("maps", exact.spread_of_maps, lost)
        cause = next((name for name, most in known.items() if error.of_largest <= most), "none")
        allowed = min(max(by_all, known.get("inputs", 0.0)), max(known.values()))
        return error._replace(allowed=max(error.allowed, allowed), cause=cause)

    def _of(self, key: str, what: str, function: Callable[..., Arrays], *rest: float) -> np.ndarray:
        prefix, _, kernel = key.rpartition("/")
        if (prefix, what) not in self._made:
            self._made[prefix, what] = function(self._networks[prefix], self._inputs, *rest)
        return self._made[prefix, what][kernel]


def kinds(network: Network) -> list[str]:
    """The names of a network's layers, nested ones included, repeats written out."""
    return [path.rsplit(" ", 1)[-1] for path, _, _ in network.unrolled().shapes()]


def _quotient(part: Any, whole: Any) -> float:
    """The largest part / whole, 0 / 0 being 0."""
    with np.errstate(all="ignore"):
        return float(np.max(np.where(part == 0, 0.0, part / whole)))
