"""A picture of a spectrum."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from widegram.errors import WidegramError
from widegram.linalg.spectrum import Spectrum
from widegram.pictures import save_figure


def require_matplotlib() -> None:
    """Raise WidegramError, with the command that installs it, where matplotlib is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise WidegramError("--plot needs matplotlib: pip install 'widegram[plot]'") from error


def plot_spectrum(path: Path, found: Spectrum, title: str, *, overwrite: bool = False) -> None:
    """Eigenvalues by rank (full decomposition or pairs), or the density with error bars.

    The format follows the file's ending. Unresolved eigenvalues are grey, below the line that
    marks the resolution.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    if found.density is None:
        _by_rank(axes, found)
    else:
        _density(axes, found)
    axes.set_title(f"{title} (n = {found.n})")
    save_figure(figure, path, overwrite=overwrite, dpi=150)


def _by_rank(axes: Any, found: Spectrum) -> None:
    values = found.known[::-1]
    rank = np.arange(1, values.size + 1)
    good = values > found.resolution
    axes.loglog(rank[good], values[good], ".", ms=3, color="tab:blue", label="eigenvalues")
    if not good.all():
        low = np.maximum(values[~good], found.floor / 10)
        axes.loglog(rank[~good], low, ".", ms=3, color="0.7", label="unresolved")
    axes.axhline(found.floor, color="0.5", ls="--", lw=1, label="resolution of the file")
    axes.set_xlabel("rank")
    axes.set_ylabel("eigenvalue")
    axes.legend()


def _density(axes: Any, found: Spectrum) -> None:
    assert found.density is not None
    edges = found.density.edges(found.floor, found.lambda_max)
    count, error = found.density.counts(edges)
    middle = np.sqrt(edges[1:-1] * edges[2:])
    axes.errorbar(middle, count[1:], error[1:], fmt=".", color="tab:blue", label="resolved")
    if count[0] > 0:
        axes.errorbar(edges[1], count[0], error[0], fmt="s", color="0.6", label="all below")
        axes.axvline(edges[1], color="0.5", ls="--", lw=1)
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=1.0)
    axes.set_ylim(bottom=0, top=3.0 * float(np.max(count + error)))
    axes.set_xlabel("eigenvalue")
    axes.set_ylabel("eigenvalues per bin")
    axes.legend()
