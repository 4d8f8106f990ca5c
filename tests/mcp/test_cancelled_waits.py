"""Waits that a host gives up in the moment in which a message comes: it is lost for nobody."""

import asyncio
import random
import re
from pathlib import Path

import pytest

from bus_client import BusClient
from tests.mcp.command import Command
from tests.mcp.driver import BOUND, CLIENTS, connected
from tests.serving import ServerProcess

pytestmark = pytest.mark.slow

_MESSAGE = re.compile(r": message (\d+)$", re.MULTILINE)

#: Seconds from a wait to the post.
_AHEAD = 0.03


def _numbers(text: str) -> list[int]:
    return [int(number) for number in _MESSAGE.findall(text)]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("times_out", [False, True])
@pytest.mark.parametrize("kind", CLIENTS)
async def test_each_message_is_shown_once_however_many_waits_are_given_up(
    server: ServerProcess,
    command: Command,
    thread: str,
    tmp_path: Path,
    kind: str,
    times_out: bool,
    soak: bool,
) -> None:
    credentials = tmp_path / "peer.json"
    async with (
        BusClient(server.address, agent=f"{thread}-peer", credentials=credentials) as peer,
        connected(kind, command) as client,
    ):
        handle = await peer.join(thread)
        await client.call("bus_join", thread=thread).text()
        given_up, answered = 0, 0
        pause = 0.007
        for number in range(300 if soak else 20):
            patience = pause * random.uniform(0, 2)  # noqa: S311
            within = _AHEAD + patience if times_out else BOUND
            wait = client.call("bus_wait", thread=thread, within=within)
            await asyncio.sleep(_AHEAD)
            post = asyncio.create_task(handle.post(f"message {number}"))
            if not times_out:
                await asyncio.sleep(patience)
                client.cancel(wait)
            result = await wait.result()
            await post
            # The next pause is longer or shorter, for the two to meet on a machine of any speed.
            if "text" in result:
                shown = _numbers(result["text"])
                answered += 1
                pause /= 1.5
            else:
                assert ("timed out" if times_out else "cancelled") in result["failed"]
                shown = _numbers(await client.next_wait(thread))
                given_up += 1
                pause *= 1.5
            assert shown == [number]
    assert given_up and answered, "the two never met"
