"""Waits for states, with an error that says what was waited for."""

import asyncio
from collections.abc import Callable

from tests import polling

#: Seconds for which a state is waited for.
PATIENCE = 60.0


class SceneFailed(Exception):
    """A scene could not be played to its end. The message says why."""


async def until(what: str, state: Callable[[], bool]) -> None:
    """Return once a state of this process is reached. Raises SceneFailed."""
    try:
        await polling.until(state, within=PATIENCE)
    except TimeoutError:
        raise SceneFailed(f"waited {PATIENCE:.0f} s for {what}") from None


async def until_found(what: str, state: Callable[[], bool]) -> None:
    """As `until`, for a state that takes a while to look up. It is called in other threads."""
    try:
        await polling.until_known(lambda: asyncio.to_thread(state), within=PATIENCE)
    except TimeoutError:
        raise SceneFailed(f"waited {PATIENCE:.0f} s for {what}") from None
