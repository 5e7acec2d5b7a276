"""Everything that a machine with a card is asked for, in one run that no part can spoil.

``python -m widegram_bench.gpu_run --out R.json --tests`` needs no installed widegram, only its
sources on the path. Each part is a process of its own with a time limit: a fault on the card, which
ends the process that meets it, costs that part alone. Results are written after every part, and
each part that did not give any is named in them with the reason.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from widegram.cores import usable_cores
from widegram_bench import gpu_profile
from widegram_bench.gpu import Case, cases

# Longest a part may take, in seconds: the first one compiles the CPU's kernels, too.
_LIMITS = {"card": 60.0, "smoke": 120.0, "own": 90.0, "profile": 60.0, "peer": 120.0}
_SMOKE = "forms_agree or zero_and_repeated"
_OUTCOME = re.compile(r"\b(PASSED|FAILED|ERROR)\b")
Results = dict[str, Any]
Start = Callable[[list[str], float], tuple[str, str]]


def start(command: list[str], seconds: float) -> tuple[str, str]:
    """What a process prints, and what went wrong ('' if nothing did).

    After ``seconds`` it is killed with all that it started.
    """
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        output, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        return output, f"stopped after {seconds:.0f} s"
    if process.returncode:
        return output, _reason(errors) or _reason(output) or f"exit code {process.returncode}"
    return output, ""


def _reason(text: str) -> str:
    """The last line that names an error, else the last that says anything."""
    lines = [line.strip(" =:") for line in text.splitlines() if re.search(r"\w", line)]
    errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Exit)\b", line)]
    return (errors or lines or [""])[-1]


class Run:
    """Results as they come in; ``missing`` says what there is none of, and why."""

    def __init__(
        self, number: int, seconds: float, save: Callable[[Results], None], start: Start
    ) -> None:
        self.number, self.save, self.start = number, save, start
        self.end = time.monotonic() + seconds
        self.results: dict[str, Any] = {
            "benchmark": "gpu", "card": None, "rows": [], "profile": {}, "tests": {},
            "missing": [],
        }  # fmt: skip

    def left(self, kind: str) -> float:
        """Seconds that a part of this kind may take."""
        return min(_LIMITS.get(kind, 1e9), self.end - time.monotonic())

    def lack(self, text: str) -> None:
        """Note what could not be had."""
        if text not in self.results["missing"]:
            self.results["missing"].append(text)
        self.save(self.results)

    def part(
        self, kind: str, key: tuple[str, ...] = (), share: float = 0.2
    ) -> dict[str, Any] | None:
        """What :mod:`~widegram_bench.gpu_part` prints; ``share``: of its limit, for measuring."""
        title = " ".join([kind, *key])
        limit = self.left(kind)
        if limit < 5:
            self.lack(f"{title}: no time left")
            return None
        arguments = [kind, str(self.number), f"{share * limit:.1f}", *key]
        command = [sys.executable, "-m", "widegram_bench.gpu_part", *arguments]
        output, problem = self.start(command, limit)
        try:
            found: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
        except (IndexError, json.JSONDecodeError):
            found = {"problem": "it printed no result"}
        if problem or "problem" in found:
            self.lack(f"{title}: {problem or found['problem']}")
            return None
        return found

    def tests(self, name: str, chosen: str) -> None:
        """Outcomes of the tests for a card; those that took too long are not among them."""
        limit = self.left(name)
        if limit < 5:
            self.lack(f"{name}: no time left")
            return
        workers = max(1, min(12, usable_cores() - 2))
        parallel = ["-n", str(workers)] if find_spec("xdist") else []
        command = [
            sys.executable, "-m", "pytest", "-m", "gpu", "-v", "-p", "no:cacheprovider",
            "tests/test_cuda_gpu.py", *(["-k", chosen] if chosen else []), *parallel,
        ]  # fmt: skip
        output, problem = self.start(command, limit)
        lines = [line for line in output.splitlines() if "::" in line and " - " not in line]
        outcomes = [(m[1], line) for line in lines if (m := _OUTCOME.search(line))]
        wrong = sorted({_test(line) for outcome, line in outcomes if outcome != "PASSED"})
        passed = {_test(line) for outcome, line in outcomes if outcome == "PASSED"}
        self.results["tests"][name] = {"passed": len(passed), "failed": wrong}
        if problem:
            self.lack(f"{name}: {problem}")
        print(f"{name}: {len(passed)} tests passed, {len(wrong)} failed", file=sys.stderr)

    def own(self, case: Case) -> None:
        """Our row of a case."""
        row = self.part("own", case.key)
        if row is None:
            return
        if row.get("bound") is None:
            self.lack("issue bound: no ptxas or nvdisasm, or another form")
        self.results["rows"].append(row)
        self.save(self.results)
        print(line(row), file=sys.stderr, flush=True)

    def peer(self, case: Case) -> None:
        """The peer's time of a case that has a row, and the ratio."""
        rows = [
            r for r in self.results["rows"] if (r["name"], r["dtype"]) == (case.name, case.dtype)
        ]
        found = self.part("peer", case.key, 0.55) if rows and case.batches else None
        for row in rows if found else []:
            row["peer"], row["target_ratio"] = found, case.ratio
            row["ratio"] = 1e3 * found["ms_entry"] / row["us_entry"] if found else None
            print(line(row), file=sys.stderr, flush=True)
        self.save(self.results)


def run(
    number: int, seconds: float, quick: bool, tests: bool, save: Callable[[Results], None],
    start: Start = start,
) -> Results:  # fmt: skip
    """All results within about ``seconds``, handed to ``save`` as they grow.

    ``quick``: the first network alone, no peer. ``tests``: those for a card as well.
    """
    work, chosen = Run(number, seconds, save, start), cases()[:1] if quick else cases()
    work.results["card"] = work.part("card")
    if tests:
        work.tests("smoke", _SMOKE)
    for case in chosen:
        work.own(case)
    for form in ("strip", "tile"):
        found = work.part("profile", (form,), share=0.9)
        work.results["profile"] |= {form: found} if found else {}
    goals = [c for c in chosen if c.ratio] + [c for c in chosen if not c.ratio]
    ours, others = goals[:2], goals[2:]
    for case in [] if quick else ours:
        work.peer(case)
    if tests:
        work.tests("golden values and properties", "")
    for case in [] if quick else others:
        work.peer(case)
    save(work.results)
    return work.results


def _test(text: str) -> str:
    """The name of the test in a line of pytest's."""
    found = re.search(r"\S+::.*?(?=\s+(?:PASSED|FAILED|ERROR)|\s*$)", text)
    return found[0].strip() if found else text


def line(row: dict[str, Any]) -> str:
    """A row for people."""
    text = f"{row['name']} {row['dtype']} {row['form']}: {row['us_entry']:.4g} us per entry"
    if row["target_us"]:
        text += f" (goal {row['target_us']:g})"
    if row.get("bound"):
        bound = row["bound"]
        text += f", {100 * bound['reached']:.0f} % of the issue bound {bound['us_entry']:.4g} us"
    if row.get("ratio"):
        text += f", {row['ratio']:.3g}x neural-tangents"
    return text + f"; off by {max(row['difference'].values()):.1e}"


def table(results: dict[str, Any]) -> None:
    """Print the results for people."""
    print((results["card"] or {}).get("name", "no card"))
    for row in results["rows"]:
        print(line(row))
    for form, profile in results["profile"].items():
        print(f"profile of the {form} form:", *(f"{k} {v:.6g}" for k, v in profile.items()))
    for name, found in results["tests"].items():
        print(f"{name}: {found['passed']} passed", *found["failed"], sep="\n  FAILED ")
    for text in results["missing"]:
        print(f"not measured: {text}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, write the results; 1 where a test failed or no row was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="bench/results/gpu.json", help="raw results")
    parser.add_argument("--seconds", type=float, default=440.0, help="time for all of it")
    parser.add_argument("--device", type=int, default=0, help="number of the card")
    parser.add_argument("--quick", action="store_true", help="the first network alone, no peer")
    parser.add_argument("--tests", action="store_true", help="the tests for a card as well")
    options = parser.parse_args(arguments)
    out = Path(options.out)
    out.parent.mkdir(parents=True, exist_ok=True)

    def save(found: Results) -> None:
        out.write_text(json.dumps(found, indent=1) + "\n")

    results = run(options.device, options.seconds, options.quick, options.tests, save)
    if results["card"] and results["profile"]:
        gpu_profile.picture(results, out.with_suffix(".png"))
    table(results)
    failed = any(found["failed"] for found in results["tests"].values())
    return int(failed or not results["rows"])


if __name__ == "__main__":
    sys.exit(main())
