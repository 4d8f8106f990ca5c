"""Agents that joined a thread through the SDK, and what they read in it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Literal

from bus_client import BusClient, Message, ThreadHandle
from tests.wait_frames import BOUND


@contextlib.asynccontextmanager
async def member(
    address: str,
    thread: str,
    home: Path,
    *,
    role: str = "reader",
    start: Literal["head", "first"] = "first",
) -> AsyncIterator[ThreadHandle]:
    """The thread, joined by the agent THREAD-ROLE, whose token is stored under `home`."""
    agent, credentials = f"{thread}-{role}", home / "credentials.json"
    async with BusClient(address, agent=agent, credentials=credentials) as bus:
        yield await bus.join(thread, start=start)


async def read_position(address: str, thread: str, home: Path, *, role: str = "reader") -> int:
    """Returns a member's read position, as the server has it."""
    async with member(address, thread, home, role=role) as again:
        return again.position.after_seq


async def take(messages: AsyncIterator[Message], count: int) -> list[str]:
    """Returns the contents of the next `count` messages."""
    async with asyncio.timeout(BOUND):
        return [(await anext(messages)).content for _ in range(count)]


def contents(messages: Iterable[Message]) -> list[str]:
    """Returns the contents of messages."""
    return [message.content for message in messages]
