"""Threads that come and go: churning.py JOB, see reporting.py.

An agent creates a thread and posts, another one follows and leaves; then the thread is deleted, and
the next one gets its name. So this part of the store stays as large as it is.
"""

import asyncio
import contextlib
import json
import sys
import time
from typing import Any

from reporting import Report, background, content, number_of, told_to_end

from bus_client import BusClient, ThreadHandle

#: Messages of a thread, and seconds between two.
_MESSAGES, _PAUSE = 60, 0.1
#: Seconds in which they must be received.
_PATIENCE = 60.0


async def churn(job: dict[str, Any], report: Report, name: str, ending: asyncio.Event) -> int:
    """Create, use and delete a thread until `ending`. Returns how often that was done."""
    address, credentials, done = job["measured"], job["credentials"], 0
    async with (
        BusClient(address, agent=f"{name}-maker", credentials=credentials) as maker,
        BusClient(address, agent=f"{name}-reader", credentials=credentials) as reader,
    ):
        while not ending.is_set():
            made = await maker.join(name)
            if not made.created:
                report.problems.append(f"{name} is still there after it was deleted")
            read = await reader.join(name, start="first")
            async with asyncio.TaskGroup() as both:
                both.create_task(_receive(read, report, done))
                both.create_task(_post(made, report, done))
            await read.leave()
            await made.delete()
            done += 1
        await maker.end_session()
        await reader.end_session()
    return done


async def _post(thread: ThreadHandle, report: Report, life: int) -> None:
    for number in range(1, _MESSAGES + 1):
        began = time.monotonic_ns()
        posted = await thread.post(content(f"{life}/{number}", began))
        report.posts.append((time.monotonic_ns() - began) / 1e6)
        if posted.seq != number:
            report.problems.append(f"message {number} of {thread.name} got seq {posted.seq}")
        await asyncio.sleep(_PAUSE)


async def _receive(thread: ThreadHandle, report: Report, life: int) -> None:
    wanted = [(number, f"{life}/{number}") for number in range(1, _MESSAGES + 1)]
    received: list[tuple[int, str]] = []
    with report.waiting(True), contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE), contextlib.aclosing(thread.follow()) as messages:
            async for message in messages:
                received.append((message.seq, number_of(message.content)))
                if len(received) == _MESSAGES:
                    break
    if received != wanted:
        report.problems.append(f"{thread.name} was read as {received}, in its life {life}")


async def main() -> None:
    job, report, ending = json.loads(sys.argv[1]), Report(), asyncio.Event()
    async with background(report.run()), asyncio.TaskGroup() as tasks:
        churning = [
            tasks.create_task(churn(job, report, f"churn-{number}", ending))
            for number in range(job["churning"])
        ]
        await told_to_end()
        ending.set()
    report.end(deleted=sum(task.result() for task in churning))


if __name__ == "__main__":
    asyncio.run(main())
