"""One agent of the demo, a process of its own: it says its lines when it is its turn.

It tells the demo what it reads, one JSON object a line.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

import bus_client

if TYPE_CHECKING:
    from bus_client import ThreadHandle

THREAD = "split-bug"

# (who, what). Message n of the thread is line n.
LINES = [
    ("coder", "split(100, 3) answers [33, 33, 33]: a cent is lost. I fix it; will you review?"),
    ("reviewer", "Yes. Give the odd cents to the first ones: it should not depend on luck."),
    (
        "coder",
        "Done:\n"
        "    share, rest = divmod(total, n)\n"
        "    return [share + (i < rest) for i in range(n)]\n"
        "split(100, 3) is now [34, 33, 33].",
    ),
    ("reviewer", "Reads well. What about refunds, split(-100, 3)?"),
    ("coder", "divmod rounds down: [-33, -33, -34]. The sum is right. Is that fine with you?"),
    ("coder", "While you think: I added a test that sum(split(t, n)) == t for 10,000 t and n."),
    ("reviewer", "I have #5 and #6, thank you. Sums that are right are what counts. And n = 0?"),
    ("coder", "It was a ZeroDivisionError; now: ValueError, no one to split among."),
    ("reviewer", "Approved. Merge it."),
    ("coder", "Merged."),
]


async def play(name: str, server: str, credentials: Path, pace: float, stuck_at: int) -> None:
    """Takes part until the last line; gets stuck in thought over the message `stuck_at`."""
    async with bus_client.BusClient(server, agent=name, credentials=credentials) as bus:
        thread = await bus.join(THREAD, start="first")
        _tell(joined=thread.position.after_seq)
        if thread.position.after_seq == 0:
            await _speak(thread, name, after=0, pace=pace)
        async with aclosing(thread.follow()) as messages:
            async for message in messages:
                _tell(read=message.seq)
                if message.seq == stuck_at:
                    await asyncio.Event().wait()
                said = await _speak(thread, name, after=message.seq, pace=pace)
                await thread.acknowledge(message.seq)
                if said == len(LINES):
                    return


async def _speak(thread: ThreadHandle, name: str, *, after: int, pace: float) -> int:
    """Says the agent's lines that follow; answers the seq of the last line that was said."""
    seq = after
    for who, text in LINES[after:]:
        if who != name:
            break
        seq += 1
        await asyncio.sleep(pace)  # it has to be written, too
        # Had it been killed after the post and before it was acknowledged, this would be the
        # second time: the request_id keeps it from being said twice.
        await thread.post(text, request_id=f"line-{seq}", based_on_seq=after)
    return seq


def _tell(**event: int) -> None:
    sys.stdout.write(f"{json.dumps(event)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _, who, where, tokens, seconds, stuck = sys.argv
    asyncio.run(play(who, where, Path(tokens), float(seconds), int(stuck)))
