"""Polling for a state that no event signals, with a timeout."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path


async def until(state: Callable[[], bool], *, within: float = 20.0) -> None:
    """Return once `state()` is true. Raises TimeoutError after `within` seconds."""
    async with asyncio.timeout(within):
        while not state():  # noqa: ASYNC110 - it may be another process's, without an event
            await asyncio.sleep(0.01)


async def until_known(state: Callable[[], Awaitable[bool]], *, within: float = 20.0) -> None:
    """As `until`, for a state that is learned by a call."""
    async with asyncio.timeout(within):
        while not await state():  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)


def has_open(pid: int, path: Path) -> bool:
    """Returns whether a process has a file or folder open."""
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed since it was listed
            if descriptor.readlink() == path:
                return True
    return False
