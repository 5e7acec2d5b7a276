"""The workers of an address, for a thread that wants results: Dask's event loop runs in another."""

from __future__ import annotations

import asyncio
import logging
import threading
import warnings
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import AsyncExitStack, contextmanager, suppress
from queue import Empty
from typing import Any

from widegram.closing import ClosedOnFailure, Closing
from widegram.errors import WidegramError, one_line, reason
from widegram.machine import interrupts
from widegram.machine.cores import usable_cores
from widegram.workers.address import Address
from widegram.workers.claims import Claims
from widegram.workers.crew import Crew, Done, Member
from widegram.workers.local import LocalProcesses
from widegram.workers.room import Room
from widegram.workers.session import Session, Shared

_ANSWER_SECONDS = 10
_POLL_SECONDS = 0.1
_END_SECONDS, _HURRY_SECONDS = 5.0, 0.5
_SILENT = logging.CRITICAL + 1


class Workers(Closing):
    """The workers at ``address``, each with ``session`` open; a block that uses them closes them.

    * ``memory``: bytes of results that may be here at once
    * ``mixed``: whether workers may differ in the last bits of what they compute
    * ``threads``: of each process that ``local:N`` starts, None to share the cores
    * ``described``, ``device``: what the first worker that is ready says of the session, and the
      kind of its device; making this waits for it

    Raises WidegramError where nobody answers at the address within ten seconds, or a worker does
    not fit.
    """

    def __init__(
        self, address: Address, session: Session, *, memory: int, mixed: bool = False,
        threads: int | None = None,
    ) -> None:  # fmt: skip
        self.address, self._session = address, session
        self._mixed, self._memory = mixed, memory
        self._threads = threads or max(1, usable_cores() // max(address.local, 1))
        self._local: LocalProcesses | None = None
        self._crew: Crew | None = None
        self._started: Future[Member] = Future()
        self._ending = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="workers", daemon=True)
        self._silence = _quiet()
        self._silence.__enter__()
        self._cleaning = interrupts.cleaning(self._kill)
        self._cleaning.__enter__()
        self._thread.start()
        with ClosedOnFailure(self):
            first = self._wait(self._started)
        self.described, self.device = first.described, first.facts.device

    @property
    def count(self) -> int:
        """Workers that are ready."""
        return len(self.crew.ready)

    @property
    def crew(self) -> Crew:
        """The workers of the scheduler, for their own loop alone but where a number is read."""
        assert self._crew is not None
        return self._crew

    @property
    def processes(self) -> list[int]:
        """Process ids of the workers that were started here."""
        return [] if self._local is None else self._local.numbers

    @property
    def failure(self) -> Exception | None:
        """Why the run cannot go on."""
        return self.crew.failure

    @property
    def in_work(self) -> bool:
        """Whether some worker has something to do."""
        return self.crew.in_work

    @property
    def empty(self) -> bool:
        """Whether nothing has come back that was not asked for."""
        return self.crew.finished.empty()

    def begin(
        self, items: Sequence[Any], size: int, claims: Claims | None = None,
        shared: Shared | None = None,
    ) -> None:  # fmt: skip
        """Hand out ``items``, whose results have about ``size`` bytes each, as ``claims`` has them
        taken [default: neighbours together]; ``shared`` is what all of them need."""
        claims = Claims(len(items)) if claims is None else claims
        self._loop.call_soon_threadsafe(self.crew.begin, items, size, claims, shared)

    def next(self, seconds: float = _POLL_SECONDS) -> Done | None:
        """What came back next, None where that takes longer; :meth:`written` is to be called for
        it. Raises where the run cannot go on."""
        interrupts.check()
        try:
            found = self.crew.finished.get(timeout=seconds)
        except Empty:
            return None
        if isinstance(found, Exception):
            raise found
        return found

    def written(self, done: Done) -> None:
        """What came back is not needed in memory any more."""
        self._loop.call_soon_threadsafe(self.crew.room.give, done.size)

    def end(self) -> None:
        """Begin nothing more; what is in work may still come."""
        self._loop.call_soon_threadsafe(self.crew.end)

    def call(self, name: str, *arguments: Any) -> Any:
        """What a worker's method gives; raises what it does."""
        return self._wait(self._submit(self.crew.call(name, arguments)))

    def close(self) -> None:
        if self._thread.is_alive():
            self._kill()
            with suppress(RuntimeError):  # The loop may have ended meanwhile.
                self._loop.call_soon_threadsafe(self._ending.set)
            self._thread.join(_HURRY_SECONDS if interrupts.requested() else _END_SECONDS)
        self._kill()
        for held in (self._cleaning, self._silence):
            with suppress(RuntimeError):
                held.__exit__(None, None, None)

    def _kill(self) -> None:
        if self._local is not None:
            self._local.close()

    def _submit(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _wait(self, future: Future[Any]) -> Any:
        try:
            while True:
                interrupts.check()
                if wait([future], _POLL_SECONDS).done:
                    return future.result()
        finally:
            future.cancel()  # of a stop: nobody waits for it any more

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._live())
        except BaseException as error:  # Whatever ends the loop: those who wait are told.
            self._fail(error)
        finally:
            with suppress(Exception):  # The loop has ended; nothing of it is wanted any more.
                self._loop.run_until_complete(self._loop.shutdown_asyncgens())

    def _fail(self, error: BaseException) -> None:
        if not isinstance(error, WidegramError):
            text = one_line(reason(error, named=True))
            error = WidegramError(f"dask {self.address.text}: {text}")
        if not self._started.done():
            self._started.set_exception(error)
        elif self._crew is not None:
            self._crew.fail(error)

    async def _live(self) -> None:
        async with AsyncExitStack() as held:
            scheduler = self.address.scheduler or await self._own_scheduler(held)
            client = await _connected(scheduler, self.address, held)
            crew = self._crew = Crew(client, self._session, self._mixed, Room(self._memory))
            watching = asyncio.ensure_future(self._begun(crew))
            ending = asyncio.ensure_future(self._ending.wait())
            await asyncio.wait({watching, ending}, return_when=asyncio.FIRST_COMPLETED)
            if watching.done() and watching.exception() is not None:
                self._fail(watching.exception() or WidegramError())
            await ending
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await crew.close()

    async def _begun(self, crew: Crew) -> None:
        first = await crew.start(self._tend)
        self._started.set_result(first)
        await crew.watch(self._tend)

    def _tend(self) -> None:
        if self._local is not None and not self._ending.is_set():
            self._local.tend()

    async def _own_scheduler(self, held: AsyncExitStack) -> str:
        """A scheduler in this process, and the workers of ``local:N``."""
        from distributed import Scheduler

        scheduler = await Scheduler(
            host="127.0.0.1", port=0, dashboard=False, dashboard_address=":0"
        )
        held.push_async_callback(scheduler.close)
        self._local = LocalProcesses(scheduler.address, self.address.local, self._threads)
        return str(scheduler.address)


async def _connected(scheduler: str, address: Address, held: AsyncExitStack) -> Any:
    """A client of the scheduler; raises :class:`WidegramError` where nobody answers in time."""
    from distributed import Client

    client = Client(
        scheduler, asynchronous=True, timeout=_ANSWER_SECONDS, set_as_default=False,
        direct_to_workers=True, name="widegram",
    )  # fmt: skip
    try:
        await asyncio.wait_for(client, _ANSWER_SECONDS)
    except Exception as error:  # Dask's, asyncio's, the system's: each means that none answers.
        with suppress(Exception):  # The first error is the one to show.
            await asyncio.wait_for(client.close(fast=True), 1.0)
        why = "" if isinstance(error, OSError) else f" ({one_line(error)})"
        raise WidegramError(
            f"dask {address.text}: no Dask scheduler answers at {scheduler} within "
            f"{_ANSWER_SECONDS} s{why}; is it running, and does a firewall let this machine in?"
        ) from error
    held.push_async_callback(_left, client)
    return client


async def _left(client: Any) -> None:
    with suppress(Exception):  # The work is done; what a broken farewell says helps nobody.
        await asyncio.wait_for(client.close(fast=True), 2.0)


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside, Dask says nothing: what matters to the user is said by this program."""
    import distributed  # noqa: F401 - makes its loggers

    names = [n for n in logging.root.manager.loggerDict if n.split(".")[0] in _LOGGERS]
    before = {name: logging.getLogger(name).level for name in names}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            logging.getLogger(name).setLevel(_SILENT)
        try:
            yield
        finally:
            for name, level in before.items():
                logging.getLogger(name).setLevel(level)


_LOGGERS = ("distributed", "tornado", "asyncio")
