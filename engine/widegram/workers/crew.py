"""The workers of a scheduler: who is there, who fits, who does what, all in one event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from widegram.closing import OnFailure
from widegram.errors import WidegramError, one_line, reason
from widegram.machine.log import logger
from widegram.workers.builds import program
from widegram.workers.claims import Claim, Claims
from widegram.workers.room import Room
from widegram.workers.sending import send_parcels
from widegram.workers.session import Facts, Lost, Request, SchedulerGone, Session, Shared
from widegram.workers.talking import Absent, Closed, Line

_AT_ONCE = 2  # groups of a worker: one is computed, the next one waits there
_GROUP_SECONDS = 0.5
_GROUP_BYTES = 64 << 20
_LOOK_SECONDS = 0.25
_GREET_SECONDS = 3.0  # after the first
_GONE_SECONDS = 10.0  # a scheduler that says nothing


_UNKNOWN = Facts("", "", "", "")


@dataclass(frozen=True)
class Done:
    """The ``results`` of some ``items``, by place, from a worker with these ``facts``."""

    items: list[int]
    results: list[Any]
    facts: Facts
    size: int


@dataclass(eq=False)
class Member:
    """A worker, and what it is at.

    * ``first``: whether it was there when the run began
    * ``facts``, ``described``: what it says of itself, and of the session that it has opened
    * ``owing``: groups that it has and that have not come back
    * ``calls``: methods that it is at
    * ``has``: what was shared with it last
    """

    line: Line
    first: bool
    facts: Facts = _UNKNOWN
    described: dict[str, Any] = field(default_factory=dict)
    greeted: asyncio.Event = field(default_factory=asyncio.Event)
    calls: int = 0
    owing: int = 0
    has: Shared | None = None
    sharing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def name(self) -> str:
        """The address of the worker."""
        return self.line.address


class Crew:
    """All workers that a client sees. Everything but ``finished`` is for its loop alone.

    * ``finished``: what comes back, :class:`Done`; an exception where the run cannot go on
    * ``room``: bytes of results that may be on their way here or waiting to be written
    """

    def __init__(self, client: Any, session: Session, mixed: bool, room: Room) -> None:
        self._client, self._session, self._mixed, self.room = client, session, mixed, room
        self.finished: SimpleQueue[Done | Exception] = SimpleQueue()
        self.failure: Exception | None = None
        self.ready: dict[str, Member] = {}
        self._members: dict[str, Member] = {}
        self._refused: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._gate, self._news, self._offers = (asyncio.Event() for _ in range(3))
        self._claims: Claims | None = None
        self._items: Sequence[Any] = []
        self._item_bytes, self._pace = 1, 0.0  # Bytes of a result, seconds of an item.
        self._shared: Shared | None = None
        self._heard = time.monotonic()
        self._pattern: Member | None = None

    async def start(self, tend: Callable[[], None]) -> Member:
        """Wait for workers, see that they fit, and return the first that is ready; ``tend`` is
        called now and then."""
        told = False
        while not await self._look():
            tend()
            if not told and time.monotonic() - self._heard > 2:
                logger.info("no worker has come yet; waiting for one")
                told = True
            self._raise()
            await asyncio.sleep(_LOOK_SECONDS)
        greeting = {asyncio.ensure_future(m.greeted.wait()) for m in self._members.values()}
        _, late = await asyncio.wait(greeting, return_when=asyncio.FIRST_COMPLETED)
        if late:  # Stopped ones must not keep the others waiting.
            await asyncio.wait(late, timeout=_GREET_SECONDS)
        self._raise()
        self._admit_all()
        while not self.ready:
            self._raise()
            tend()
            await self._changed()
            await self._look()
        return next(iter(self.ready.values()))

    async def watch(self, tend: Callable[[], None]) -> None:
        """See who comes and goes, as long as this runs; ``tend`` is called now and then."""
        while self.failure is None:
            try:
                tend()
                await self._look()
            except WidegramError as error:
                self.fail(error)
            if self._claims is not None and self._claims.late(time.monotonic()):
                self._offer()
            await asyncio.sleep(_LOOK_SECONDS)

    def begin(
        self, items: Sequence[Any], size: int, claims: Claims, shared: Shared | None
    ) -> None:
        """Hand out ``items`` as ``claims`` has them taken; their results have ``size`` bytes."""
        # One that still owes something of the round before may be stopped: it gets no share.
        claims.settle(sorted(name for name, one in self.ready.items() if not one.owing))
        self._items, self._item_bytes, self._claims = items, max(size, 1), claims
        self._shared = shared
        self._offer()

    def end(self) -> None:
        """Hand out nothing more."""
        if self._claims is not None:
            self._claims.stop()

    @property
    def in_work(self) -> bool:
        """Whether some worker has something to do."""
        return self._claims is not None and self._claims.in_work

    @property
    def usual_seconds(self) -> float:
        """How long a group takes at most; 0 where none has come back."""
        return 0.0 if self._claims is None else self._claims.usual

    async def call(self, name: str, arguments: tuple[Any, ...]) -> Any:
        """What one of the workers gives for a method; another one is asked where it leaves."""
        while True:
            self._raise()
            if not self.ready:
                await self._changed()
                continue
            member = min(self.ready.values(), key=lambda one: one.calls)
            member.calls += 1
            try:
                return await member.line.ask(
                    self._request("call", name=name, arguments=arguments)
                )
            except (Lost, Closed):
                await self._changed()
            finally:
                member.calls -= 1

    async def close(self) -> None:
        """Ask nobody for anything more; workers give up the session."""
        ready = list(self.ready.values())
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for member in ready:
            member.line.tell(self._request("close"))

    def fail(self, error: Exception) -> None:
        """The run cannot go on."""
        if self.failure is None:
            self.failure = error
            self.finished.put(error)
            self._tell()

    def _raise(self) -> None:
        if self.failure is not None:
            raise self.failure

    async def _look(self) -> bool:
        """Compare who is there with who is known; whether anybody is known."""
        try:
            asked = self._client.scheduler.ncores(workers=None)
            names = set(await asyncio.wait_for(asked, _GONE_SECONDS))
        except (OSError, AttributeError):
            if time.monotonic() - self._heard > _GONE_SECONDS:
                raise SchedulerGone("the scheduler is gone") from None
            return bool(self._members)
        self._heard = time.monotonic()
        for name in self._members.keys() - names:
            self._members.pop(name).line.gone.set()
            logger.info("worker %s has left", name)
        for name in sorted(names - self._members.keys() - self._refused):
            member = Member(Line(self._client, name), first=not self._gate.is_set())
            self._members[name] = member
            task = asyncio.ensure_future(self._serve(member))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._refused &= names
        return bool(self._members or self._refused)

    async def _serve(self, member: Member) -> None:
        """A worker from its greeting to its end."""
        try:
            await self._greet(member)
            member.greeted.set()
            await self._gate.wait()
            self._check_bits(member)
            while True:
                await self._open(member)
                with suppress(Closed):
                    await self._work(member)
        except Lost:
            if self._members.get(member.name) is member:
                del self._members[member.name]  # It is greeted anew if it is still there.
        except WidegramError as error:
            self._refuse(member, error)
        except Exception as error:  # A bug: unnoticed in its task, it would leave a run waiting.
            text = one_line(reason(error, named=True))
            self.fail(WidegramError(f"worker {member.name}: {text}"))
        finally:
            member.greeted.set()
            self._tell()

    def _refuse(self, member: Member, error: WidegramError) -> None:
        self._refused.add(member.name)
        self._members.pop(member.name, None)
        if member.first or member.name in self.ready:
            self.fail(error)
        else:
            logger.warning("%s; it is left out", error)

    async def _greet(self, member: Member) -> None:
        answer = await member.line.ask(self._request("facts", request=self._session.request))
        facts = member.facts = Facts(**answer)
        version, sources = program()
        if facts.version != version:
            raise WidegramError(
                f"worker {member.name}: runs widegram {facts.version}, this is {version}; install "
                "the same version there"
            )
        if facts.sources != sources:
            raise WidegramError(
                f"worker {member.name}: runs another build of widegram {version} than this one; "
                "install the same there"
            )

    def _admit_all(self) -> None:
        """Admit the workers that are there at the beginning, once they fit one another."""
        known = [member for member in self._members.values() if member.facts.bits]
        if known:
            self._pattern = known[0]
            for member in known:
                self._check_bits(member)
        self._gate.set()

    def _check_bits(self, member: Member) -> None:
        if self._pattern is None:
            self._pattern = member
        one, other = self._pattern.facts, member.facts
        if self._mixed or (one.device, one.bits) == (other.device, other.bits):
            return
        raise WidegramError(
            f"workers differ, and so would the last bits: {self._pattern.name} ({one.device}: "
            f"{one.bits}) and {member.name} ({other.device}: {other.bits}); give --device, take "
            "workers of one kind, or pass --mixed-workers"
        )

    async def _open(self, member: Member) -> None:
        request = self._request("open", request=self._session.request)
        member.has = None
        try:
            member.described = await member.line.ask(request)
        except Absent as unseen:
            await send_parcels(member.line, self._session, unseen.names)
            member.described = await member.line.ask(request)

    async def _work(self, member: Member) -> None:
        """Groups of items, until the worker leaves or the session is closed there."""
        self.ready[member.name] = member
        self._tell()
        tasks = [asyncio.ensure_future(self._slot(member)) for _ in range(_AT_ONCE)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.ready.pop(member.name, None)
            if self._claims is not None:
                self._claims.leave(member.name)
            self._tell()
            self._offer()

    async def _slot(self, member: Member) -> None:
        while True:
            claims, group = await self._take(member)
            member.owing += 1
            try:
                await self._do(member, claims, group)
            finally:
                member.owing -= 1
                if claims.give_back(group):
                    self._offer()

    async def _do(self, member: Member, claims: Claims, group: Claim) -> None:
        size = self._item_bytes * len(group.items)
        items = [self._items[k] for k in group.items]
        if not await self._bring(member, self._shared):
            return
        held: list[int] = []

        async def room() -> None:
            await self.room.take(size)
            held.append(size)

        with OnFailure(lambda: self.room.give(sum(held))):  # Of a cancelled task too.
            results, seconds, _ = await member.line.ask(
                self._request("work", items=items), size, room
            )
        pace = seconds / len(group.items)
        self._pace = pace if not self._pace else 0.7 * self._pace + 0.3 * pace
        new = set(claims.finish(group, time.monotonic()))
        kept = [(k, one) for k, one in zip(group.items, results, strict=True) if k in new]
        self.finished.put(Done([k for k, _ in kept], [r for _, r in kept], member.facts, size))

    async def _bring(self, member: Member, shared: Shared | None) -> bool:
        """Share what a worker has not yet; False where another round has begun meanwhile."""
        async with member.sharing:
            if shared is not self._shared:
                return False
            if shared is not None and member.has is not shared:
                await member.line.bring(
                    self._request("share", number=shared.number), shared.block
                )
                member.has = shared
        return True

    async def _take(self, member: Member) -> tuple[Claims, Claim]:
        while True:
            claims = self._claims
            if claims is not None and self.failure is None:
                group = claims.take(member.name, self._most(claims), time.monotonic())
                if group is not None:
                    return claims, group
            await self._offers.wait()

    def _most(self, claims: Claims) -> int:
        """Items of a group: for half a second of work, less towards the end."""
        by_time = _GROUP_SECONDS / self._pace if self._pace else 1
        by_size = min(_GROUP_BYTES, self.room.most // 8) / self._item_bytes
        fair = claims.fair(_AT_ONCE * max(len(self.ready), 1))
        return max(1, int(min(by_time, by_size, fair)))

    def _request(self, verb: str, **more: Any) -> Request:
        return {"verb": verb, "session": self._session.name, "kind": self._session.kind, **more}

    def _offer(self) -> None:
        """There is something to begin. Nothing else wakes those that have nothing to do, who may be
        thousands."""
        self._offers.set()
        self._offers = asyncio.Event()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _changed(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), 2 * _LOOK_SECONDS)
