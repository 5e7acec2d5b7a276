"""Random networks of every layer through ``stax``, neural-tangents' and this program's.

The module is both sides, as :mod:`campaigns.peer` is. Where values differ, 40 digits say who is
right.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import random_examples
from campaigns.drawing_stax import StaxCase, draw
from campaigns.peer import answers

PROMISED = 1e-10  # of the largest entry, in float64
Values = dict[str, np.ndarray]


class Outcome(NamedTuple):
    """``kind``: one of those that :func:`compare` counts; ``here``, ``there``: how far each side is
    from 40 digits, of the largest entry, or what it says where it refuses."""

    kind: str
    here: Any = None
    there: Any = None


def compare(
    numbers: range, seed: int, seconds: float, report: Callable[[str], None]
) -> dict[str, Any]:
    """The networks of ``numbers``, as many as the peer answers within ``seconds``. ``report`` is
    told of each.

    Counts by kind:

    - agree: within what is promised of float64
    - the peer is off: it is further than that from 40 digits, and this program is not
    - off: this program is, or nothing but the peer says what is right
    - refused there, here, by both; no numbers there: NaN or infinity where this program has numbers
    """
    counts: Counter[str] = Counter()
    listed = []
    begin = time.monotonic()
    job = [seed, *numbers]
    for number, answer in zip(numbers, answers("campaigns.peer_stax", job, seconds), strict=False):
        found = outcome(seed, number, answer)
        counts[found.kind] += 1
        report(f"peer: {number}: {found.kind}, {time.monotonic() - begin:.0f} s")
        if found.kind != "agree":
            listed.append([number, *found])
    return {"seed": seed, "networks": counts.total(), "counts": dict(counts), "listed": listed}


def outcome(seed: int, number: int, answer: dict[str, Any]) -> Outcome:
    """What is to be said of one network, given the peer's ``answer``."""
    from widegram import stax
    from widegram.errors import WidegramError

    refusal = answer.get("error")
    try:
        with np.errstate(all="ignore"):
            ours = random_examples.run(stax, [number], seed)
    except WidegramError as error:
        kind = "refused by both" if refusal else "refused here"
        return Outcome(kind, str(error), refusal)
    if refusal:
        return Outcome("refused there", None, refusal)
    theirs = {name: np.array(value) for name, value in answer["values"].items()}
    if not all(np.isfinite(value).all() for value in theirs.values()):
        return Outcome("no numbers there")
    if _distance(ours, theirs) <= PROMISED:
        return Outcome("agree")
    try:
        exact = _digits(draw(seed, number))
    except WidegramError as error:
        return Outcome("off", str(error), _distance(theirs, ours))
    wanted = {name: exact[name.split("/")[1]] for name in theirs}
    here, there = _distance(ours, wanted), _distance(theirs, wanted)
    return Outcome("the peer is off" if here <= PROMISED < there else "off", here, there)


def _distance(found: Values, wanted: Values) -> float:
    """The largest difference of any array, relative to its largest entry; inf where shapes
    differ."""
    worst = 0.0
    for name, value in wanted.items():
        if found[name].shape != value.shape:
            return np.inf
        largest = max(float(np.abs(value).max()), 1e-300)
        worst = max(worst, float(np.abs(found[name] - value).max()) / largest)
    return worst


def _digits(case: StaxCase) -> Values:
    """The kernels of a case, in 40 digits."""
    from campaigns import exact
    from widegram import stax
    from widegram.stax.axes import arranged

    kernel_fn = random_examples.build(stax, case.calls, random_examples.FUNCTIONS)[2]
    _, entrance, _ = arranged(kernel_fn.items, case.x1.ndim)
    x1 = case.x1.transpose(entrance.order)
    x2 = None if case.x2 is None else case.x2.transpose(entrance.order)
    network = kernel_fn.network(x1.shape[1:], channels_last=True, mask_constant=case.mask)
    return exact.digits(network, exact.Inputs.of(network, x1, x2, case.pattern))


def _serve() -> None:
    """Runs in the peer's Python."""
    import warnings

    import jax

    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_disable_most_optimizations", True)
    warnings.filterwarnings("ignore")
    from neural_tangents import stax

    from campaigns.traced import evaluate

    seed, *numbers = json.load(sys.stdin)
    for number in numbers:
        try:
            found = random_examples.run(stax, [number], seed, evaluate)
            answer: dict[str, Any] = {"values": {name: v.tolist() for name, v in found.items()}}
        except Exception as error:  # Whatever the peer refuses is its answer, and is told as one.
            text = re.sub(r"\s+", " ", f"{type(error).__name__}: {error}")
            answer = {"error": text[:300]}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _serve()
