"""The pictures of the paper: phase diagram, spectra against depth, trainability maps.

Needs matplotlib (``pip install 'widegram[plot]'``). Every function writes one PNG, whole or not at
all, and refuses an existing file unless told to overwrite.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from widegram.durable.pictures import require_matplotlib, save_figure
from widegram.meanfield.experiments.trainfile import read_maps

if TYPE_CHECKING:
    from widegram.meanfield.experiments.phase import PhaseMap
    from widegram.meanfield.experiments.sweeps import SpectrumSweep
    from widegram.meanfield.theory.one_layer import Array

_DPI = 90
_INK, _PREDICTED = "#1f4e79", "#c0392b"


def pyplot() -> Any:
    """matplotlib's figure factory without a display; raises WidegramError where it is missing."""
    require_matplotlib()
    from matplotlib.figure import Figure

    return Figure


def plot_phase(result: PhaseMap, out: str | Path, overwrite: bool = False) -> None:
    """q*, c*, chi_1 and the depth scale over the grid, with the line chi_1 = 1."""
    figure = pyplot()(figsize=(10, 7.5), layout="constrained")
    axes = figure.subplots(2, 2)
    solved = result.solved
    scale = np.where(solved.chi_1 < 1, solved.xi_1, solved.xi_c)
    panels = (
        ("$q^*$", solved.q_star, "viridis", None),
        ("$c^*$", solved.c_star, "magma", (0, 1)),
        (r"$\chi_1$", solved.chi_1, "coolwarm", (0, 2)),
        (r"$\xi_1$ (ordered), $\xi_{c^*}$ (chaotic), at most 100",
         np.minimum(scale, 100), "cividis", (0, 100)),
    )  # fmt: skip
    for axis, (title, values, colours, limits) in zip(axes.flat, panels, strict=True):
        low, high = limits or (None, None)
        image = axis.pcolormesh(
            result.w_var,
            result.b_var,
            values.T,
            cmap=colours,
            vmin=low,
            vmax=high,
            shading="nearest",
            rasterized=True,
        )
        figure.colorbar(image, ax=axis)
        axis.plot(result.critical, result.b_var, color="white", linewidth=2.5)
        axis.plot(result.critical, result.b_var, color="black", linewidth=1.2)
        axis.set(title=title, xlabel=r"$\sigma_w^2$", ylabel=r"$\sigma_b^2$")
        if len(result.w_var) > 1:
            axis.set_xlim(result.w_var[0], result.w_var[-1])
    figure.suptitle(rf"{result.act}: phase diagram; line: $\chi_1 = 1$")
    _save(figure, out, overwrite)


_PANELS = (
    ("diagonal", r"$\Theta$ diagonal"),
    ("off_diagonal", r"$\Theta$ off-diagonal"),
    ("lambda_max", r"$\lambda_{\max}$"),
    ("bulk", r"$\lambda_{\rm bulk}$"),
    ("kappa", r"$\kappa$"),
    ("predictor", r"$|P(\Theta) Y|$, centred"),
)


def plot_spectrum(
    result: SpectrumSweep,
    out: str | Path,
    overwrite: bool = False,
    plain: SpectrumSweep | None = None,
) -> None:
    """Six quantities against depth, the paper's predictions dashed.

    Constants are drawn as they are; rates are drawn through the deepest measured point. ``plain``
    is the same sweep from kernels stored in float64, drawn in grey.
    """
    figure = pyplot()(figsize=(11, 6.5), layout="constrained")
    for axis, (name, title) in zip(figure.subplots(2, 3).flat, _PANELS, strict=True):
        if plain is not None:
            grey = {"color": "#999999", "markersize": 3, "label": "float64 kernel"}
            axis.plot(plain.depths, log10_of(plain, name), "s-", **grey)
        _draw_measured(axis, result, name)
        axis.set(title=title, xlabel="depth", ylabel=r"$\log_{10}$")
    setting = result.setting
    about = (
        ""
        if setting is None
        else (
            rf"{setting.act.name}, $\sigma_w^2$ = {setting.w_var:g}, $\sigma_b^2$ = "
            rf"{setting.b_var:g}: {setting.point['phase']}; "
        )
    )
    figure.suptitle(f"{about}{result.m} inputs, by {result.method}")
    _save(figure, out, overwrite)


def _draw_measured(axis: Any, result: SpectrumSweep, name: str) -> None:
    """A measure and its law, with a legend where there is a number."""
    log_values = log10_of(result, name)
    axis.plot(result.depths, log_values, "o-", color=_INK, markersize=3, label="measured")
    known = np.flatnonzero(np.isfinite(log_values))
    if not known.size:
        return
    law = result.predicted.get(name)
    if law is not None:
        line = law.law(result.layers.astype(float)) / np.log(10)
        if not law.constant:
            line = line + log_values[known[-1]] - line[known[-1]]
        label = law.text.replace("*", r"$^*$") + ("" if law.constant else " (rate)")
        axis.plot(result.depths, line, "--", color=_PREDICTED, label=label)
    axis.legend(fontsize=8)


def log10_of(result: SpectrumSweep, name: str) -> Array:
    """log10 of a measure, beyond the range of float64 where the sweep carries it."""
    if name in ("bulk", "kappa", "lambda_min"):
        return result.values["log10_" + name.removeprefix("lambda_")]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.log10(result.values[name]))


def plot_trainability(
    path: str | Path, out: str | Path, overwrite: bool = False, multiples: Sequence[float] = (8,)
) -> None:
    """Training (above) and test accuracy over (w_var, depth), one column for each time.

    ``path`` is a complete file of ``trainability``. c xi_1 is drawn in the ordered and c xi_* in
    the chaotic phase for c in ``multiples``.
    """
    found = read_maps(path)
    w, depths, times = (found[name] for name in ("w_var", "depths", "times"))
    maps = [found[name] for name in ("train_accuracy", "test_accuracy")]
    scales = {r"\xi_1": found["xi_1"], r"\xi_*": found["xi_star"]}
    figure = pyplot()(figsize=(2.6 * len(times) + 1, 5.5), layout="constrained")
    axes = figure.subplots(2, len(times), sharex=True, sharey=True, squeeze=False)
    for row, (values, label) in enumerate(zip(maps, ("training", "test"), strict=True)):
        top = 1.0 if row == 0 else float(np.nanmax(values, initial=0.1))
        for column, time in enumerate(times):
            axis = axes[row, column]
            image = axis.pcolormesh(
                w,
                depths,
                values[:, :, column].T,
                cmap="inferno",
                vmin=0,
                vmax=top,
                shading="nearest",
                rasterized=True,
            )
            for (name, xi), style in zip(scales.items(), ("-", "--"), strict=True):
                for multiple in multiples:
                    axis.plot(w, multiple * xi, color="black", linewidth=3)
                    axis.plot(
                        w,
                        multiple * xi,
                        style,
                        color="cyan",
                        linewidth=1.5,
                        label=rf"${multiple:g}\,{name}$",
                    )
            axis.set_title(f"{label}, t = {time:g}")
            if len(depths) > 1:
                axis.set_ylim(depths[0], depths[-1])
            if row == 1:
                axis.set_xlabel(r"$\sigma_w^2$")
        axes[row, 0].set_ylabel("depth")
        figure.colorbar(image, ax=axes[row, :], label="accuracy", shrink=0.9)
    axes[0, 0].legend(fontsize=7, loc="upper left", labelcolor="cyan", facecolor="black")
    _save(figure, out, overwrite)


def _save(figure: Any, out: str | Path, overwrite: bool) -> None:
    save_figure(figure, out, overwrite=overwrite, dpi=_DPI)


__all__ = ["log10_of", "plot_phase", "plot_spectrum", "plot_trainability"]
