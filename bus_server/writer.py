"""Group commit: writes go through here to the store, and then wake the waits."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from bus_server import fair_queue, trace_context
from bus_server.errors import BusError, StoreBusy
from bus_server.fair_queue import FairQueue
from bus_server.load import Load
from bus_server.memberships import Memberships
from bus_server.recent import Recent
from bus_server.statistics import Statistics
from bus_server.store import Append, AppendMany, Command, Commit
from bus_server.store.interface import AGENTS, Store
from bus_server.tail import Tails
from threadbus.limits import MAX_CALL_BYTES

if TYPE_CHECKING:
    from bus_server.tracing import Tracing

R = TypeVar("R")

#: The cost of a command, in units of about 20 µs: one for each COST_BYTES of its size, and one for
#: each post of a PostMessages batch. Any other command costs CALL_COST instead of the latter, as
#: the event loop has to send a response for it.
CALL_COST, COST_BYTES = 8, 4_096
#: The maximum cost of a batch, unless its only command costs more: about 10 ms of the disk and of
#: the event loop. Unless many callers have commands queued, one that has none waits only for the
#: batch that is being committed, and for its own.
BATCH_COST = 512

#: One caller may fill the queue. A reserve on top of it, RESERVE times the queue's size, is for
#: callers that have nothing queued, or at most SMALL_SHARE times the queue's size.
RESERVE, SMALL_SHARE = 1 / 4, 1 / 32

#: Seconds to linger after a batch: LINGER for each command that was pending at a time, if there
#: were several; at most MAX_LINGER. The callers that just got a response can then post again, so
#: that one batch has the posts of all of them. This saves more than commits: responses that are
#: sent together lead to requests that arrive together. The price: a caller that posts alone just
#: after twenty others did waits up to 10 ms. So the writer lingers only while the load of the event
#: loop is above BUSY.
LINGER, MAX_LINGER, BUSY = 500e-6, 0.010, 0.65


class _Queued(NamedTuple):
    command: Command[Any]
    size: int
    cost: int
    outcome: "asyncio.Future[Any]"
    #: When it was enqueued, on the monotonic clock.
    time: float
    #: The span of the call; None: it has none.
    span: Any


@dataclass(frozen=True, slots=True)
class WriterStatistics:
    """The numbers of commands that Writer holds, and their size."""

    #: Commands that are not in a batch yet.
    queued: int
    #: Commands without an outcome, those of the running batch included, and their size in bytes.
    pending: int
    pending_bytes: int
    #: How many of those are posts, or batches of PostMessages.
    pending_posts: int
    #: For how long the oldest of those has been pending, in seconds; 0: there are none.
    lag: float = 0.0


class Writer:
    """A queue of commands, and the loop that commits them in batches.

    The queue is fair across callers and in order for each caller: no caller waits for all that
    another has queued. The caller of a command is the `fair_queue.fairness_key` of the task that
    enqueues it.

    Commands queue up while a batch is committed, and for a moment after it while several callers
    keep the event loop busy. Nothing here is locked: only the event loop's thread may use it.
    """

    def __init__(
        self,
        store: Store,
        tails: Tails,
        recent: Recent,
        memberships: Memberships,
        statistics: Statistics,
        tracing: "Tracing | None" = None,
        *,
        max_commands: int,
        max_bytes: int,
    ) -> None:
        """
        Args:
            max_commands: the maximum number of queued commands, without the reserve. Beyond it
                `submit` raises StoreBusy.
            max_bytes: likewise, the maximum size of the commands without an outcome.
        """
        self._store = store
        self._tails = tails
        self._recent = recent
        self._memberships = memberships
        self._statistics = statistics
        self._tracing = tracing
        self._max_commands = max_commands
        self._max_bytes = max_bytes
        self._queue: FairQueue[_Queued] = FairQueue()
        #: The cost of the queued commands.
        self._cost = 0
        #: Number and size in bytes of the commands without an outcome.
        self._pending = self._bytes = 0
        #: How many of them are posts.
        self._posts = 0
        #: When the oldest command of the running batch was enqueued; None: no batch is running.
        self._running: float | None = None
        #: Set while commands are queued.
        self._available = asyncio.Event()
        #: Set when commands have got their outcomes.
        self._freed = asyncio.Event()
        #: The most commands that were pending at a time since the last batch was begun.
        self._peak = 0
        #: Set when `_expected` commands are queued, or a full batch.
        self._gathered = asyncio.Event()
        self._expected = 0
        #: Called with each commit that opened or changed requests, after its waits were notified.
        self.on_asked: Callable[[Commit], None] = lambda _: None
        #: Called with each commit that appended entries, or gave a thread a retention.
        self.on_entries: Callable[[Commit], None] = lambda _: None

    async def submit(self, command: Command[R]) -> R:
        """Commit a command. Returns its result once it is durable and waits have been notified.

        Cancelling the call does not withdraw the command: it is committed anyway.

        Raises:
            OutcomeUnknown, StoreBug: it is unknown whether the command was committed.
            BusError: any other error: the command was refused, or there was no capacity. Nothing
                was done.
        """
        size = command.size
        if not self._has_capacity(size):
            raise StoreBusy("too many posts are waiting for the disk")
        return await self._enqueue(command, size)

    def enqueue(self, command: Command[R]) -> "asyncio.Future[R]":
        """Enqueue a command, without a check of the capacity: see `wait_for_capacity`.

        Returns a future of what `submit` returns or raises.
        """
        return self._enqueue(command, command.size)

    async def wait_for_capacity(self, size: int) -> None:
        """Wait for capacity for a command of `size` bytes. Enqueue it before the next `await`."""
        while not self._has_capacity(size):
            self._freed.clear()
            await self._freed.wait()

    async def drain(self) -> None:
        """Wait until every enqueued command has its outcome."""
        while self._pending:
            self._freed.clear()
            await self._freed.wait()

    async def run(self) -> None:
        """Commit batches until cancelled."""
        with contextlib.closing(Load()) as load:
            while True:
                await self._available.wait()
                # The batch gets no name here, which would keep it in memory until the next one.
                await self._write(self._next_batch())
                await self._linger(load.measure())

    def statistics(self) -> WriterStatistics:
        """Returns the current statistics. Looks at all queued commands."""
        times = [queued.time for queued in self._queue.items()]
        if self._running is not None:
            times.append(self._running)
        return WriterStatistics(
            queued=len(self._queue),
            pending=self._pending,
            pending_bytes=self._bytes,
            pending_posts=self._posts,
            lag=max(time.monotonic() - min(times), 0.0) if times else 0.0,
        )

    def _enqueue(self, command: Command[R], size: int) -> "asyncio.Future[R]":
        outcome: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        posts = len(command.posts) if isinstance(command, AppendMany) else CALL_COST
        cost = posts + size // COST_BYTES
        span = trace_context.span.get()
        queued = _Queued(command, size, cost, outcome, time.monotonic(), span)
        self._queue.put(fair_queue.fairness_key.get(), queued, cost)
        self._cost += cost
        self._pending += 1
        self._posts += _is_post(command)
        self._peak = max(self._peak, self._pending)
        self._bytes += size
        self._available.set()
        if len(self._queue) == self._expected or self._cost >= BATCH_COST:
            self._gathered.set()
        return outcome

    def _has_capacity(self, size: int) -> bool:
        # A command larger than the whole capacity is accepted when nothing else is pending.
        if not self._bytes:
            return True
        count, total = len(self._queue) + 1, self._bytes + size
        if count <= self._max_commands and total <= self._max_bytes:
            return True
        if (
            count > self._max_commands * (1 + RESERVE) + 1
            or total > self._max_bytes * (1 + RESERVE) + MAX_CALL_BYTES
        ):
            return False
        own = [queued.size for queued in self._queue.of(fair_queue.fairness_key.get())]
        return not own or (
            len(own) < self._max_commands * SMALL_SHARE
            and size + sum(own) <= self._max_bytes * SMALL_SHARE
        )

    async def _write(self, batch: list[_Queued]) -> None:
        """Commit a batch and set its outcomes."""
        self._running = batch[0].time if len(batch) == 1 else min(map(_time_of, batch))
        outcomes = await self._commit(batch)
        self._running = None
        for (command, size, _, future, _, _), outcome in zip(batch, outcomes, strict=True):
            self._bytes -= size
            self._posts -= _is_post(command)
            if future.done():
                continue  # the caller was cancelled
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
        self._pending -= len(batch)
        self._freed.set()

    async def _linger(self, load: float) -> None:
        """Wait briefly until as many commands are queued as were pending, or a full batch.

        `load`: that of the event loop.
        """
        several = self._peak > max(1, len(self._queue))
        if load > BUSY and several and self._cost < BATCH_COST:
            self._expected = self._peak
            self._gathered.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(self._peak * LINGER, MAX_LINGER)):
                    await self._gathered.wait()
        self._peak = self._pending

    def _next_batch(self) -> list[_Queued]:
        batch: list[_Queued] = []
        cost = 0
        while self._queue and (not batch or cost + self._queue.peek().cost <= BATCH_COST):
            batch.append(self._queue.next())
            cost += batch[-1].cost
        self._cost -= cost
        if not self._queue:
            self._available.clear()
        return batch

    async def _commit(self, batch: list[_Queued]) -> list[Any]:
        """Commit a batch. Returns the outcome of each command: its result or an exception."""
        begin = time.monotonic()
        try:
            commit = await self._store.commit([queued.command for queued in batch])
        except BusError as refusal:
            return [refusal.without_traceback()] * len(batch)
        except Exception as error:  # noqa: BLE001 - the callers get any error
            return [error] * len(batch)
        self._statistics.committed(commit, begin)
        if self._tracing is not None and commit.time:
            self._trace(batch, commit, begin)
        await self._notify(commit)
        return commit.outcomes

    def _trace(self, batch: list[_Queued], commit: Commit, begin: float) -> None:
        """Make the spans of a batch that was just committed."""
        traced = [
            (queued.command, queued.span, outcome)
            for queued, outcome in zip(batch, commit.outcomes, strict=True)
            if queued.span is not None and not isinstance(outcome, Exception)
        ]
        if traced and self._tracing is not None:
            self._tracing.committed(traced, begin, commit.time, len(batch))

    async def _notify(self, commit: Commit) -> None:
        """Update `Recent` with a commit, and notify waits and servers of what it changed."""
        for name, head in commit.new_heads().items():
            self._recent.add(head.epoch, commit.entries.get(name, {}))
            self._recent.edit(head.epoch, commit.edited.get(name, {}))
            if name in commit.entries and self._is_awaited(name):
                self._statistics.remember(commit, name, head.epoch)
            await self._tails.advance(name, head)
        for name, epoch in commit.deleted:
            await self._tails.end(name, epoch)
        await self._memberships.committed(commit)
        if commit.asked:
            self.on_asked(commit)
        if commit.heads or commit.retained:
            self.on_entries(commit)
        changed = {name: head.seq for name, head in commit.heads.items()}
        changed |= {name: 0 for name, _ in commit.deleted}
        if commit.agents_changed:
            changed[AGENTS] = 0
        self._store.waker.publish(changed)

    def _is_awaited(self, thread: str) -> bool:
        """Returns whether there may be a wait on a thread."""
        return self._tails.is_watched(thread) or self._memberships.any()


#: Returns when a command was enqueued.
_time_of = attrgetter("time")


def _is_post(command: Command[Any]) -> bool:
    return isinstance(command, Append | AppendMany)
