"""The file of a search: one row for each network, a column for each regulariser; sealed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import widegram
from widegram.durable.contents import typed
from widegram.durable.sealed import SealedFile, write_sealed
from widegram.errors import WidegramError
from widegram.plan.precision import SERIES_ACCEPTED
from widegram.tuning.figures import FIGURES

Array = NDArray[Any]
FORMAT = "widegram-tuning"
_NETWORKS = "networks"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all rows of a table have in common; rows of other settings cannot be compared.

    * ``kernel``, ``dtype``: of the Gram matrices
    * ``x1_fingerprint``, ``y_fingerprint``: of the inputs and of the targets
    * ``absolute``: whether regularisers are added as they are
    * ``holdout``, ``seed``: share of rows held out, 0 without, and the seed that chose them
    """

    kernel: str
    dtype: str
    x1_fingerprint: str
    y_fingerprint: str
    absolute: bool
    holdout: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class Row:
    """One network that was tried.

    * ``net``: as it was asked for; ``head``: of its Readouts, '' without
    * ``network``: as a dict that `gram` takes; ``fingerprint``: its own
    * ``seconds``: of its figures, and its share of its sweep's kernels
    * ``error``: why there are no figures, '' where there are
    * ``accept_series_error``: the relative error that was accepted when its kernels were computed
    * ``figures``: (r,) for each of :data:`widegram.tuning.figures.FIGURES`
    """

    net: str
    head: str
    network: dict[str, Any]
    fingerprint: str
    seconds: float
    error: str
    figures: dict[str, Array]
    accept_series_error: float = SERIES_ACCEPTED

    @property
    def key(self) -> tuple[str, str]:
        """What tells the row from others of its table."""
        return self.fingerprint, self.head

    @property
    def name(self) -> str:
        """For tables: the network, and its head."""
        return f"{self.net} {self.head}".strip()


def write_table(
    path: Path, settings: Settings, regs: Sequence[float], rows: Sequence[Row], *, overwrite: bool
) -> None:
    """Write `/diag_reg` (r,), a dataset (m, r) for each figure, `/seconds` (m,), and `/networks`,
    JSON: a list of m objects; whole or not at all."""
    told = [
        {"net": row.net, "head": row.head, "network": row.network, "fingerprint": row.fingerprint,
         "error": row.error, "accept_series_error": row.accept_series_error}
        for row in rows
    ]  # fmt: skip
    datasets = {
        "diag_reg": np.asarray(regs, np.float64),
        "seconds": np.array([row.seconds for row in rows]),
        _NETWORKS: np.frombuffer(json.dumps(told).encode(), np.uint8),
        **{
            name: np.array([row.figures[name] for row in rows]).reshape(len(rows), len(regs))
            for name in FIGURES
        },
    }
    versions = {"format_version": 1, "program_version": widegram.__version__}
    attributes = {"format": FORMAT, **versions, **asdict(settings)}
    write_sealed(path, datasets, attributes, overwrite=overwrite)


def read_table(path: Path, settings: Settings, regs: Sequence[float]) -> list[Row]:
    """The rows of a table of the same settings and regularisers.

    Raises WidegramError for a foreign or damaged file, and for one of others, saying what differs.
    """
    what = "a table of networks; `widegram tune` writes them"
    kinds = {"str": str, "bool": bool, "float": float, "int": int}
    with SealedFile(path, FORMAT, what, "tune again with --overwrite") as file, file.parsing():
        found = {name: file.array(name) for name in ("diag_reg", "seconds", _NETWORKS, *FIGURES)}
        made = {
            field.name: typed(file.attributes[field.name], kinds[str(field.type)])
            for field in fields(Settings)
        }
        rows = _rows(found)
    differing = [
        name.replace("x1_fingerprint", "inputs").replace("y_fingerprint", "targets")
        for name, value in made.items()
        if value != getattr(settings, name)
    ]
    if not np.array_equal(found["diag_reg"], np.asarray(regs, np.float64)):
        differing.append("regularisers")
    if differing:
        raise WidegramError(
            f"{path}: is the table of another search: it has other {', '.join(differing)}; choose "
            "another --out or pass --overwrite"
        )
    return rows


def _rows(found: dict[str, Array]) -> list[Row]:
    """The rows that the datasets of a table hold; ValueError where these are not of one size."""
    told = json.loads(found[_NETWORKS].tobytes())
    size = len(told), found["diag_reg"].size
    if any(found[name].shape != size for name in FIGURES):
        raise ValueError("its figures are not of one size")
    return [
        Row(seconds=float(found["seconds"][n]), figures={name: found[name][n] for name in FIGURES},
            **one)
        for n, one in enumerate(told)
    ]  # fmt: skip
