"""Where a run computes: on a device of this machine, or at workers."""

from __future__ import annotations

from abc import ABC, abstractmethod

from widegram.backends.evaluator import Evaluator
from widegram.backends.job import Job
from widegram.computing.choosing import make_evaluator
from widegram.computing.devices import known
from widegram.computing.filling import Supplying
from widegram.computing.supply import LocalSupply
from widegram.computing.tile_queue import tiles_at_once
from widegram.errors import WidegramError


class Site(ABC):
    """Makes the evaluator of a run. ``device``: what computes, once there is one."""

    device: str

    @abstractmethod
    def evaluator(self, job: Job) -> Evaluator:
        """An evaluator of ``job``; raises as :func:`make_evaluator`."""

    @abstractmethod
    def at_once(self) -> int:
        """Tiles that it, or each of its workers, keeps in memory at the same time."""

    @abstractmethod
    def supplying(self) -> Supplying:
        """What its tiles come from."""


class Here(Site):
    """A ``device`` of this machine."""

    def __init__(self, device: str) -> None:
        self.device = device

    def evaluator(self, job: Job) -> Evaluator:
        self._made = make_evaluator(self.device, job)
        return self._made

    def at_once(self) -> int:
        return tiles_at_once(self._made)

    def supplying(self) -> Supplying:
        return LocalSupply


class AtWorkers(Site):
    """The workers at an ``address``; ``device``, ``memory``: for each of them, as a user gives
    them. ``mixed``: they may be of several kinds."""

    def __init__(self, address: str, device: str, memory: str | int | None, mixed: bool) -> None:
        known(device)
        self.device, self._arguments = device, (address, device, memory, mixed)

    def evaluator(self, job: Job) -> Evaluator:
        from widegram.computing.remote import RemoteEvaluator

        address, device, memory, mixed = self._arguments
        self._made = RemoteEvaluator(address, job, device, memory, mixed)
        self.device = self._made.device
        return self._made

    def at_once(self) -> int:
        return self._made.at_once

    def supplying(self) -> Supplying:
        return self._made.supply


def site(
    dask: str | None, device: str, memory: str | int | None, mixed_workers: bool
) -> Site:
    """Where a run computes; ``device`` as :func:`widegram.computing.devices.device_for` gives it,
    or for workers as a user does. Raises :class:`WidegramError` for what does not go together."""
    if dask is not None:
        return AtWorkers(dask, device, memory, mixed_workers)
    if mixed_workers:
        raise WidegramError("mixed workers are workers of --dask, which is not given")
    return Here(device)
