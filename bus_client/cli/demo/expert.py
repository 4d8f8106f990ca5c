"""An agent of the demo that waits in all its threads for questions, run in its own process.

It reports on stdout what it is doing, one JSON object per line.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import aclosing
from pathlib import Path

import bus_client
from bus_client.cli.demo.lines import ANSWER, FIRST


async def live(server: str, credentials: Path, pace: float) -> None:
    """Answer questions until the process is killed.

    Args:
        server: The server's address.
        credentials: The file for the agent's token.
        pace: Seconds that an answer takes.

    Raises:
        BusError: The server cannot be reached, or refused a call.
    """
    working = bus_client.Presence.PRESENCE_WORKING
    async with (
        bus_client.BusClient(server, agent="expert", credentials=credentials) as bus,
        aclosing(bus.inbox()) as inbox,
    ):
        _report(ready=True)
        async for message in inbox:
            # From now on, its heartbeats show that it is alive.
            await bus.heartbeat(state=working, status_text=f"thinking about #{message.seq}")
            _report(thinking=message.seq)
            # The demo kills it while it thinks about the second question.
            await asyncio.sleep(pace if message.content == FIRST else 3_600)
            await bus.thread(message.thread).post(ANSWER, reply_to=message.seq)


def _report(**event: object) -> None:
    sys.stdout.write(f"{json.dumps(event)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _, server, credentials, pace = sys.argv
    asyncio.run(live(server, Path(credentials), float(pace)))
