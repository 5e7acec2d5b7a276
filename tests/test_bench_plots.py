"""Pictures of benchmarks: their labels can be read."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

RESULTS = Path(__file__).parents[1] / "bench" / "results" / "scaling-2cores.json"


def test_labels_of_the_scaling_picture_do_not_overlap() -> None:
    pytest.importorskip("matplotlib")
    from widegram_bench.plots import scaling_figure

    figure = scaling_figure(json.loads(RESULTS.read_text()), "a title")
    figure.canvas.draw()
    for axes in figure.axes:
        for axis, side in ((axes.xaxis, "x"), (axes.yaxis, "y")):
            ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
            labels = [tick.label1 for tick in ticks if tick.label1.get_text()]
            assert len(labels) >= 2
            boxes = [label.get_window_extent() for label in labels]
            spans = sorted((getattr(b, f"{side}0"), getattr(b, f"{side}1")) for b in boxes)
            for (_, end), (begin, _) in pairwise(spans):
                assert begin >= end
