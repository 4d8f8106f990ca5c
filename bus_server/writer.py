"""The only road into the store: group commit, then tell."""

import asyncio
import contextlib
from typing import Any, NamedTuple, TypeVar

from bus_server import fair_queue
from bus_server.errors import BusError, StoreBusy
from bus_server.fair_queue import FairQueue
from bus_server.recent import Recent
from bus_server.store import Append, AppendMany, Command, Commit
from bus_server.store.interface import Store
from bus_server.tail import Tails
from threadbus.limits import MAX_CALL_BYTES

R = TypeVar("R")

#: What a command costs: 1, some twenty microseconds, for each post of PostMessages and for each
#: 4 KiB. One that is a call of its own costs CALL: the event loop has to answer it.
CALL, COST_BYTES = 8, 4_096
#: A transaction takes commands that cost so much, or one that costs more: some ten milliseconds of
#: the disk's and of the event loop's. A caller that has nothing queued waits for the one that runs,
#: and for its own.
BATCH_COST = 512

#: One caller may fill the queue. Others then still find room in a reserve on top of it, a fourth of
#: its size, as long as they have no more queued than a thirty-second of its size, or nothing.
RESERVE, MODEST = 1 / 4, 1 / 32

#: Seconds, for each post of a batch and at most, in which as many callers as were just answered may
#: call again, so that the next batch is as large. It saves more than commits: what is answered
#: at once is sent and asked for at once, too. With 8 in flight that makes 1.4 times as many posts a
#: second, with 64 half as many again. The price: one who posts alone just after a batch of ten
#: or more waits the 5 ms. After a lone post there is no pause.
PAUSE, LONGEST_PAUSE = 500e-6, 0.005


class _Queued(NamedTuple):
    command: Command[Any]
    size: int
    cost: int
    answer: "asyncio.Future[Any]"


class Writer:
    """Commits the commands that have gathered, a batch at a time.

    Callers take turns, each caller's commands in order: nobody waits for what another has queued.
    The caller is that of the task which submits the command (`fair_queue.fairness_key`).

    While one batch is being committed the next one gathers, and for a moment after it.
    """

    def __init__(
        self, store: Store, tails: Tails, recent: Recent, *, max_commands: int, max_bytes: int
    ) -> None:
        """Bounds: commands and bytes that may be queued, beyond which callers get StoreBusy."""
        self._store = store
        self._tails = tails
        self._recent = recent
        self._max_commands = max_commands
        self._max_bytes = max_bytes
        self._queue: FairQueue[_Queued] = FairQueue()
        #: Of commands that are not answered: how many, and their bytes.
        self._unanswered = self._bytes = 0
        #: Set while commands are queued.
        self._some = asyncio.Event()
        #: Set when commands were answered.
        self._freed = asyncio.Event()
        #: Set when so many commands are queued.
        self._gathered = asyncio.Event()
        self._expected = 0

    async def submit(self, command: Command[R]) -> R:
        """Have a command committed. Returns its answer once it is durable and the waits were told.

        Being cancelled changes nothing about the command: it is committed all the same.

        Raises:
            BusError: the command was refused, or there was no room for it; nothing was done.
        """
        size = command.size
        if not self._has_room(size):
            raise StoreBusy("too many posts are waiting for the disk")
        return await self._enqueue(command, size)

    def take(self, command: Command[R]) -> "asyncio.Future[R]":
        """As `submit`, for one who has waited for `room`: the answer to come."""
        return self._enqueue(command, command.size)

    def _enqueue(self, command: Command[R], size: int) -> "asyncio.Future[R]":
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        posts = len(command.posts) if isinstance(command, AppendMany) else CALL
        cost = posts + size // COST_BYTES
        self._queue.put(fair_queue.fairness_key.get(), _Queued(command, size, cost, answer), cost)
        self._unanswered += 1
        self._bytes += size
        self._some.set()
        if len(self._queue) == self._expected:
            self._gathered.set()
        return answer

    async def room(self, size: int) -> None:
        """Return once there is room for a command: for those who rather wait than be refused."""
        while not self._has_room(size):
            self._freed.clear()
            await self._freed.wait()

    def _has_room(self, size: int) -> bool:
        # A command that is larger than all that may wait is taken when nothing else does.
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
            len(own) < self._max_commands * MODEST and size + sum(own) <= self._max_bytes * MODEST
        )

    async def drain(self) -> None:
        """Return when all that was submitted is answered."""
        while self._unanswered:
            self._freed.clear()
            await self._freed.wait()

    async def run(self) -> None:
        """Commit for ever."""
        while True:
            await self._some.wait()
            # The batch is not named here, where it would be kept until the next one.
            posts = await self._answer(self._next_batch())
            if posts > 1:
                await self._gather(posts)

    async def _answer(self, batch: list[_Queued]) -> int:
        """Commit a batch and answer its callers. Returns how many posts it had."""
        outcomes = await self._commit([queued.command for queued in batch])
        for (_, size, _, answer), outcome in zip(batch, outcomes, strict=True):
            self._bytes -= size
            if answer.done():
                continue  # the caller went away
            if isinstance(outcome, Exception):
                answer.set_exception(outcome)
            else:
                answer.set_result(outcome)
        self._unanswered -= len(batch)
        self._freed.set()
        return sum(isinstance(queued.command, Append | AppendMany) for queued in batch)

    async def _gather(self, count: int) -> None:
        """Wait a little for so many commands to be queued."""
        if len(self._queue) < count:
            self._expected = count
            self._gathered.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(count * PAUSE, LONGEST_PAUSE)):
                    await self._gathered.wait()

    def _next_batch(self) -> list[_Queued]:
        batch: list[_Queued] = []
        cost = 0
        while self._queue and (not batch or cost + self._queue.peek().cost <= BATCH_COST):
            batch.append(self._queue.next())
            cost += batch[-1].cost
        if not self._queue:
            self._some.clear()
        return batch

    async def _commit(self, commands: list[Command[Any]]) -> list[Any]:
        """What becomes of each command: its answer or an exception."""
        try:
            commit = await self._store.commit(commands)
        except BusError as refusal:
            return [refusal.without_traceback()] * len(commands)
        except Exception as error:  # noqa: BLE001 - whatever it was, the callers must hear of it
            return [error] * len(commands)
        await self._tell(commit)
        return commit.outcomes

    async def _tell(self, commit: Commit) -> None:
        """Commit, then tell: the one place that raises heads after a write of ours."""
        for name, head in commit.heads.items():
            self._recent.add(head.epoch, commit.entries.get(name, {}))
            self._recent.edit(head.epoch, commit.edited.get(name, {}))
            await self._tails.advance(name, head)
        for name, epoch in commit.deleted:
            await self._tails.end(name, epoch)
