"""Waiting for a state that nothing announces: look until it is there, within a bound."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path


async def until(state: Callable[[], bool], *, within: float = 20.0) -> None:
    """Return once `state` holds; TimeoutError if it does not `within` so many seconds."""
    async with asyncio.timeout(within):
        while not state():  # noqa: ASYNC110 - another process's, nobody sets an event
            await asyncio.sleep(0.01)


async def until_known(state: Callable[[], Awaitable[bool]], *, within: float = 20.0) -> None:
    """As `until`, for a state that takes a call to learn."""
    async with asyncio.timeout(within):
        while not await state():  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)


def has_open(pid: int, path: Path) -> bool:
    """Whether a process has a file or folder open."""
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            if descriptor.readlink() == path:
                return True
    return False
