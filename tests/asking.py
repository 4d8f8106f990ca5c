"""Members of a thread who ask each other through the SDK."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from bus_client import Message, ThreadHandle, Unanswered
from tests.polling import until_known
from tests.wait_frames import BOUND


def agent(handle: ThreadHandle, role: str) -> str:
    """Returns the name of a member of the handle's thread."""
    return f"{handle.name}-{role}"


class Asking:
    """A question that is being asked."""

    def __init__(self, asker: ThreadHandle, task: "asyncio.Task[Message]") -> None:
        self.task = task
        self._asker = asker

    async def posted(self) -> int:
        """Returns the seq of the question, once it is posted."""

        async def is_posted() -> bool:
            return [each async for each in self._asker.list_requests()] != []

        await until_known(is_posted)
        return await anext(each.seq async for each in self._asker.list_requests())

    async def reply(self) -> str:
        """Returns the reply's content."""
        return (await self.task).content

    async def unanswered(self) -> Unanswered:
        """Returns what it raises."""
        with pytest.raises(Unanswered) as raised:
            await self.task
        return raised.value


@asynccontextmanager
async def asking(asker: ThreadHandle, *roles: str, **options: Any) -> AsyncIterator[Asking]:
    """Ask members of the thread for a reply."""
    of = [agent(asker, role) for role in roles]
    task = asyncio.create_task(asker.ask("?", of=of, **options))
    try:
        async with asyncio.timeout(BOUND):
            yield Asking(asker, task)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await task


async def until_waiting(asker: ThreadHandle) -> None:
    """Return once the agent that asks has an open wait."""

    async def is_waiting() -> bool:
        participants = [each async for each in asker.list_participants()]
        return any(p.agent == agent(asker, "asker") and p.wait_count for p in participants)

    await until_known(is_waiting)
