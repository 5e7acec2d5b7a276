"""A request for kernels: what is computed, from what, within which budget."""

from __future__ import annotations

from dataclasses import dataclass

from widegram.data import Source
from widegram.network import Network
from widegram.network.masking import constants
from widegram.plan.precision import SERIES_ACCEPTED
from widegram.tiling import dataset_keys


@dataclass(frozen=True, kw_only=True)
class Job:
    """A checked request: everything that decides the values, and the budget for computing them.

    * ``network``: the network.
    * ``x1``, ``x2``: inputs by row; without ``x2`` the symmetric matrix of x1. Where the network
      has a mask, masked numbers are marked.
    * ``kernels``: 'nngp', 'ntk' or both.
    * ``depths``: of a sweep, increasing; () without one.
    * ``dtype``: 'float32' or 'float64'.
    * ``threads``: of the CPU, None for all cores that may be used.
    * ``memory``: bytes of the host for working memory and blocks of images.
    * ``accept``: the relative error of a Hermite series that is accepted.
    """

    network: Network
    x1: Source
    x2: Source | None
    kernels: tuple[str, ...]
    depths: tuple[int, ...] = ()
    dtype: str = "float64"
    threads: int | None = None
    memory: int = 2**32
    accept: float = SERIES_ACCEPTED

    def __post_init__(self) -> None:
        if self.network.mask is None:
            return
        for name in ("x1", "x2"):
            source = getattr(self, name)
            if source is not None and not source.marked:
                object.__setattr__(self, name, source.masked(constants(self.network.mask)))

    @property
    def keys(self) -> tuple[str, ...]:
        """Dataset paths of what is computed."""
        return dataset_keys(self.kernels, self.depths, self.network.heads)
