"""Nsight Compute's numbers of the fast kernel, and a roofline picture."""

from __future__ import annotations

import csv
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

from widegram.backends.job import Job
from widegram.validation.choices import KERNELS
from widegram_bench.child import finished
from widegram_bench.gpu.assembled import tool

# Nsight Compute's names -> ours.
METRICS = {
    "gpu__time_duration.sum": "time_ns",
    "sm__warps_active.avg.pct_of_peak_sustained_active": "occupancy_percent",
    "smsp__issue_active.avg.pct_of_peak_sustained_active": "issue_percent",
    "sm__inst_executed_pipe_fma.avg.pct_of_peak_sustained_active": "fma_pipe_percent",
    "sm__inst_executed_pipe_xu.avg.pct_of_peak_sustained_active": "special_pipe_percent",
    "sm__inst_executed_pipe_lsu.avg.pct_of_peak_sustained_active": "memory_pipe_percent",
    "smsp__inst_executed.sum": "instructions",
    "dram__bytes.sum": "dram_bytes",
    "lts__t_bytes.sum": "l2_bytes",
    "lts__t_sectors.avg.pct_of_peak_sustained_elapsed": "l2_percent",
    "l1tex__t_sector_hit_rate.pct": "l1_hit_percent",
    "smsp__sass_thread_inst_executed_op_ffma_pred_on.sum": "ffma",
    "smsp__sass_thread_inst_executed_op_fadd_pred_on.sum": "fadd",
    "smsp__sass_thread_inst_executed_op_fmul_pred_on.sum": "fmul",
}
_PAIRS = 48


def profile(number: int, seconds: float) -> dict[str, Any]:
    """Metrics of one launch of the 21-layer network's first kernel, or the ``problem``."""
    ncu = tool("ncu")
    if ncu is None:
        return {"problem": "ncu is not installed"}
    command = [
        str(ncu), "--csv", "--clock-control", "none", "--kernel-name", "regex:kernel",
        "--launch-skip", "2", "--launch-count", "1", "--metrics", ",".join(METRICS),
        sys.executable, "-m", "widegram_bench.gpu.profiler", str(number),
    ]  # fmt: skip
    try:
        done = finished(command, timeout=seconds)
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"problem": str(error)}
    said = (done.stdout + done.stderr).strip().splitlines()
    return parse(done.stdout) or {"problem": said[-1] if said else "no output"}


def parse(text: str) -> dict[str, float]:
    """Our names and values of the lines that ncu --csv prints."""
    lines = [line for line in text.splitlines() if line.startswith('"')]
    found = {}
    for row in csv.DictReader(lines):
        name = METRICS.get(row.get("Metric Name", ""))
        value = row.get("Metric Value", "").replace(",", "")
        if name is not None and value and value.lower() not in ("nan", "n/a"):
            found[name] = float(value)
    return found


def picture(results: dict[str, Any], out: Path) -> bool:
    """Arithmetic rates against intensity, under those of the card's two roofs that are known; False
    without the numbers."""
    card, found = results["card"], results["profile"]
    needed = {"time_ns", "dram_bytes", "l2_bytes", "ffma", "fadd", "fmul"}
    if importlib.util.find_spec("matplotlib") is None or not needed <= set(found):
        return False
    import numpy as np
    from matplotlib.figure import Figure

    from widegram.durable.pictures import save_figure

    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    intensity = np.logspace(-1, 5, 100)
    if known := roofs(card, intensity):
        label = f"roof ({', '.join(known)})"
        axes.loglog(intensity, np.min(list(known.values()), axis=0), "k-", label=label)
    flops = 2 * found["ffma"] + found["fadd"] + found["fmul"]
    rate = flops / found["time_ns"] * 1e9
    for name, label in (("dram_bytes", "DRAM"), ("l2_bytes", "L2")):
        axes.loglog(flops / max(found[name], 1.0), rate, "o", label=label)
    axes.set_xlabel("floating-point operations per byte")
    axes.set_ylabel("floating-point operations per second")
    axes.set_title(f"21-layer ReLU network, 32 x 32, float32, {card['name']}", fontsize=9)
    axes.legend()
    save_figure(figure, out, overwrite=True)
    return True


def roofs(card: dict[str, Any], intensity: Any) -> dict[str, Any]:
    """The most operations a second that float32 arithmetic and DRAM allow, as far as known."""
    found = {}
    if card.get("float32_lanes"):
        peak = card["multiprocessors"] * card["float32_lanes"] * 2 * card["clock_hz"]
        found["arithmetic"] = peak + 0 * intensity
    if card.get("memory_bandwidth"):
        found["DRAM"] = card["memory_bandwidth"] * intensity
    return found


def main(number: int) -> None:
    """A few launches of the kernel that is profiled."""
    import numpy as np

    from widegram.cuda.device import gpus
    from widegram.cuda.evaluator import CudaEvaluator
    from widegram.data import open_source
    from widegram_bench.networks import cnn

    x = np.random.default_rng(0).standard_normal((2 * _PAIRS, 32, 32, 3)).astype(np.float32)
    job = Job(
        network=cnn(21, 32),
        x1=open_source(x[:_PAIRS]),
        x2=open_source(x[_PAIRS:]),
        kernels=KERNELS,
        dtype="float32",
        memory=4 * 2**30,
    )
    with CudaEvaluator(job, gpus((number,))) as evaluator:
        for _ in range(3):
            evaluator.tile(range(_PAIRS), range(_PAIRS), False)


if __name__ == "__main__":
    main(int(sys.argv[1]))
