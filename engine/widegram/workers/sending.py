"""Data for workers that do not see it: block by block, two on their way at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np

from widegram.workers.session import Parcel, Session
from widegram.workers.talking import Line

_BLOCK_BYTES = 4 << 20


async def send_parcels(line: Line, session: Session, names: list[str]) -> None:
    """Send data, by its ``names`` in the session, to a worker. Raises as :meth:`Line.ask`."""
    for name in names:
        parcel = session.parcels[name]
        tables = [(table.name, table.shape, table.dtype.str) for table in parcel.tables]
        request = {"verb": "parcel", "session": session.name, "name": name, "tables": tables}
        await line.ask({**request, "block": None})
        blocks = _blocks(parcel)
        # The worker keeps the order: one asks for a block while the other one's is sent.
        await asyncio.gather(*(_send(line, request, blocks) for _ in range(2)))


async def _send(line: Line, request: dict[str, Any], blocks: Iterator[Any]) -> None:
    for block in blocks:
        await line.ask({**request, "block": block})


def _blocks(parcel: Parcel) -> Iterator[tuple[int, int, bytes]]:
    """(table, first row, bytes) of all rows."""
    for number, table in enumerate(parcel.tables):
        row = table.dtype.itemsize * int(np.prod(table.shape[1:]))
        step = max(1, _BLOCK_BYTES // max(row, 1))
        for low in range(0, table.shape[0], step):
            block = table.rows(low, min(low + step, table.shape[0]))
            yield number, low, np.ascontiguousarray(block, table.dtype).tobytes()
