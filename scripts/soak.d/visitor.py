"""An agent that comes for a while: visitor.py JOB, see reporting.py.

It joins the lobby, posts, waits, looks into its inbox, asks the responder, and leaves again, until
its time is over; then it ends its session. It prints `ack SEQ NUMBER` for each post at once, as it
may be killed.
"""

import asyncio
import contextlib
import json
import os
import sys
import time
from typing import Any

from bus_client import BusClient, Unreachable

#: Seconds of each wait.
_WAIT = 0.5


async def visit(job: dict[str, Any]) -> None:
    """Take part until the job's seconds are over."""
    end, number = time.monotonic() + job["seconds"], 0
    client = BusClient(job["measured"], agent=job["agent"], credentials=job["credentials"])
    async with client as bus:
        while time.monotonic() < end:
            lobby = await bus.join("lobby")
            for _ in range(3):
                number += 1
                name = f"{job['agent']}/{job['visit']}/{number}"
                posted = await lobby.post(name, request_id=name, mentions=[job["mentions"]])
                _say(f"ack {posted.seq} {name}")
                with contextlib.suppress(Unreachable):  # where the machine is too slow for it
                    await lobby.wait(timeout=_WAIT)
            with contextlib.suppress(TimeoutError):
                async with (
                    asyncio.timeout(_WAIT),
                    contextlib.aclosing(bus.inbox()) as messages,
                ):
                    async for message in messages:
                        if not message.content.startswith("seen/"):  # else two thank each other
                            await lobby.post(f"seen/{name}", reply_to=message.seq)
            await lobby.ask(f"ask/{name}", of="responder", within=30)
            await lobby.leave()
        await bus.end_session()
    _say("left")


def _say(line: str) -> None:
    os.write(sys.stdout.fileno(), f"{line}\n".encode())


if __name__ == "__main__":
    asyncio.run(visit(json.loads(sys.argv[1])))
