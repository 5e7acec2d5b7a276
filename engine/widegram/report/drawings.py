"""The pictures of a report, as SVG."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np

from widegram.durable.sealed import SealedFile
from widegram.linalg.spectrumplot import draw_by_rank, draw_density
from widegram.linalg.summary import Bins

_SIZE = (5.6, 3.6)
_BLUE, _GREY = "tab:blue", "0.6"


def drawings(spectrum: SealedFile | None, found: dict[str, Any]) -> dict[str, bytes]:
    """Pictures by name, of what the findings have: spectrum, path, confusion, calibration,
    coverage."""
    test = (found["predictions"] or {}).get("test") or {}
    path = (found["solution"] or {}).get("path", [])
    made: dict[str, Callable[[Any], None] | None] = {
        "spectrum": None if spectrum is None else lambda axes: _spectrum(axes, spectrum),
        "path": (lambda axes: _path(axes, path)) if len(path) > 1 else None,
        "confusion": _if(test.get("confusion"), _confusion, found),
        "calibration": _if(test.get("calibration"), _calibration),
        "coverage": _if(test.get("coverage"), _coverage),
    }
    return {name: _drawn(draw) for name, draw in made.items() if draw is not None}


def _if(values: Any, draw: Callable[..., None], *more: Any) -> Callable[[Any], None] | None:
    return (lambda axes: draw(axes, values, *more)) if values else None


def _drawn(draw: Callable[[Any], None]) -> bytes:
    """An SVG, the same bytes each time."""
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE, layout="constrained")
    draw(figure.add_subplot())
    kept = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "widegram"}):
        figure.savefig(kept, format="svg", metadata={"Date": None})
    return kept.getvalue()


def _spectrum(axes: Any, file: SealedFile) -> None:
    floor = max(float(file.attributes["resolution"]), float(np.finfo(float).tiny))
    if "density/edges" in file:
        names = ("edges", "count", "least", "most")
        draw_density(axes, Bins(*(file.array(f"density/{name}") for name in names)), floor)
    elif file.array("eigenvalues").max() <= floor:
        axes.text(0.5, 0.5, f"no eigenvalue above {floor:.2g}", ha="center")
    else:
        draw_by_rank(axes, file.array("eigenvalues"), floor)


def _path(axes: Any, path: list[dict[str, Any]]) -> None:
    """Error and accuracy, or evidence, against the regulariser."""
    over = "c" if "c" in path[0] else "diag_reg"
    shown = [name for name in ("mse", "accuracy", "log_evidence") if name in path[0]]
    said = {"mse": "leave-one-out mse", "accuracy": "accuracy", "log_evidence": "log evidence"}
    x = np.array([row[over] for row in path])
    for number, (name, color) in enumerate(zip(shown[:2], (_BLUE, "tab:red"), strict=False)):
        side = axes if number == 0 else axes.twinx()
        y = np.array([np.nan if row[name] is None else row[name] for row in path])
        side.plot(x, y, "o-", ms=4, color=color)
        side.set_ylabel(said[name], color=color)
    axes.set_xscale("log" if (x > 0).all() else "symlog", **_linear_below(x))
    axes.set_xlabel("C" if over == "c" else "diag_reg")


def _linear_below(x: np.ndarray) -> dict[str, float]:
    positive = x[x > 0]
    return {} if positive.size in (0, x.size) else {"linthresh": float(positive.min())}


def _confusion(axes: Any, table: list[list[int]], found: dict[str, Any]) -> None:
    """Shares of each true class; numbers where they can be read."""
    counts, names = np.array(table), found["predictions"]["classes"]
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if len(names) > 20:
        return
    axes.set_xticks(range(len(names)), labels=names)
    axes.set_yticks(range(len(names)), labels=names)
    for (i, j), count in np.ndenumerate(counts):
        if count:
            color = "white" if share[i, j] > 0.5 else "black"
            axes.text(j, i, count, ha="center", va="center", fontsize=7, color=color)


def _calibration(axes: Any, found: dict[str, Any]) -> None:
    """A reliability diagram: accuracy against confidence, areas by points."""
    bins = found["bins"]
    x, y = [row["confidence"] for row in bins], [row["accuracy"] for row in bins]
    share = np.array([row["points"] for row in bins]) / sum(row["points"] for row in bins)
    axes.plot([0, 1], [0, 1], "--", color=_GREY, lw=1, label="as sure as right")
    axes.plot(x, y, "-", color=_BLUE, lw=1)
    axes.scatter(x, y, s=20 + 300 * share, color=_BLUE, alpha=0.7, label="bins, areas by points")
    axes.set(xlim=(0, 1.03), ylim=(0, 1.03), xlabel="confidence", ylabel="accuracy")
    axes.legend()


def _coverage(axes: Any, rows: list[dict[str, float]]) -> None:
    axes.plot([0, 1], [0, 1], "--", color=_GREY, lw=1, label="as promised")
    x, y = [row["level"] for row in rows], [row["covered"] for row in rows]
    axes.plot(x, y, "o-", color=_BLUE, label="found")
    axes.set(xlim=(0, 1.03), ylim=(0, 1.03), xlabel="nominal coverage", ylabel="actual coverage")
    axes.legend()
