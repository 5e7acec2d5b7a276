"""Pictures of results: matplotlib (widegram[plot]) is imported when one is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from widegram.durable.pictures import require_matplotlib, save_figure


def _figure(width: float, height: float) -> tuple[Any, Any]:
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots


def kernels(rows: Sequence[dict[str, Any]], out: Path, title: str) -> None:
    """Bars of milliseconds per entry of a symmetric matrix, widegram beside the peer."""
    figure, subplots = _figure(9, 0.7 * len(rows) + 1.8)
    axes = subplots()
    names = [row["label"] for row in rows]
    at = range(len(rows))
    own = [row["own"]["float32"]["ms_entry_symmetric"] for row in rows]
    axes.barh([n + 0.2 for n in at], own, 0.38, label="widegram, float32")
    with_peer = [(n, row) for n, row in enumerate(rows) if "peer_best" in row]
    if with_peer:
        axes.barh(
            [n - 0.2 for n, _ in with_peer],
            [row["peer_best"]["ms_entry"] for _, row in with_peer],
            0.38,
            label="neural-tangents, its fastest setting",
        )
        for n, row in with_peer:
            text = f" {row['ratios']['symmetric']:.3g}x"
            axes.text(own[n], n + 0.2, text, va="center", fontsize=9)
    axes.set_yticks(list(at), names)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(left=min(own) / 4)
    axes.set_xlabel("ms per entry of a symmetric matrix (NNGP and NTK)")
    axes.set_title(title, fontsize=9)
    axes.legend(loc="best", fontsize=9)
    save_figure(figure, out, overwrite=True)


def scaling(found: dict[str, Any], out: Path, title: str) -> None:
    """Cost against pairs, depth and pixels with their fits, and speed against threads."""
    save_figure(scaling_figure(found, title), out, overwrite=True)


def scaling_figure(found: dict[str, Any], title: str) -> Any:
    """The picture of :func:`scaling`."""
    figure, subplots = _figure(10, 7)
    grid = subplots(2, 2).ravel()
    labels = {"pairs": "pairs of images", "depth": "layers", "pixels": "pixels squared"}
    for axes, (name, label) in zip(grid, labels.items(), strict=False):
        curve = found[name]
        scale = curve["seconds"][-1] / curve["x"][-1] ** curve["exponent"]
        axes.loglog(curve["x"], curve["seconds"], "o")
        fit = [scale * x ** curve["exponent"] for x in curve["x"]]
        axes.loglog(curve["x"], fit, "-", label=f"exponent {curve['exponent']:.3f}")
        _plain_ticks(axes)
        if name == "depth":
            axes.set_xticks(curve["x"], [str(x) for x in curve["x"]])
        axes.set_xlabel(label)
        axes.set_ylabel("seconds")
        axes.legend()
    rows = found["threads"]["rows"]
    for name in ("engine", "roof"):
        grid[3].plot(
            [row["threads"] for row in rows],
            [row[name] / rows[0][name] for row in rows],
            "o-",
            label=name,
        )
    grid[3].set_xticks([row["threads"] for row in rows])
    grid[3].set_xlabel("threads")
    grid[3].set_ylabel("speed-up over one thread")
    grid[3].legend()
    figure.suptitle(title, fontsize=9)
    return figure


def _plain_ticks(axes: Any) -> None:
    """Labels at powers of ten, and in between only where an axis spans less than two of them."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        wide = limits[1] > 100 * limits[0]
        axis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
        axis.set_minor_formatter(NullFormatter())
        if not wide:
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
