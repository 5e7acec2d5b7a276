"""The page of a report: one HTML file that asks the network for nothing."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from widegram.machine.budgets import format_size
from widegram.network.listing import parameters_text, shapes_text

Rows = Iterable[tuple[str, Any]]

# Nothing may be loaded, whatever a name in a file should hold: pictures lie in the page.
_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Report on $title</title>
<style>
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; } h2 { font-size: 1.15rem; margin-top: 2rem; }
h3 { font-size: 1rem; margin-top: 1.5rem; } .wide { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .2rem .9rem .2rem 0;
 border-bottom: 1px solid var(--line); }
th { font-weight: 600; }
td { white-space: nowrap; } .facts { margin: .8rem 0; }
.facts th { font-weight: 400; white-space: nowrap; opacity: .75; }
.facts td { white-space: normal; overflow-wrap: anywhere; }
.best { background: var(--soft); font-weight: 600; }
img { max-width: 100%; height: auto; background: white; border-radius: 6px; }
footer { margin-top: 2rem; opacity: .75; font-size: .875rem; }
@media (max-width: 32rem) {
 .facts tr { display: block; border-bottom: 1px solid var(--line); padding: .2rem 0; }
 .facts th, .facts td { display: block; border: 0; padding: 0; }
}
</style>
</head>
<body>
<h1>Report on $title</h1>
$sections
<footer>Written by widegram $version from the files above, whose checksums agree.</footer>
</body>
</html>
""")


def page(title: str, version: str, found: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """HTML of :func:`widegram.report.findings.findings` and the pictures by their names."""
    sections = [
        ("Files", _files(found["files"])),
        ("Network", _network(found["network"], found["matrix"])),
        ("Cost", _facts(_cost(found["cost"]))),
        ("Spectrum", _spectrum(found["spectrum"], pictures)),
        ("Solution", _solution(found["solution"], pictures)),
        ("Predictions", _predictions(found["predictions"], pictures)),
    ]
    return _PAGE.substitute(
        title=escape(title),
        version=escape(version),
        sections="\n".join(f"<h2>{name}</h2>\n{text}" for name, text in sections if text),
    )


def _facts(rows: Rows) -> str:
    """Names and values."""
    lines = (f"<tr><th>{escape(name)}</th><td>{_said(value)}</td></tr>" for name, value in rows)
    return f'<table class="facts">{"".join(lines)}</table>'


def _table(heads: Iterable[str], rows: Iterable[Iterable[Any]], best: int | None = None) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join(
        f"<tr{' class=best' if number == best else ''}>"
        + "".join(f"<td>{_said(value)}</td>" for value in row)
        + "</tr>"
        for number, row in enumerate(rows)
    )
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def _said(value: Any) -> str:
    """A value as text that is no markup."""
    if value is None:
        return "&ndash;"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return escape(f"{value:.6g}" if isinstance(value, float) else str(value))


def _picture(pictures: Mapping[str, bytes], name: str, shows: str) -> str:
    if name not in pictures:
        return ""
    data = base64.b64encode(pictures[name]).decode()
    return f'<p><img alt="{escape(shows)}" src="data:image/svg+xml;base64,{data}"></p>'


def _files(files: list[dict[str, Any]]) -> str:
    heads = ("file", "what", "size", "checksums")
    rows = (
        (Path(one["file"]).name, one["kind"], format_size(one["bytes"]), _compared(one))
        for one in files
    )
    return _table(heads, rows)


def _compared(one: dict[str, Any]) -> str:
    said = f"{one['compared']:,} {one['of']}, no damage"
    return said if one["intact"] else f"{said}; another program has changed its metadata"


def _network(network: Mapping[str, Any], matrix: Mapping[str, Any]) -> str:
    facts = [
        ("matrices", " ".join(f"/{name}" for name in matrix["datasets"])),
        ("size", f"{matrix['n1']:,} x {matrix['n2']:,}, {matrix['dtype']}"
                 + (", symmetric" if matrix["symmetric"] else "")),
        *((name, matrix[key]) for name, key in (
            ("inputs", "x1_location"), ("fingerprint of the inputs", "x1_fingerprint"),
            ("device", "device"), ("  its name", "device_name"), ("note", "device_note"),
        ) if matrix.get(key)),
        ("fingerprint of the network", network["fingerprint"]),
    ]  # fmt: skip
    layers = [
        (row["layer"], shapes_text(row["in"]), shapes_text(row["out"]),
         parameters_text(row["parameters"]))
        for row in network["layers"]
    ]  # fmt: skip
    shown = _table(("layer", "in", "out", "parameters"), layers) if layers else ""
    if network["of"]:
        rows = [(part["file"], part["kernel"]) for part in network["of"]]
        shown = _table((f"{network['combine']} of", "kernel"), rows)
    return shown + _facts(facts)


def _cost(cost: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield "entries of each matrix", cost["entries"]
    if cost["computed"] != cost["entries"]:
        yield "computed, by symmetry", cost["computed"]
    yield "size of the file", format_size(cost["bytes"])
    if "element_layers" in cost:
        yield "element-layers per entry", cost["element_layers"]
        yield "bytes per pair, while computing", format_size(cost["bytes_per_pair"])
    if "entries_per_second" in cost:
        yield "entries per second", cost["entries_per_second"]
    if not cost["seconds"]:
        yield "seconds", "not in these files; --times takes them from what commands printed"
    for kind, seconds in cost["seconds"].items():
        yield f"seconds: {kind}", seconds


def _spectrum(spectrum: Mapping[str, Any] | None, pictures: Mapping[str, bytes]) -> str:
    if spectrum is None:
        return ""
    names = {
        "kernel": "kernel", "lambda_max": "largest eigenvalue", "lambda_min": "smallest eigenvalue",
        "lambda_min_resolved": "smallest is resolved", "bulk": "median eigenvalue",
        "kappa": "condition number", "kappa_is_lower_bound": "that is a lower bound",
        "effective_rank": "effective rank", "trace": "trace", "resolution": "resolution",
        "unresolved": "unresolved eigenvalues", "method": "method", "seconds": "seconds",
    }  # fmt: skip
    rows = ((said, spectrum[name]) for name, said in names.items() if name in spectrum)
    return _picture(pictures, "spectrum", "Spectrum") + _facts(rows)


def _solution(solution: Mapping[str, Any] | None, pictures: Mapping[str, bytes]) -> str:
    if solution is None:
        return ""
    rows = [(name.replace("_", " "), value) for name, value in solution.items() if name != "path"]
    path = solution["path"]
    shown = ""
    if path:
        over = "c" if "c" in path[0] else "diag_reg"
        heads = [name.replace("_", " ") for name in path[0]]
        best = next((i for i, row in enumerate(path) if row[over] == solution["diag_reg"]), None)
        shown = "<h3>Path, by leave-one-out error</h3>"
        shown += _picture(pictures, "path", "Figures against the regulariser")
        shown += _table(heads, (row.values() for row in path), best)
    return _facts(rows) + shown


def _predictions(found: Mapping[str, Any] | None, pictures: Mapping[str, bytes]) -> str:
    if found is None:
        return ""
    test, train = found["test"] or {}, found["train"]
    calibration = test.get("calibration") or {}
    rows: list[tuple[str, Any]] = [
        ("test points", found["n_test"]),
        *((name, value) for name, value in (
            ("test accuracy", test.get("accuracy")), ("test mse", test.get("mse")),
            ("negative log likelihood of the true class", calibration.get("log_loss")),
            ("expected calibration error", calibration.get("ece")),
            ("training accuracy", train["accuracy"]), ("training mse", train["mse"]),
            ("variance of", found["variance_of"]),
        ) if value is not None),
    ]  # fmt: skip
    shown = _facts(rows)
    if not test:
        return f"{shown}<p>No labels of the test points were given.</p>"
    if "confusion" in test:
        shown += "<h3>Confusion</h3>" + _picture(pictures, "confusion", "Confusion matrix")
        names = found["classes"]
        table = ((name, *row) for name, row in zip(names, test["confusion"], strict=True))
        shown += _table(("true \\ predicted", *map(str, names)), table)
    if calibration:
        shown += "<h3>Calibration</h3>" + _picture(pictures, "calibration", "Reliability diagram")
        heads = ("confidence", "accuracy", "points")
        shown += _table(heads, (row.values() for row in calibration["bins"]))
    if "coverage" in test:
        shown += "<h3>Coverage of error bars</h3>" + _picture(pictures, "coverage", "Coverage")
        shown += _table(("nominal", "actual"), (row.values() for row in test["coverage"]))
    return shown
