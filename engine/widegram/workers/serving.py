"""The worker's side: sessions that are open, from request to request, and data that was sent.

:func:`answer` is the one door. Requests and answers are plain data, so that neither a scheduler nor
a client of another version has to know classes of this program.
"""

from __future__ import annotations

import importlib
import math
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any, BinaryIO

import numpy as np

from widegram.data.formats import Table
from widegram.errors import WidegramError, one_line, reason
from widegram.workers.builds import program
from widegram.workers.session import Facts, Request

# Sessions and data that nobody asked for so long are given up: their client may have been killed.
_IDLE_SECONDS = 600.0
_STACK = 16 << 20  # What compiles needs more than some systems give a thread.
Answer = tuple[str, Any]


class Unseen(Exception):
    """Data that this worker cannot see where the client sees it; ``names`` it as parcels."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(*names)
        self.names = names


class Unshared(Exception):
    """Work on what has not been shared with this session, or not any more."""


class Served(ABC):
    """What a worker keeps of one job while a session is open."""

    @classmethod
    @abstractmethod
    def facts(cls, request: Request) -> tuple[str, str]:
        """The kind of device that would compute, and what its bits depend on, in words."""

    @classmethod
    @abstractmethod
    def open(cls, request: Request, parcels: Mapping[str, list[Table]]) -> Served:
        """Everything that its work needs. ``parcels``: data that was sent, by name.

        Raises :class:`Unseen` for data that is not to be seen here, and was not sent; WidegramError
        where it is other data than the client's, or cannot be computed with.
        """

    @abstractmethod
    def described(self) -> dict[str, Any]:
        """What the client wants to know of it."""

    @abstractmethod
    def work(self, items: list[Any]) -> list[Any]:
        """The results of some items."""

    def call(self, name: str, arguments: tuple[Any, ...]) -> Any:
        """The result of the method ``name`` of those that it lets the client call, here none;
        raises :class:`WidegramError` for any other."""
        raise WidegramError(f"{type(self).__name__} has no method {name} to be called")

    @abstractmethod
    def close(self) -> None:
        """Give up what is held."""


class ServedInRounds(Served):
    """One whose items are of a round, and all items of a round have something in common.

    Its :meth:`work` raises :class:`Unshared` for items of any other round.
    """

    @abstractmethod
    def share(self, number: int, block: np.ndarray) -> None:
        """Keep what the items of round ``number`` have in common, in place of what was before."""


class _Session:
    """A job of one client. Its work runs in a thread of its own, one request at a time."""

    def __init__(self) -> None:
        self.used = time.monotonic()
        self.served: Served | None = None
        self.parcels: dict[str, _Spool] = {}
        self._pool = _deep_thread()

    def run(self, task: Callable[[], Any]) -> Any:
        """What ``task()`` gives, in this session's thread."""
        self.used = math.inf  # Not idle.
        try:
            return self._pool.submit(task).result()
        finally:
            self.used = time.monotonic()

    def close(self) -> None:
        """Give up everything, once what is in work has ended."""

        def end() -> None:
            if self.served is not None:
                self.served.close()
            for spool in self.parcels.values():
                spool.close()

        self._pool.submit(end)
        self._pool.shutdown(wait=False)


class _Spool:
    """A parcel in a file without a name: gone with this process, however that ends."""

    def __init__(self, tables: list[tuple[str, tuple[int, ...], str]]) -> None:
        self._file: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 - for a session's life
        self.tables: list[Table] = []
        self._offsets: list[int] = []
        offset = 0
        for name, shape, dtype in tables:
            self.tables.append(self._table(name, tuple(shape), np.dtype(dtype), offset))
            self._offsets.append(offset)
            offset += np.dtype(dtype).itemsize * math.prod(shape)

    def put(self, number: int, row: int, block: bytes) -> None:
        """Rows of a table, from ``row`` on."""
        table = self.tables[number]
        size = table.dtype.itemsize * math.prod(table.shape[1:])
        self._file.seek(self._offsets[number] + row * size)
        self._file.write(block)
        self._file.flush()

    def close(self) -> None:
        """Give up the file."""
        self._file.close()

    def _table(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], at: int) -> Table:
        size = dtype.itemsize * math.prod(shape[1:])

        def rows(low: int, high: int) -> np.ndarray:
            count = (high - low) * math.prod(shape[1:])
            self._file.seek(at + low * size)
            found = np.frombuffer(self._file.read(count * dtype.itemsize), dtype)
            return found.reshape(high - low, *shape[1:])

        return Table(name, shape, dtype, _alone(rows))


_sessions: dict[str, _Session] = {}
_lock, _lock_stack = threading.Lock(), threading.Lock()


def answer(request: Request) -> Answer:
    """What a request asks for, as ('done', result), ('unseen', names), ('closed', None) where its
    session is not open here, or ('failed', (class name, message))."""
    try:
        # Several workers may live in one process: each has sessions of its own.
        own = {**request, "session": f"{_worker().id} {request['session']}"}
        return _VERBS[request["verb"]](own)
    except Unseen as unseen:
        return "unseen", unseen.names
    except Unshared:
        return "closed", None
    except MemoryError:
        return "failed", ("WidegramError", "out of memory; give a smaller --memory")
    except BaseException as error:  # Whatever it is: the client is told, the worker lives on.
        name = type(error).__name__
        text = reason(error, named=not isinstance(error, WidegramError))
        return "failed", (name, one_line(text))


def _facts(request: Request) -> Answer:
    device, bits = _kind(request).facts(request["request"])
    return "done", asdict(Facts(*program(), device, bits))


def _open(request: Request) -> Answer:
    _drop_idle()
    session = _session(request["session"])
    tables = {name: spool.tables for name, spool in session.parcels.items()}
    cores = int(_worker().state.nthreads)  # those that it was started with

    def make() -> dict[str, Any]:
        if session.served is None:
            session.served = _kind(request).open(request["request"] | {"cores": cores}, tables)
        return session.served.described()

    return "done", session.run(make)


def _parcel(request: Request) -> Answer:
    session = _session(request["session"])
    name = request["name"]

    def put() -> None:
        if name not in session.parcels:
            session.parcels[name] = _Spool(request["tables"])
        if request["block"] is not None:
            session.parcels[name].put(*request["block"])

    return "done", session.run(put)


def _share(request: Request) -> Answer:
    session = _sessions.get(request["session"])
    if session is None or session.served is None:
        return "closed", None
    served = session.served
    assert isinstance(served, ServedInRounds)
    return "done", session.run(lambda: served.share(request["number"], request["block"]))


def _work(request: Request) -> Answer:
    session = _sessions.get(request["session"])
    if session is None or session.served is None:
        return "closed", None
    served, begun = session.served, time.monotonic()

    def run() -> tuple[list[Any], float]:
        start = time.monotonic()
        found = served.work(request["items"])
        return found, time.monotonic() - start

    found, seconds = session.run(run)
    return "done", (found, seconds, time.monotonic() - begun)


def _call(request: Request) -> Answer:
    session = _sessions.get(request["session"])
    if session is None or session.served is None:
        return "closed", None
    served = session.served
    return "done", session.run(lambda: served.call(request["name"], request["arguments"]))


def _close(request: Request) -> Answer:
    with _lock:
        session = _sessions.pop(request["session"], None)
    if session is not None:
        session.close()
    return "done", None


_VERBS: dict[str, Callable[[Request], Answer]] = {
    "facts": _facts,
    "open": _open,
    "parcel": _parcel,
    "share": _share,
    "work": _work,
    "call": _call,
    "close": _close,
}


def _kind(request: Request) -> type[Served]:
    module, _, name = request["kind"].partition(":")
    kind: type[Served] = getattr(importlib.import_module(module), name)
    return kind


def _session(name: str) -> _Session:
    with _lock:
        if name not in _sessions:
            _sessions[name] = _Session()
        return _sessions[name]


def _worker() -> Any:
    """Dask's worker that this task runs on."""
    from distributed import get_worker

    return get_worker()


def _drop_idle() -> None:
    now = time.monotonic()
    with _lock:
        idle = [name for name, one in _sessions.items() if now - one.used > _IDLE_SECONDS]
        dropped = [_sessions.pop(name) for name in idle]
    for session in dropped:
        session.close()


def _deep_thread() -> ThreadPoolExecutor:
    """One thread with a large stack."""
    with _lock_stack:
        before = threading.stack_size(_STACK)
        try:
            pool = ThreadPoolExecutor(1, thread_name_prefix="widegram")
            pool.submit(int).result()
        finally:
            threading.stack_size(before)
    return pool


def _alone(
    rows: Callable[[int, int], np.ndarray]
) -> Callable[[int, int], np.ndarray]:
    """``rows`` for one thread at a time: they share a file and its place."""
    lock = threading.Lock()

    def read(low: int, high: int) -> np.ndarray:
        with lock:
            return rows(low, high)

    return read
