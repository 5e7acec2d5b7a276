"""The file of a sweep over depths: kernels as they come, measures at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from widegram.durable import Part, new_file, reserve
from widegram.durable.sealed import NewSealed
from widegram.meanfield.experiments.sweeps import SpectrumSweep
from widegram.meanfield.recursion.deviations import Deviations

FORMAT = "widegram-sweep"
_KERNELS = ("nngp_deviation", "ntk_deviation")


@contextmanager
def new_sweep_file(
    path: str | Path, overwrite: bool, depths: Sequence[int]
) -> Iterator[SweepFile]:
    """The file of a sweep over ``depths`` in the making; its ``finish`` must be called inside."""
    with new_file(path, overwrite=overwrite) as part:
        yield SweepFile(part, depths)


class SweepFile:
    """HDF5 under construction. Layout in :meth:`finish` and :meth:`keep`."""

    def __init__(self, part: Part, depths: Sequence[int]) -> None:
        self._part, self._depths = part, sorted(set(depths))
        self._new: NewSealed | None = None
        self._notes: dict[str, dict[str, Any]] = {}

    def keep(self, depth: int, found: Deviations) -> None:
        """/depth/<l>/{nngp,ntk}_deviation (m, m), float64, attributes level and log_scale:

        kernel = level - exp(log_scale) * dataset, the deviation to full relative precision.
        """
        parts = ((found.q, found.delta), (found.level, found.drop))
        if self._new is None:
            self._new = self._begun(len(found.drop.value))
        for kernel, (level, part) in zip(_KERNELS, parts, strict=True):
            name = f"depth/{depth}/{kernel}"
            self._notes[name] = {"level": level, "log_scale": part.log_scale}
            self._new.append(name, part.value)

    def _begun(self, m: int) -> NewSealed:
        def describe(file: h5py.File) -> None:
            for depth in self._depths:
                for kernel in _KERNELS:
                    reserve(file, f"depth/{depth}/{kernel}", (m, m), "<f8")

        return NewSealed(self._part, describe)

    def finish(self, result: SpectrumSweep) -> None:
        """/depths and one dataset (depths,) per measure; /predicted/<measure> with attributes
        formula and kind ('constant', or 'rate', known up to a factor)."""
        attributes = {
            "format": FORMAT,
            "format_version": 1,
            "network": result.network.to_json(),
            "m": result.m,
            "method": result.method,
        }
        if result.setting is not None:
            attributes["phase"] = result.setting.point["phase"] or ""
        datasets = {"depths": result.depths, **result.values}
        for name, law in result.predicted.items():
            datasets[f"predicted/{name}"] = law.values(result.layers)
            kind = "constant" if law.constant else "rate"
            self._notes[f"predicted/{name}"] = {"formula": law.text, "kind": kind}
        new = self._new or NewSealed(self._part, lambda file: None)
        new.finish(datasets, attributes, of=self._notes)
