"""Asking a worker for something: a task of Dask's on that worker, and its answer fetched."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Coroutine
from concurrent import futures
from contextlib import suppress
from typing import Any

from numpy.typing import NDArray

from widegram import errors
from widegram.errors import WidegramError, one_line, reason
from widegram.workers.session import Lost, Request

# Evaluated at the worker: only names of Python's own travel, so that a scheduler and a worker
# without this program, or with another version of it, can say so.
_DOOR = "__import__('widegram.workers.serving', fromlist=['answer']).answer(request)"
# For an answer that is ready: a worker that was stopped holds it and says nothing.
_FETCH_SECONDS = 10.0
_BYTES_PER_SECOND = 1e6
_LOST = ("KilledWorker", "NoValidWorkerError")  # errors of Dask's that say no more
Array = NDArray[Any]
Before = Callable[[], Coroutine[Any, Any, None]]


class Absent(Exception):
    """A worker does not see data; ``names`` it."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(*names)
        self.names = names


class Closed(Exception):
    """A worker does not know the session."""


class Line:
    """The way to one worker, ``address``. ``gone`` is set when it is known to have left."""

    def __init__(self, client: Any, address: str) -> None:
        self._client, self.address, self.gone = client, address, asyncio.Event()

    async def bring(self, request: Request, block: Array) -> Any:
        """The answer to a request with a ``block`` of numbers, which goes to the worker directly.
        Raises as :meth:`ask`."""
        sending = self._client.scatter(block, workers=[self.address], direct=True, hash=False)
        future = await self._unless_gone(sending)
        try:
            return await self.ask({**request, "block": future})
        finally:
            future.release()

    async def ask(self, request: Request, size: int = 0, before: Before | None = None) -> Any:
        """The answer to a request, of about ``size`` bytes; ``before`` is waited for before it is
        fetched.

        Raises :class:`Lost` where the worker has left, or does not hand over what it has;
        :class:`Absent` and :class:`Closed` as they say; WidegramError where the work failed, and
        for a worker without this program.
        """
        from distributed import wait

        future = self._submit(request)
        try:
            with self._client.as_current():
                waiting = wait([future])
            await self._unless_gone(waiting)
            if future.status == "error":
                raise self._failure(await future.exception())
            if future.status != "finished":
                raise Lost(self.address)
            if before is not None:
                await self._unless_gone(before())
            seconds = _FETCH_SECONDS + size / _BYTES_PER_SECOND
            return self._read(await self._unless_gone(self._fetch(future.key), seconds))
        finally:
            future.release()

    def tell(self, request: Request) -> None:
        """Send a request whose answer nobody waits for."""
        from distributed import fire_and_forget

        fire_and_forget(self._submit(request))

    def _submit(self, request: Request) -> Any:
        key = f"widegram-{request['verb']}-{uuid.uuid4().hex}"
        return self._client.submit(
            eval, _DOOR, {"request": request}, key=key, workers=[self.address], pure=False,
            allow_other_workers=False, retries=0,
        )  # fmt: skip

    async def _unless_gone(self, work: Coroutine[Any, Any, Any], most: float | None = None) -> Any:
        """What ``work`` gives; raises Lost where the worker leaves first, or ``most`` seconds
        pass."""
        task, gone = asyncio.ensure_future(work), asyncio.ensure_future(self.gone.wait())
        try:
            await asyncio.wait({task, gone}, timeout=most, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise Lost(self.address)
            return task.result()
        except (asyncio.CancelledError, futures.CancelledError, OSError) as error:
            if task.done():  # Dask cancels what it gave up.
                raise Lost(self.address) from error
            raise
        finally:
            for one in (task, gone):
                one.cancel()
            with suppress(BaseException):  # Both were cancelled: only waited for.
                await asyncio.gather(task, gone, return_exceptions=True)

    async def _fetch(self, key: str) -> Any:
        """From the worker itself; by way of the scheduler where it cannot be reached."""
        from distributed.utils_comm import gather_from_workers

        found = (await gather_from_workers({key: [self.address]}, rpc=self._client.rpc))[0]
        if key not in found:
            answer = await self._client.scheduler.gather(keys=[key])
            found = answer["data"] if answer["status"] == "OK" else {}
        if key not in found:
            raise Lost(self.address)
        return found[key]

    def _read(self, answer: tuple[str, Any]) -> Any:
        status, value = answer
        if status == "unseen":
            raise Absent(value)
        if status == "closed":
            raise Closed
        if status == "failed":
            name, text = value
            kind = getattr(errors, name, WidegramError)
            known = isinstance(kind, type) and issubclass(kind, WidegramError)
            raise (kind if known else WidegramError)(f"worker {self.address}: {text}")
        return value

    def _failure(self, error: BaseException) -> Exception:
        """What an exception of Dask's own means."""
        name = type(error).__name__
        if isinstance(error, ModuleNotFoundError):
            missing = error.name or ""
            what = (
                "has no widegram; install it there"
                if missing in ("", "widegram")
                else f"lacks {missing}; install this version of widegram and what it needs there"
            )
            return WidegramError(f"worker {self.address}: {what}")
        if isinstance(error, futures.CancelledError) or name in _LOST:
            return Lost(self.address)
        text = one_line(reason(error))
        return WidegramError(f"worker {self.address}: {name}: {text}")
