"""Agents that post at a fixed rate, and one that asks: posting.py JOB, see reporting.py.

The result has what was acknowledged: by thread, the seq and the number of each message.
"""

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

from reporting import Report, background, content, number_of, told_to_end

from bus_client import BusClient, BusError, OutcomeUnknown, ThreadHandle, Unavailable

#: Seconds between two questions, and in which the reply must come.
_ASKS, _WITHIN = 1.0, 30.0


class Poster:
    """Posts to each thread in turn, as an agent of its own.

    `measured`: it posts through the measured server, which is never killed.
    """

    def __init__(self, name: str, address: str, rate: float, measured: bool) -> None:
        self.name, self.address, self.measured = name, address, measured
        self._pause = 1 / rate
        self._count = 0
        self.acknowledged: list[tuple[str, int, str]] = []

    async def run(self, job: dict[str, Any], report: Report, ending: asyncio.Event) -> None:
        """Post until `ending`; then end the session. A post is repeated until acknowledged."""
        client = BusClient(self.address, agent=self.name, credentials=job["credentials"])
        async with client as bus:
            handles = [await bus.join(thread) for thread in job["threads"]]
            due = time.monotonic()
            while not ending.is_set():
                for handle in handles:
                    await self._post(handle, report)
                    # Late posts are left out, not made up for: the load stays moderate.
                    due = max(due + self._pause, time.monotonic())
                    await asyncio.sleep(due - time.monotonic())
            await bus.end_session()

    async def _post(self, handle: ThreadHandle, report: Report) -> None:
        self._count += 1
        number = f"{self.name}/{self._count}"
        began = time.monotonic_ns()
        while True:
            try:
                posted = await handle.post(content(number, began), request_id=number)
                break
            except (OutcomeUnknown, Unavailable) as error:
                if self.measured:
                    report.problems.append(f"a post of {self.name} failed: {error!r}")
        if self.measured:
            report.posts.append((time.monotonic_ns() - began) / 1e6)
        self.acknowledged.append((handle.name, posted.seq, number))


async def ask(job: dict[str, Any], report: Report, ending: asyncio.Event) -> None:
    """Ask the responder, and check its replies, until `ending`. The asks leave out no number."""
    async with BusClient(job["measured"], agent="asker", credentials=job["credentials"]) as bus:
        thread, number = await bus.join("asks"), 0
        while not ending.is_set():
            number += 1
            try:
                with report.waiting(True):
                    reply = await thread.ask(
                        f"ask/{number}", of="responder", within=_WITHIN, request_id=f"ask/{number}"
                    )
            except BusError as error:
                report.problems.append(f"question {number} was not answered: {error!r}")
            else:
                if number_of(reply.content) != f"ask/{number}":
                    report.problems.append(f"question {number} got {reply.content!r}")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ending.wait(), _ASKS)
        await bus.end_session()


@contextlib.asynccontextmanager
async def _running(job: dict[str, Any], report: Report) -> AsyncIterator[list[Poster]]:
    """Post and ask in this block, and end all sessions at its end."""
    ending = asyncio.Event()
    share = job["rate"] / job["posters"]
    posters = [
        # One of them uses the server that is killed now and then.
        Poster(f"poster-{n}", job["measured"] if n else job["sibling"], share, bool(n))
        for n in range(job["posters"])
    ]
    async with asyncio.TaskGroup() as tasks:
        for poster in posters:
            tasks.create_task(poster.run(job, report, ending))
        tasks.create_task(ask(job, report, ending))
        yield posters
        ending.set()


async def main() -> None:
    report = Report()
    async with background(report.run()), _running(json.loads(sys.argv[1]), report) as posters:
        await told_to_end()
    report.end(acknowledged=[each for poster in posters for each in poster.acknowledged])


if __name__ == "__main__":
    asyncio.run(main())
