"""The only road into the store: group commit, then tell."""

import asyncio
import contextlib
from typing import Any, TypeVar

from bus_server.errors import BusError, StoreBusy
from bus_server.store import Append, AppendMany, Command, Commit
from bus_server.store.interface import Store
from bus_server.tail import Recent, Tails

R = TypeVar("R")

#: One transaction takes at most so much: some ten milliseconds of the disk's.
BATCH_COMMANDS = 1_000
BATCH_BYTES = 8 * 1024 * 1024

#: Seconds, for each post of a batch and at most, in which as many callers as were just answered may
#: call again, so that the next batch is as large. It saves more than commits: what is answered
#: at once is sent and asked for at once, too. With 8 in flight that makes 1.4 times as many posts a
#: second, with 64 half as many again. The price: one who posts alone just after a batch of ten
#: or more waits the 5 ms. After a lone post there is no pause.
PAUSE, LONGEST_PAUSE = 500e-6, 0.005

_Queued = tuple[Command[Any], "asyncio.Future[Any]"]


class Writer:
    """Takes commands in order and commits what has gathered, a batch at a time.

    While one batch is being committed the next one gathers, and for a moment after it.
    """

    def __init__(
        self, store: Store, tails: Tails, recent: Recent, *, max_commands: int, max_bytes: int
    ) -> None:
        """Bounds: commands and bytes that may be queued, beyond which callers get StoreBusy."""
        self._store = store
        self._tails = tails
        self._recent = recent
        self._max_bytes = max_bytes
        self._bytes = 0
        self._queue: asyncio.Queue[_Queued] = asyncio.Queue(max_commands)
        self._freed = asyncio.Event()
        #: Set when so many commands are queued.
        self._gathered = asyncio.Event()
        self._expected = 0

    async def submit(self, command: Command[R]) -> R:
        """Have a command committed. Answers once it is durable and the waits were told.

        Being cancelled changes nothing about the command: it is committed all the same.

        Raises:
            BusError: the command was refused, or there was no room for it; nothing was done.
        """
        if not self._has_room(command.size):
            raise StoreBusy("too many posts are waiting for the disk")
        return await self.take(command)

    def take(self, command: Command[R]) -> "asyncio.Future[R]":
        """As `submit`, for one who has waited for `room`: the answer to come."""
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._bytes += command.size
        self._queue.put_nowait((command, answer))
        if self._queue.qsize() == self._expected:
            self._gathered.set()
        return answer

    async def room(self, size: int) -> None:
        """Return once there is room for a command: for those who rather wait than be refused."""
        while not self._has_room(size):
            self._freed.clear()
            await self._freed.wait()

    def _has_room(self, size: int) -> bool:
        # One that is larger than all that may wait is taken when nothing else does.
        fits = not self._bytes or self._bytes + size <= self._max_bytes
        return fits and not self._queue.full()

    async def drain(self) -> None:
        """Return when all that was submitted is answered."""
        await self._queue.join()

    async def run(self) -> None:
        """Commit for ever."""
        while True:
            # The batch is not named here, where it would be kept until the next one.
            posts = await self._answer(await self._next_batch())
            if posts > 1:
                await self._gather(posts)

    async def _answer(self, batch: list[_Queued]) -> int:
        """Commit a batch and answer its callers. Answers how many posts it had."""
        outcomes = await self._commit([command for command, _ in batch])
        for (command, answer), outcome in zip(batch, outcomes, strict=True):
            self._bytes -= command.size
            self._queue.task_done()
            if answer.done():
                continue  # the caller went away
            if isinstance(outcome, Exception):
                answer.set_exception(outcome)
            else:
                answer.set_result(outcome)
        self._freed.set()
        return sum(isinstance(command, Append | AppendMany) for command, _ in batch)

    async def _gather(self, count: int) -> None:
        """Wait a little for so many commands to be queued."""
        if self._queue.qsize() < count:
            self._expected = count
            self._gathered.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(count * PAUSE, LONGEST_PAUSE)):
                    await self._gathered.wait()

    async def _next_batch(self) -> list[_Queued]:
        batch = [await self._queue.get()]
        size = batch[0][0].size
        while not self._queue.empty() and len(batch) < BATCH_COMMANDS and size < BATCH_BYTES:
            batch.append(self._queue.get_nowait())
            size += batch[-1][0].size
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
            self._recent.add(head.thread_id, commit.entries.get(name, ()))
            self._recent.edit(head.thread_id, commit.edited.get(name, {}))
            await self._tails.advance(name, head)
        for name, thread_id in commit.deleted:
            await self._tails.end(name, thread_id)
