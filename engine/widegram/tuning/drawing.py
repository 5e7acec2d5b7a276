"""A picture of a search: the criterion of every network, over depth where there are depths."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from widegram.durable.pictures import save_figure
from widegram.tuning.figures import CRITERIA_FIGURES

_DEPTH = re.compile(r"\bdepth=(\d+),?")
_LINES = 12  # more names than that hide the picture


def draw_search(
    path: str | Path, rows: Sequence[dict[str, Any]], criterion: str, *, overwrite: bool = False
) -> None:
    """Draw ``rows`` as :class:`widegram.tuning.search.TuneResult` has them; refused ones are left
    out. The format follows the file's ending."""
    from matplotlib.figure import Figure

    figure_of = CRITERIA_FIGURES[criterion].figure
    lines: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        if "error" not in row:
            depth = _DEPTH.search(row["net"])
            name = _DEPTH.sub("", row["net"]).rstrip(",:") + f" {row['head'] or ''}"
            at = int(depth[1]) if depth else 0
            lines.setdefault(name.strip(), []).append((at, row[figure_of]))
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    axes = figure.add_subplot()
    for name, points in lines.items():
        axes.plot(*zip(*sorted(points), strict=True), "o-", label=name, markersize=4)
    axes.set_xlabel("depth")
    axes.set_ylabel(figure_of.replace("_", " "))
    if len(lines) <= _LINES:
        axes.legend(fontsize="small")
    save_figure(figure, path, overwrite=overwrite)
