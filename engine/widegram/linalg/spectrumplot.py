"""A picture of a spectrum."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.durable.pictures import require_matplotlib, save_figure
from widegram.linalg.summary import Bins, Spectrum


def plot_spectrum(path: Path, found: Spectrum, title: str, *, overwrite: bool = False) -> None:
    """Eigenvalues by rank (full decomposition or pairs), or the density with its range.

    The format follows the file's ending. Unresolved eigenvalues are grey, below the line that
    marks the resolution.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    if found.lambda_max <= found.floor:
        axes.text(0.5, 0.5, f"no eigenvalue above {found.floor:.2g}", ha="center")
    elif found.density is None:
        draw_by_rank(axes, found.known, found.floor)
    else:
        draw_density(axes, found.bins, found.floor)
    axes.set_title(f"{title} (n = {found.n})")
    save_figure(figure, path, overwrite=overwrite, dpi=150)


def draw_by_rank(axes: Any, known: NDArray[Any], floor: float) -> None:
    """Ascending eigenvalues by rank; those up to the resolution ``floor`` mean nothing."""
    values = known[::-1]
    rank = np.arange(1, values.size + 1)
    good = values > floor
    axes.loglog(rank[good], values[good], ".", ms=3, color="tab:blue", label="eigenvalues")
    if not good.all():
        low = np.maximum(values[~good], floor / 10)
        axes.loglog(rank[~good], low, ".", ms=3, color="0.7", label="unresolved")
    axes.axhline(floor, color="0.5", ls="--", lw=1, label="resolution of the file")
    axes.set_xlabel("rank")
    axes.set_ylabel("eigenvalue")
    axes.legend()


def draw_density(axes: Any, bins: Bins, floor: float) -> None:
    """Eigenvalues per decade: a band from the least to the most, a line at the estimate."""
    first = int(np.argmax(bins.edges[1:] > floor)) + 1 if bins.edges.size > 2 else 0
    edges = bins.edges[first:]
    if edges.size > 1:
        width = np.log10(edges[1:] / edges[:-1])
        least, most, count = (
            column[first:] / width for column in (bins.least, bins.most, bins.count)
        )
        axes.stairs(
            most, edges, baseline=least, fill=True, color="tab:blue", alpha=0.25, label="range"
        )
        axes.stairs(count, edges, baseline=None, color="tab:blue", label="estimate")
        axes.set_xscale("log")
        axes.set_yscale("symlog", linthresh=1.0)
        axes.set_ylim(bottom=0, top=1.5 * float(np.max(most, initial=1.0)))
    below, most_below = int(bins.least[:first].sum()), int(bins.most[:first].sum())
    if most_below:
        axes.axvline(floor, color="0.5", ls="--", lw=1)
        axes.plot([], [], " ", label=f"below {floor:.2g}: {below} to {most_below}")
    axes.set_xlabel("eigenvalue")
    axes.set_ylabel("eigenvalues per decade")
    axes.legend()
