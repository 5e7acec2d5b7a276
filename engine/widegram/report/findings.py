"""What a report says, as plain values: network, cost, spectrum, solution, predictions, checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.combining.recipe import is_combined
from widegram.durable.sealed import SealedFile
from widegram.errors import WidegramError
from widegram.gramfile import GramFile
from widegram.network import Network, load_network
from widegram.network.listing import layers_of
from widegram.network.load import has_function
from widegram.plan import build
from widegram.report.belonging import Run
from widegram.report.judged_predictions import judged

Array = NDArray[Any]
_MATRIX = ("device", "device_name", "device_note", "program_version", "tile", "x1_location")
_SOLVED = (
    "kernel", "depth", "head", "task", "method", "status", "iterations", "residual", "diag_reg",
    "diag_reg_absolute", "shift", "unit_diagonal",
)  # fmt: skip
_PATH = ("diag_reg", "c", "mse", "accuracy", "log_evidence")
_FILE_FACTS = ("format", "format_version", "seal", "program_version")


def findings(
    run: Run, labels: str | None, times: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """All that a report prints, by section; a section is None where its file was not given.

    ``labels`` are of the test points. ``times`` has what commands printed with ``--json``, by the
    kind of file that they wrote.
    """
    return {
        "files": list(run.checks),
        "network": network(run.gram),
        "matrix": matrix(run.gram),
        "cost": cost(run.gram, times or {}),
        "spectrum": None if run.spectrum is None else spectrum(run.spectrum),
        "solution": None if run.solution is None else solution(run.solution),
        "predictions": judged(run, labels),
    }


def network(gram: GramFile) -> dict[str, Any]:
    """The network's fingerprint, and its layers or, of a combination, the files it is of."""
    found: dict[str, Any] = {"fingerprint": gram.fingerprints["network"], "layers": [], "of": []}
    if is_combined(gram.network):
        parts = gram.network["of"]
        found["of"] = [{"file": part["file"], "kernel": part.get("kernel")} for part in parts]
        found["combine"] = gram.network["combine"]
    elif not has_function(gram.network):
        known = load_network(gram.network)
        found |= {"layers": layers_of(known), "input_shape": list(known.input_shape)}
    return found


def matrix(gram: GramFile) -> dict[str, Any]:
    """Sizes of the matrices, and where they came from."""
    attributes = gram.attributes
    return {
        "n1": gram.n1,
        "n2": gram.n2,
        "symmetric": gram.symmetric,
        "dtype": str(gram.dtype),
        "datasets": list(gram.keys()),
        **{name: attributes[name] for name in _MATRIX if attributes.get(name)},
        **{
            f"{name}_fingerprint": of for name, of in gram.fingerprints.items() if name != "network"
        },
    }


def cost(gram: GramFile, times: Mapping[str, Any]) -> dict[str, Any]:
    """Entries, bytes and operations; seconds where the commands' own figures are given."""
    entries = gram.n1 * gram.n2
    found: dict[str, Any] = {
        "entries": entries,
        "computed": gram.n1 * (gram.n1 + 1) // 2 if gram.symmetric else entries,
        "matrices": len(gram.keys()),
        "bytes": gram.path.stat().st_size,
    }
    known = None if is_combined(gram.network) or has_function(gram.network) else gram.network
    if known is not None:
        found |= _work(load_network(known), gram)
    found["seconds"] = {kind: values["seconds"] for kind, values in times.items()}
    if "gram file" in times:
        found["entries_per_second"] = times["gram file"]["entries_per_second"]
    return found


def _work(known: Network, gram: GramFile) -> dict[str, Any]:
    planned = build(known, get=gram.kernels, depths=gram.depths or None).describe()
    return {
        "element_layers": planned["element_layers"],
        "bytes_per_pair": planned["bytes_per_pair"][str(gram.dtype)],
    }


def spectrum(file: SealedFile) -> dict[str, Any]:
    """The summary of a spectrum, as ``eig`` prints it."""
    wanted = {"kernel", "n", "method", "dtype"}
    values = file.attributes.items()
    return {
        name: value
        for name, value in values
        if name in wanted or (isinstance(value, int | float) and name not in _FILE_FACTS)
    }


def solution(file: SealedFile) -> dict[str, Any]:
    """How it was solved, and the path of regularisers with what was found at each."""
    values = {"depth": -1, "head": ""} | file.attributes
    found = {name: values[name] for name in _SOLVED if values[name] not in ("", -1)}
    targets = file.array("targets").shape
    return found | {"n": targets[0], "outputs": targets[1], "path": _path(file)}


def _path(file: SealedFile) -> list[dict[str, Any]]:
    columns = {name: file.array(f"path/{name}") for name in _PATH if f"path/{name}" in file}
    rows = zip(*columns.values(), strict=True)
    return [
        {name: float(value) if np.isfinite(value) else None
         for name, value in zip(columns, row, strict=True)}
        for row in rows
    ]  # fmt: skip


def own_times(
    records: Sequence[Mapping[str, Any]], run: Run, log: str
) -> dict[str, Any]:
    """The last record, of what commands printed, of each file of the run that took any time.

    ``log`` is what holds them. Raises :class:`WidegramError` where none is of a file of the run.
    """
    found: dict[str, Any] = {}
    for kind, file in run.files.items():
        place = file.path.resolve()
        for record in records:
            timed = isinstance(record.get("seconds"), int | float) and record.get("entries", 1)
            if timed and place in _places(record.get("file"), place.parent):
                found[kind] = record
    if not found:
        raise WidegramError(
            f"{log}: none of {len(records)} records is of a file of this report; give what its "
            "commands printed with --json"
        )
    return found


def _places(name: Any, folder: Path) -> list[Path]:
    """What a name may mean: from here, or from the folder of the file."""
    if not isinstance(name, str) or "\0" in name:
        return []
    return [Path(name).resolve(), (folder / name).resolve()]
