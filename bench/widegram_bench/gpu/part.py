"""One part of the benchmark on a card, in a process of its own (:mod:`widegram_bench.gpu.run`).

    python -m widegram_bench.gpu.part card|compiled|profile NUMBER SECONDS
    python -m widegram_bench.gpu.part own|bound|peer NUMBER SECONDS CASE DTYPE

prints JSON objects, one a line: the last one is the result, those before it are what is known until
then.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from widegram_bench.gpu import card as cards
from widegram_bench.gpu import compile_all, measure, peer_on_card, profiler
from widegram_bench.gpu.cases import Case, cases

_ALONE = ("card", "compiled", "profile")
_KINDS = (*_ALONE, "own", "bound", "peer")


def part(kind: str, number: int, seconds: float, key: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """The results of one part: of the case with that key for 'own', 'bound' and 'peer'."""
    card = cards.describe(number)
    if kind == "card":
        yield card
    elif kind == "compiled":
        yield from compile_all.side_by_side(number, [case.key for case in cases()])
    elif kind == "profile":
        yield profiler.profile(number, seconds)
    else:
        yield from _of_case(kind, _case(key), card, seconds)


def _of_case(
    kind: str, case: Case, card: dict[str, Any], seconds: float
) -> Iterator[dict[str, Any]]:
    if kind == "own":
        from widegram.cuda.device import gpus

        yield from measure.own(case, gpus((card["number"],))[0], card, seconds)
    elif kind == "bound":
        yield measure.layer_loop(case, card["capability"])
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield peer_on_card.run(
                case.network, case.dtype, case.batches, seconds, card["memory"], Path(folder)
            )


def _case(key: tuple[str, ...]) -> Case:
    return next(case for case in cases() if case.key == key)


def main(arguments: Sequence[str]) -> None:
    """Run the part that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=_KINDS)
    parser.add_argument("number", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("key", nargs="*")
    given = parser.parse_args(arguments)
    key = tuple(given.key)
    choices = [()] if given.kind in _ALONE else [case.key for case in cases()]
    if key not in choices:
        listed = "; ".join(" ".join(choice) or "nothing" for choice in choices)
        raise SystemExit(f"{given.kind} takes no {' '.join(key) or 'empty key'}, but: {listed}")
    for found in part(given.kind, given.number, given.seconds, key):
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
