"""The registry of open waits: which agent waits on which threads, and how to end its waits."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bus_server.errors import BusError, QuotaExceeded, TokenInvalid
from bus_server.filter import Filter
from bus_server.store.clock import StoreClock
from bus_server.store.facts import ANONYMOUS
from bus_server.tail import Waiter
from bus_server.trim import Trim
from threadbus.v1.admin_service_pb2 import Wait
from threadbus.v1.bus_service_pb2 import WaitEnding
from threadbus.v1.message_pb2 import Cursor

#: Where a wait starts: thread, after_seq, epoch and hidden_seq of a cursor. A plain tuple of
#: strings and numbers: the garbage collector does not track it, and a Cursor would keep its whole
#: request in memory.
Start = tuple[str, int, str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitRequest:
    """A wait: what to wait for, and when to end. Durations are in seconds."""

    starts: Sequence[Start]
    filter: Filter
    max_messages: int  # 0: no limit
    #: How many messages end the wait, once it has caught up; 0: it does not end for this reason.
    min_messages: int
    count_all: bool  # whether min_messages counts those that do not wake the caller, too
    max_wait: float | None  # None: no limit
    time_remaining: float | None  # until the call's deadline; None: it has none
    keepalive_interval: float
    #: The caller's name and the hash of its token; empty for an anonymous caller.
    agent: str = ""
    token: bytes = b""
    #: When the token expires, in microseconds on the store's clock; 0: never.
    expire_time: int = 0
    include_participants: bool = False
    observe: bool = False  # whether it tells nothing of its agent
    #: Wait on all threads of the agent whose names begin with one of the prefixes (empty: on all).
    #: `starts` then has only those that do not start at its read_seq.
    all_my_threads: bool = False
    prefixes: tuple[str, ...] = ()
    max_bytes: int = 0  # of messages, as they are sent; 0: no limit
    trim: Trim | None = None  # how to shorten them; None: not at all
    #: The address of the caller's connection.
    peer: str = ""


class OpenWait:
    """The entry of one WaitMessages call in Waits."""

    __slots__ = (
        *(
            "agent",
            "all_my_threads",
            "cursors",
            "ended",
            "expire_time",
            "filter",
            "number",
            "observe",
            "peer",
            "start_time",
        ),
        *("threads", "token", "waiter"),
    )

    def __init__(self, request: WaitRequest) -> None:
        #: Empty: anonymous.
        self.agent = request.agent
        #: Hash of the token that it was opened with; empty: none.
        self.token = request.token
        #: When that token expires, in microseconds on the store's clock; 0: never.
        self.expire_time = request.expire_time
        #: Without those of `all_my_threads`.
        self.threads = () if request.all_my_threads else tuple(start[0] for start in request.starts)
        self.all_my_threads = request.all_my_threads
        #: Whether it tells nothing of its agent.
        self.observe = request.observe
        self.filter = request.filter
        self.peer = request.peer
        #: When it was opened, in microseconds since the Unix epoch, and its number. Set by
        #: `Waits.add`.
        self.start_time = self.number = 0
        #: Returns its cursor in each thread that exists; empty before it has begun.
        self.cursors: Callable[[], Sequence[Cursor]] = tuple
        #: None before it has begun.
        self.waiter: Waiter | None = None
        #: Set when it must end: the reason for its `ending` frame, or the error to raise.
        self.ended: WaitEnding.Reason.ValueType | BusError | None = None

    def to_proto(self) -> Wait:
        """Returns the wait as ListWaits lists it, without the threads that were deleted."""
        found = Wait(
            agent=self.agent or ANONYMOUS,
            threads=self.cursors(),
            peer=self.peer,
            all_my_threads=self.all_my_threads,
            observe=self.observe,
        )
        found.start_time.FromMicroseconds(self.start_time)
        return found

    async def end(self, how: WaitEnding.Reason.ValueType | BusError) -> None:
        """End the wait as soon as its current frame is sent. `how`: as in `ended`."""
        self.ended = how
        await self.notify()

    async def expire(self, expire_time: int) -> None:
        """Change the time at which its token expires, and wake the wait.

        `expire_time`: in microseconds on the store's clock; 0: never.
        """
        self.expire_time = expire_time
        await self.notify()

    async def notify(self) -> None:
        """Wake the wait, if it has begun."""
        if self.waiter is not None:
            await self.waiter.notify()


@dataclass(frozen=True, slots=True)
class WaitStatistics:
    """The numbers of open waits, and of agents and threads that have any."""

    open: int
    #: Open waits of anonymous callers.
    anonymous: int
    #: Agents with an open wait.
    agents: int
    #: Threads with an open wait.
    threads: int


class Waits:
    """All open waits of this server."""

    def __init__(self, clock: StoreClock, max_open_waits: int, max_anonymous_waits: int) -> None:
        """
        Args:
            clock: the store's: servers on it list their waits together.
            max_open_waits: the maximum number of open waits of one agent.
            max_anonymous_waits: that of all anonymous callers together.
        """
        self._clock = clock
        self.limit(max_open_waits, max_anonymous_waits)
        self._counts: Counter[str] = Counter()
        #: By number, in the order they were opened. Numbers are never reused.
        self._open: dict[int, OpenWait] = {}
        self._last_number = 0
        #: By thread; those on all threads of their agents, by agent.
        self._on: dict[str, set[OpenWait]] = {}
        self._on_all: dict[str, set[OpenWait]] = {}

    def limit(self, max_open_waits: int, max_anonymous_waits: int) -> None:
        """Change the maximum numbers. Waits that are open stay so."""
        self._max_open_waits = max_open_waits
        self._max_anonymous_waits = max_anonymous_waits

    def add(self, wait: OpenWait) -> None:
        """Add a wait, until `remove`. Raises QuotaExceeded if its agent has the maximum open.

        All anonymous callers together count as one agent, with a maximum of its own.
        """
        count = self._counts[wait.agent]
        if wait.agent and count >= self._max_open_waits:
            raise QuotaExceeded(
                "open waits of one agent",
                self._max_open_waits,
                "end some, or wait on several threads in one call",
            )
        if not wait.agent and count >= self._max_anonymous_waits:
            raise QuotaExceeded(
                "open waits of anonymous callers",
                self._max_anonymous_waits,
                "register an agent, or end some",
            )
        self._last_number += 1
        wait.number, wait.start_time = self._last_number, self._clock.time()
        self._open[wait.number] = wait
        self._counts[wait.agent] += 1
        for thread in wait.threads:
            self._on.setdefault(thread, set()).add(wait)
        if wait.all_my_threads and not wait.observe:
            self._on_all.setdefault(wait.agent, set()).add(wait)

    def remove(self, wait: OpenWait) -> None:
        """Remove a wait that has ended. Call it once for each `add` that did not raise."""
        del self._open[wait.number]
        self._counts[wait.agent] -= 1
        if not self._counts[wait.agent]:
            del self._counts[wait.agent]
        for thread in wait.threads:
            self._on[thread].discard(wait)
            if not self._on[thread]:
                del self._on[thread]
        if wait.all_my_threads and not wait.observe:
            self._on_all[wait.agent].discard(wait)
            if not self._on_all[wait.agent]:
                del self._on_all[wait.agent]

    def on(self, thread: str) -> Iterator[OpenWait]:
        """Yields the open waits on a thread, except those of anonymous callers.

        Without those that observe, and those on all threads of an agent: see `on_all`.
        """
        return (wait for wait in self._on.get(thread, ()) if wait.agent and not wait.observe)

    def count_on(self, thread: str) -> int:
        """Returns the number of open waits on a thread, without those on all threads of agents."""
        return len(self._on.get(thread, ()))

    def on_all(self, agent: str) -> Collection[OpenWait]:
        """Returns the open waits on all threads of an agent, without those that observe."""
        return self._on_all.get(agent, ())

    def find(self, agent: str, thread: str, after: int) -> list[tuple[int, OpenWait]]:
        """Returns open waits, each with its number, in ascending order.

        Args:
            agent: only the waits of this agent; `anonymous`: of anonymous callers; empty: all.
            thread: only the waits on this thread; empty: all.
            after: only the waits with greater numbers.
        """
        return [
            (number, wait)
            for number, wait in self._open.items()
            if number > after
            and agent in ("", wait.agent or ANONYMOUS)
            and (not thread or thread in wait.threads)
        ]

    async def end(self, error: BusError, *, agent: str) -> None:
        """End the waits of an agent with an error."""
        for wait in list(self._open.values()):
            if wait.agent == agent:
                await wait.end(error)

    async def end_session(self, agent: str, only: bytes = b"") -> None:
        """End the waits of an agent's session: those that do not observe.

        `only`: only those that were opened with this token; empty: all.
        """
        for wait in self._of_session(agent):
            if only in (b"", wait.token):
                await wait.end(WaitEnding.REASON_SESSION_ENDED)

    def count(self, agent: str, token: bytes) -> int:
        """Returns how many waits of an agent's session were opened with a token."""
        return sum(wait.token == token for wait in self._of_session(agent))

    def _of_session(self, agent: str) -> list[OpenWait]:
        return [each for each in self._open.values() if each.agent == agent and not each.observe]

    async def end_all(self, error: Callable[[], BusError]) -> None:
        """End every wait with an error. `error` creates one for each."""
        for wait in list(self._open.values()):
            await wait.end(error())

    async def expire(self, expire_times: Mapping[bytes, int | None]) -> None:
        """Set when the tokens of waits expire, and end the waits with revoked tokens.

        `expire_times`: by the token's hash, in microseconds on the store's clock; 0: never; None:
        the token was revoked. Waits with other tokens are not changed.
        """
        for wait in list(self._open.values()):
            expire_time = expire_times.get(wait.token, wait.expire_time)
            if expire_time is None:
                await wait.end(TokenInvalid("the token that this wait was opened with was revoked"))
            elif expire_time != wait.expire_time:
                await wait.expire(expire_time)

    def tokens(self) -> set[bytes]:
        """Returns the hashes of the tokens that waits were opened with."""
        return {wait.token for wait in self._open.values() if wait.token}

    def statistics(self) -> WaitStatistics:
        """Returns the current statistics."""
        return WaitStatistics(
            open=len(self._open),
            anonymous=self._counts.get("", 0),
            agents=len(self._counts.keys() - {""}),
            threads=len(self._on),
        )
