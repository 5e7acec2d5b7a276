"""Everything that a machine with a card is asked for, in one run that no part can spoil.

``python -m widegram_bench.gpu.run --out R.json --tests`` needs no installed widegram, only its
sources on the path. Each part is a process of its own with a time limit: a fault on the card, which
ends the process that meets it, costs that part alone. Results are written after every part, and
each part that did not give any is named in them with the reason.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from widegram.durable import write_bytes
from widegram.machine.cores import usable_cores
from widegram_bench.child import started
from widegram_bench.gpu.agenda import SHORTEST, TESTS, AgendaPart, lacking, limit, plan

_OUTCOME = re.compile(r"\b(PASSED|FAILED|ERROR)\b")
# Of pytest's first lines, without and with workers.
_CHOSEN = re.compile(r"(\d+) selected|\[(\d+) items\]")
# Seconds from a kill until the next part starts anyway.
_PATIENCE = 5.0
Results = dict[str, Any]
Start = Callable[[list[str], float], tuple[str, str]]


def start(command: list[str], seconds: float) -> tuple[str, str]:
    """What a process prints, and what went wrong ('' if nothing did).

    After ``seconds`` it is killed; so is, at its end, whatever it started and left behind. One that
    hangs in the driver may outlive that, and is not waited for: hence files instead of pipes.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        with started(command, stdout=out, stderr=err) as process:
            code = _ended(process, seconds)
        stopped = code is None
        if stopped:
            _ended(process, _PATIENCE)
        output, errors = (_text(file) for file in (out, err))
    if stopped:
        return output, f"stopped after {seconds:.0f} s"
    if code:
        return output, _reason(errors) or _reason(output) or f"exit code {code}"
    return output, ""


def _ended(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    """The exit code; None if the process still runs after that time."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def _reason(text: str) -> str:
    """The last line that names an error, else the last that says anything."""
    lines = [line.strip(" =:") for line in text.splitlines() if re.search(r"\w", line)]
    errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Exit)\b", line)]
    return (errors or lines or [""])[-1]


class CardRun:
    """Results as they come in; ``missing`` says what there is none of, and why."""

    def __init__(self, number: int, save: Callable[[Results], None], start: Start) -> None:
        self.number, self.save, self.start = number, save, start
        self.results: Results = {
            "benchmark": "gpu", "card": None, "compiled": {}, "rows": [], "profile": {},
            "tests": {}, "missing": [],
        }  # fmt: skip

    def lack(self, text: str) -> None:
        """Note what could not be had."""
        self.results["missing"].append(text)
        self.save(self.results)

    def do(self, part: AgendaPart, seconds: float) -> None:
        """Add a part's results, or the reason why there are none."""
        row = self._row(part)
        if part.kind in ("peer", "bound") and row is None:
            self.lack(f"{part.title}: no time of ours to compare with")
        elif seconds < SHORTEST:
            self.lack(f"{part.title}: no time left")
        elif part.kind in TESTS:
            self._tests(part, seconds)
        elif found := self._found(part, seconds):
            self._add(part, found, row or found)
        self.save(self.results)

    def _row(self, part: AgendaPart) -> Results | None:
        """Our row of the part's case."""
        rows: list[Results] = self.results["rows"]
        return next((row for row in rows if (row["name"], row["dtype"]) == part.key), None)

    def _found(self, part: AgendaPart, seconds: float) -> Results | None:
        """What :mod:`~widegram_bench.gpu.part` prints last: it counts although the process
        failed later."""
        arguments = [part.kind, str(self.number), f"{part.share * seconds:.1f}", *part.key]
        command = [sys.executable, "-m", "widegram_bench.gpu.part", *arguments]
        output, problem = self.start(command, seconds)
        found = _last(output)
        problem = problem or found.pop("problem", "" if found else "it printed no result")
        if problem:
            self.lack(f"{part.title}{', in part' if found else ''}: {problem}")
        return found or None

    def _add(self, part: AgendaPart, found: Results, row: Results) -> None:
        """``row``: that of the part's case."""
        if part.kind in ("card", "compiled", "profile"):
            self.results[part.kind] = found
            return
        if part.kind == "own":
            self.results["rows"].append(row)
        elif part.kind == "bound":
            from widegram_bench.gpu.measure import bound

            row["bound"] = bound(found, row)
        elif part.case:
            row |= {"peer": found, "target_ratio": part.case.ratio}
            row["ratio"] = 1e3 * found["ms_entry"] / row["us_entry"]
        print(line(row), file=sys.stderr, flush=True)

    def _tests(self, part: AgendaPart, seconds: float) -> None:
        """Outcomes of tests for a card; those that took too long are not among them."""
        workers = max(1, min(12, usable_cores() - 2))
        parallel = ["-n", str(workers)] if find_spec("xdist") else []
        command = [
            sys.executable, "-m", "pytest", "-m", "gpu", "-v", "-p", "no:cacheprovider",
            "tests/test_cuda_gpu.py", "-k", TESTS[part.kind], *parallel,
        ]  # fmt: skip
        output, problem = self.start(command, seconds)
        lines = [line for line in output.splitlines() if "::" in line and " - " not in line]
        outcomes = [(m[1], line) for line in lines if (m := _OUTCOME.search(line))]
        wrong = sorted({_test(line) for outcome, line in outcomes if outcome != "PASSED"})
        passed = {_test(line) for outcome, line in outcomes if outcome == "PASSED"}
        chosen = _CHOSEN.search(output)
        of = f" of {chosen[1] or chosen[2]}" if chosen else ""
        self.results["tests"][part.kind] = {"passed": len(passed), "failed": wrong}
        if problem:
            self.lack(f"{part.kind}: {problem}; {len(passed) + len(wrong)}{of} tests ended")
        print(f"{part.kind}: {len(passed)}{of} tests passed, {len(wrong)} failed", file=sys.stderr)


def run(
    number: int, seconds: float, quick: bool, tests: bool, save: Callable[[Results], None],
    start: Start = start,
) -> Results:  # fmt: skip
    """All results within about ``seconds``, handed to ``save`` as they grow.

    ``quick``: the first network alone, no peer. ``tests``: those for a card as well.
    """
    end, work, absent = time.monotonic() + seconds, CardRun(number, save, start), lacking()
    for need, names in absent.items():
        if need == "everything" or (tests if need == "tests" else not quick):
            work.lack(f"{need}: this Python lacks {names}")
    if "everything" in absent:
        return work.results
    from widegram_bench.gpu.cases import cases

    parts = plan(cases()[:1] if quick else cases(), tests, peers=not quick)
    parts = [part for part in parts if part.needs not in absent]
    while parts:
        part, *parts = parts
        work.do(part, limit(part, parts, end - time.monotonic()))
    return work.results


def _last(output: str) -> Results:
    """The last JSON object among the lines; a process that was stopped may have cut one."""
    for text in reversed(output.splitlines()):
        try:
            found = json.loads(text)
        except json.JSONDecodeError:
            continue
        if isinstance(found, dict):
            return found
    return {}


def _test(text: str) -> str:
    """The name of the test in a line of pytest's."""
    found = re.search(r"\S+::.*?(?=\s+(?:PASSED|FAILED|ERROR)|\s*$)", text)
    return found[0].strip() if found else text


def line(row: dict[str, Any]) -> str:
    """A row for people."""
    text = f"{row['name']} {row['dtype']}: {row['us_entry']:.4g} us per entry"
    if row["target_us"]:
        text += f" (goal {row['target_us']:g})"
    if row.get("bound"):
        bound = row["bound"]
        text += f", {100 * bound['reached']:.0f} % of the issue bound {bound['us_entry']:.4g} us"
    if row.get("ratio"):
        text += f", {row['ratio']:.3g}x neural-tangents"
    if row.get("difference"):
        text += f"; off by {max(row['difference'].values()):.1e}"
    return text


def table(results: dict[str, Any]) -> None:
    """Print the results for people."""
    print((results["card"] or {}).get("name", "no card"))
    for row in results["rows"]:
        print(line(row))
    for kernel in results["compiled"].get("kernels", ()):
        if kernel["local"]:
            print(f"{' '.join(kernel['case'])}, {kernel['kernel']}: spills {kernel['local']} bytes")
    for failed in results["compiled"].get("failed", ()):
        print("not compiled:", *failed)
    if results["profile"]:
        print("profile:", *(f"{k} {v:.6g}" for k, v in results["profile"].items()))
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
        write_bytes(out, (json.dumps(found, indent=1) + "\n").encode(), overwrite=True)

    results = run(options.device, options.seconds, options.quick, options.tests, save)
    if results["card"] and results["profile"]:
        from widegram_bench.gpu import profiler

        if not profiler.picture(results, out.with_suffix(".png")):
            results["missing"].append("picture: no matplotlib, or too few numbers of the profiler")
            save(results)
    table(results)
    failed = any(found["failed"] for found in results["tests"].values())
    return int(failed or not results["rows"])


if __name__ == "__main__":
    sys.exit(main())
