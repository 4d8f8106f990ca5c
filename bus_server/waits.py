"""The waits that are open: who waits where, and how to end one from outside."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from bus_server.errors import BusError, QuotaExceeded, TokenInvalid
from bus_server.filter import Filter
from bus_server.tail import Tail, Watch
from threadbus.v1.bus_service_pb2 import WaitEnding
from threadbus.v1.message_pb2 import Cursor


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """What to wait for, and when to stop. Times are in seconds."""

    cursors: Sequence[Cursor]
    filter: Filter
    max_messages: int  # 0: no such end
    min_messages: int  # 0: no such end
    max_wait: float | None
    time_remaining: float | None  # until the call's deadline
    keepalive_interval: float
    #: Who waits, and by which token: both empty for somebody without a name of its own.
    agent: str = ""
    token: bytes = b""
    expire_time: int = 0  # of the token, on the store's clock; 0: never
    include_participants: bool = False
    #: Where its connection comes from.
    peer: str = ""


class Placed(Protocol):
    """Where a wait is in one of its threads."""

    tail: Tail

    @property
    def cursor(self) -> Cursor: ...


class OpenWait:
    """One call of WaitMessages."""

    __slots__ = (
        *("agent", "ended", "expire_time", "filter", "number", "peer", "positions", "start_time"),
        *("threads", "token", "watch"),
    )

    def __init__(
        self,
        agent: str,
        token: bytes,
        expire_time: int,
        threads: Sequence[str],
        wanted: Filter,
        peer: str,
    ) -> None:
        #: Who waits; empty: somebody without a name of its own.
        self.agent = agent
        #: Hash of the token it was opened with; empty: none.
        self.token = token
        #: When that token ends, on the store's clock; 0: never.
        self.expire_time = expire_time
        self.threads = threads
        self.number = 0
        self.filter = wanted
        #: Where its connection comes from.
        self.peer = peer
        self.start_time = time.time_ns() // 1000
        #: Where it is in each thread; none before it began.
        self.positions: Sequence[Placed] = ()
        self.watch: Watch | None = None
        #: Why it must end: with this frame, or with this error.
        self.ended: WaitEnding.Reason.ValueType | BusError | None = None

    async def end(self, how: WaitEnding.Reason.ValueType | BusError) -> None:
        """Have it end as soon as its current frame is sent."""
        self.ended = how
        await self._wake()

    async def expire(self, expire_time: int) -> None:
        """Its token ends at this time."""
        self.expire_time = expire_time
        await self._wake()

    async def _wake(self) -> None:
        if self.watch is not None:
            await self.watch.notify()


class Waits:
    """All open waits of this server."""

    def __init__(self, max_open_waits: int, max_anonymous_waits: int) -> None:
        """Bounds: open waits of one agent, and of all callers without a name together."""
        self._most = max_open_waits
        self._most_anonymous = max_anonymous_waits
        self._counts: Counter[str] = Counter()
        #: In the order they were opened. The numbers are never used again.
        self._open: dict[int, OpenWait] = {}
        self._opened = 0
        self._on: dict[str, set[OpenWait]] = {}

    def add(self, wait: OpenWait) -> None:
        """A wait is open, until `remove`. Raises QuotaExceeded when there are too many."""
        count = self._counts[wait.agent]
        if wait.agent and count >= self._most:
            raise QuotaExceeded(
                "open waits of one agent",
                self._most,
                "end some, or wait on several threads in one call",
            )
        if not wait.agent and count >= self._most_anonymous:
            raise QuotaExceeded(
                "open waits of callers without a name",
                self._most_anonymous,
                "register an agent, or end some",
            )
        self._opened += 1
        wait.number = self._opened
        self._open[wait.number] = wait
        self._counts[wait.agent] += 1
        for thread in wait.threads:
            self._on.setdefault(thread, set()).add(wait)

    def remove(self, wait: OpenWait) -> None:
        """It is over."""
        del self._open[wait.number]
        self._counts[wait.agent] -= 1
        if not self._counts[wait.agent]:
            del self._counts[wait.agent]
        for thread in wait.threads:
            self._on[thread].discard(wait)
            if not self._on[thread]:
                del self._on[thread]

    def on(self, thread: str) -> Iterator[OpenWait]:
        """The open waits of named agents on a thread."""
        return (wait for wait in self._on.get(thread, ()) if wait.agent)

    def find(self, agent: str, thread: str, after: int) -> list[tuple[int, OpenWait]]:
        """Open waits after a number, longest first; of this agent, on this thread, if given."""
        return [
            (number, wait)
            for number, wait in self._open.items()
            if number > after
            and agent in ("", wait.agent or "anonymous")
            and (not thread or thread in wait.threads)
        ]

    async def end(self, how: WaitEnding.Reason.ValueType | BusError, *, agent: str) -> None:
        """End an agent's waits."""
        for wait in list(self._open.values()):
            if wait.agent == agent:
                await wait.end(how)

    async def end_all(self, why: Callable[[], BusError]) -> None:
        """End every wait with an error of its own."""
        for wait in list(self._open.values()):
            await wait.end(why())

    async def expire(self, expire_times: Mapping[bytes, int | None]) -> None:
        """Have the waits that were opened with these tokens end with them. None: it is no more."""
        for wait in list(self._open.values()):
            expire_time = expire_times.get(wait.token, wait.expire_time)
            if expire_time is None:
                await wait.end(TokenInvalid("the token that this wait was opened with was ended"))
            elif expire_time != wait.expire_time:
                await wait.expire(expire_time)

    def tokens(self) -> set[bytes]:
        """The tokens that waits were opened with."""
        return {wait.token for wait in self._open.values() if wait.token}
