"""Random networks beside the dense reference: ``python -m campaigns.networks --count 3000``.

Prints, for each dtype, percentiles of the largest error of a matrix, what was refused and how
often, and every failure with its seed, number and specification: ``--number N`` repeats one.
``--layers all`` draws from all layers, not from those of the first numbers alone. ``--peer N``
compares with neural-tangents too: with ``--layers all`` N networks of every layer and parameter
through ``stax``, from number ``--start`` on; ``--count 0`` leaves the dense reference out.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from campaigns import drawing, drawing_all
from campaigns.drawing import Case
from campaigns.judging import DTYPES, Error, Verdict, judge
from campaigns.peer import compare
from campaigns.peer_stax import compare as compare_stax

PERCENTILES = (50.0, 90.0, 99.0, 99.9, 100.0)


# What --layers draws from: as numbers have it since they were first drawn, and every layer.
LAYERS = {"first": drawing.draw, "all": drawing_all.draw}


def run(
    seed: int, numbers: Iterable[int], report: Any = None, layers: str = "first"
) -> dict[str, Any]:
    """Judge cases and return the figures (JSON-ready); ``report`` gets a line per failure. An
    interrupt ends the campaign with the figures so far."""
    found = _Found()
    try:
        for number in numbers:
            failed = found.add(*_judged(LAYERS[layers](seed, number)))
            if failed and report is not None:
                report(json.dumps(failed))
    except KeyboardInterrupt:
        pass
    return {"seed": seed, "layers": layers, **found.figures()}


class _Found:
    """What verdicts add up to."""

    def __init__(self) -> None:
        self.errors: dict[str, list[Error]] = {dtype: [] for dtype in DTYPES}
        self.refused: Counter[tuple[str, str]] = Counter()
        self.unjudged: Counter[str] = Counter()
        self.failures: list[dict[str, Any]] = []
        self.count = self.agreed = 0

    def add(self, verdict: Verdict, failed: dict[str, Any] | None) -> dict[str, Any] | None:
        """Count one verdict; returns ``failed``."""
        self.count += 1
        self.refused.update(verdict.refused)
        self.unjudged.update([verdict.unjudged] if verdict.unjudged else [])
        for error in verdict.errors:
            self.errors[error.dtype].append(error)
        self.agreed += bool(verdict.errors) and not failed and not verdict.refused
        self.failures += [failed] if failed else []
        return failed

    def figures(self) -> dict[str, Any]:
        """All counts, JSON-ready."""
        items = self.errors.items()
        return {
            "networks": self.count,
            "agreed_in_both_dtypes": self.agreed,
            "failed": len(self.failures),
            "refused": [[*kind, times] for kind, times in self.refused.most_common()],
            "unjudged": dict(self.unjudged),
            "matrices": {dtype: len(found) for dtype, found in items},
            "beyond_promise": {
                dtype: dict(Counter(e.cause for e in found if not e.promised and not e.failed))
                for dtype, found in items
            },
            "percentiles": {
                dtype: {
                    "of_largest": percentiles(e.of_largest for e in found),
                    "of_diagonal": percentiles(e.of_diagonal for e in found),
                }
                for dtype, found in items
            },
            "failures": self.failures,
        }


def _judged(case: Case) -> tuple[Verdict, dict[str, Any] | None]:
    """The verdict, and what repeats it where it is a failure."""
    where = {"seed": case.seed, "number": case.number, "depths": list(case.depths)}
    try:
        verdict = judge(case)
    except Exception as error:  # A crash is a finding, and the next network still counts.
        text = f"{type(error).__name__}: {error}"
        return Verdict([], []), {**where, "crash": text, "spec": case.spec}
    failed = [e for e in verdict.errors if e.failed]
    if not failed:
        return verdict, None
    shown = [
        {"dtype": e.dtype, "key": e.key, "error": e.of_largest, "allowed": e.allowed}
        for e in failed
    ]
    return verdict, {**where, "errors": shown, "spec": case.spec}


def percentiles(errors: Iterable[float]) -> dict[str, float]:
    """Percentiles of errors by name; the last is the largest."""
    values = np.array([e if np.isfinite(e) else np.inf for e in errors])
    if not len(values):
        return {}
    found = np.percentile(values, PERCENTILES, method="higher")
    return {f"{p:g}": float(v) for p, v in zip(PERCENTILES, found, strict=True)}


def show(figures: dict[str, Any]) -> None:
    """Print the figures as text."""
    print(
        f"{figures['networks']} networks (seed {figures['seed']}): "
        f"{figures['agreed_in_both_dtypes']} agree in both dtypes, {figures['failed']} fail, "
        f"{sum(times for *_, times in figures['refused'])} times refused, "
        f"{sum(figures['unjudged'].values())} not judged"
    )
    print(f"{'':32}" + "".join(f"{p:>10g} %" for p in PERCENTILES))
    for dtype, kinds in figures["percentiles"].items():
        for kind, values in kinds.items():
            name = {"of_largest": "of max |K|", "of_diagonal": "of sqrt(K_ii K_jj)"}[kind]
            print(f"{dtype}, {name:<23}" + "".join(f"{v:12.1e}" for v in values.values()))
    for dtype, causes in figures["beyond_promise"].items():
        each = ", ".join(f"{times} {cause}" for cause, times in causes.items()) or "none"
        print(
            f"{dtype}: of {figures['matrices'][dtype]} matrices beyond the promise, as far as "
            f"roundings explain, by what announces it: {each}"
        )
    for what, message, times in figures["refused"]:
        print(f"refused {times} times ({what}): {message}")
    for message, times in figures["unjudged"].items():
        print(f"not judged {times} times: {message}")
    if "peer" in figures:
        _show_peer(figures["peer"])
    if "stax" in figures:
        counts = ", ".join(f"{times} {kind}" for kind, times in figures["stax"]["counts"].items())
        print(f"{figures['stax']['networks']} networks through stax: {counts or 'none answered'}")
        for number, kind, here, there in figures["stax"]["listed"]:
            print(f"{number}: {kind}; here {here}, there {there}")


def _show_peer(figures: dict[str, Any]) -> None:
    if not figures["networks"]:
        print("neural-tangents answered nothing in the time that it had")
        return
    print(
        f"{figures['networks']} networks beside neural-tangents in float64 "
        f"({figures['refused_by_either']} refused by either), relative to max |K|:"
    )
    for name, values in figures["percentiles"].items():
        print(f"{name:<32}" + "".join(f"{v:12.1e}" for v in values.values()))
    print(f"beyond 1e-6 (number, difference): {figures['beyond_1e-6']}")


def main() -> int:
    """Run the campaign; exit code 1 where a network failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=3000, help="networks")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", type=int, default=0, help="number of the first")
    parser.add_argument(
        "--layers", choices=LAYERS, default="first", help="those drawn at first, or all"
    )
    parser.add_argument("--number", type=int, help="this case alone")
    parser.add_argument(
        "--peer",
        type=int,
        default=0,
        metavar="N",
        help="N networks beside neural-tangents ($WIDEGRAM_PEER_PYTHON)",
    )
    parser.add_argument(
        "--peer-seconds", type=float, default=900, metavar="S", help="as many as it answers in S"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    args = parser.parse_args()
    numbers = range(args.start, args.start + args.count) if args.number is None else [args.number]

    def report(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    figures = run(args.seed, numbers, report, args.layers)
    wrong = figures["failed"]
    if args.peer and args.layers == "all":
        last = args.start + args.peer
        found = compare_stax(range(args.start, last), args.seed, args.peer_seconds, report)
        figures["stax"] = found
        wrong += found["counts"].get("off", 0)
    elif args.peer:
        figures["peer"] = compare(args.peer, args.seed, args.peer_seconds, report)
    if args.json:
        json.dump(figures, sys.stdout, indent=1)
        print()
    else:
        show(figures)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
