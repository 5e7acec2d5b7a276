"""What a client wants of workers, and what they say of it: plain data, which any can read."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from widegram.data.formats import Table
from widegram.errors import WidegramError

Request = dict[str, Any]


class Lost(Exception):
    """A worker is gone, or does not answer: what it was asked for is to be asked for again."""


class SchedulerGone(WidegramError):
    """Nothing more can come from the workers."""

    exit_code = 130


@dataclass(frozen=True)
class Parcel:
    """Data that a worker may not see: ``tables`` of rows, known by a ``fingerprint``."""

    fingerprint: str
    tables: tuple[Table, ...]


@dataclass(frozen=True)
class Session:
    """One job at the workers.

    * ``kind``: 'module:class', the :class:`widegram.workers.serving.Served` that does it
    * ``request``: what it is made from
    * ``parcels``: data by name, sent to workers that cannot see it themselves
    """

    kind: str
    request: Request
    parcels: Mapping[str, Parcel] = field(default_factory=dict)
    name: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass(frozen=True)
class Facts:
    """What a worker says of itself before it opens a session.

    * ``version``: of the program; ``sources``: a digest of what decides its values
    * ``device``: the kind that computes; ``bits``: equal where results are, in words
    """

    version: str
    sources: str
    device: str
    bits: str


@dataclass(frozen=True, eq=False)
class Shared:
    """What all items of round ``number`` need: every worker gets the ``block`` once."""

    number: int
    block: NDArray[Any]
