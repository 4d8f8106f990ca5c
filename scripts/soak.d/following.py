"""Agents that stay: followers, one that answers, and many idle waits: following.py JOB.

Once told to end, each follower goes on to the head of its thread. The result has what each follower
received: how many messages, and a hash of them.
"""

import asyncio
import contextlib
import hashlib
import json
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

from reporting import Report, background, number_of, sent_at, told_to_end

from bus_client import BusClient, Message
from tests.polling import until

#: Seconds that an idle wait is open, before it is opened again.
_IDLE = 20.0
#: Seconds in which followers come to the end of their threads.
_PATIENCE = 60.0


class Follower:
    """Follows threads with one wait, and checks that each message is the next one."""

    def __init__(self, name: str, address: str, threads: list[str], measured: bool) -> None:
        self.name, self.address, self.threads, self.measured = name, address, threads, measured
        self._last = dict.fromkeys(threads, 0)
        self._hash = {thread: hashlib.sha256() for thread in threads}
        self._wrong = False

    async def run(self, job: dict[str, Any], report: Report) -> None:
        """Follow until cancelled."""
        async with self._connected(job) as bus:
            for thread in self.threads:
                await bus.join(thread, start="first")
            # Notices to others too: then no seq is left out.
            following = bus.follow(self.threads, include_own=True, all_notices=True)
            with report.waiting(self.measured):
                async with contextlib.aclosing(following) as messages:
                    async for message in messages:
                        self.take(message, report)

    def take(self, message: Message, report: Report) -> None:
        """Record the next message."""
        # Those of the sibling's posters wait for its restart.
        if self.measured and message.content.startswith("poster-") and message.sender != "poster-0":
            report.wakes.append((time.monotonic_ns() - sent_at(message.content)) / 1e6)
        due = self._last[message.thread] + 1
        if message.seq != due and not self._wrong:
            self._wrong = True
            report.problems.append(
                f"{self.name} received seq {message.seq} of {message.thread}, where {due} was due"
            )
        self._last[message.thread] = message.seq
        self._hash[message.thread].update(line_of(message))

    async def ended(self, job: dict[str, Any]) -> None:
        """Return once the heads of the threads are reached. Raises TimeoutError."""
        async with self._connected(job) as bus:
            heads = {each: (await bus.get_thread(each)).head_seq for each in self.threads}
        await until(
            lambda: all(self._last[thread] >= head for thread, head in heads.items()),
            within=_PATIENCE,
        )

    def received(self) -> dict[str, tuple[int, str]]:
        """Returns the last seq and the hash of all messages, by thread."""
        return {each: (self._last[each], self._hash[each].hexdigest()) for each in self.threads}

    def _connected(self, job: dict[str, Any]) -> BusClient:
        return BusClient(self.address, agent=self.name, credentials=job["credentials"])


def line_of(message: Message) -> bytes:
    """Returns what of a message goes into a follower's hash."""
    return f"{message.seq} {message.sender} {message.content}\n".encode()


async def respond(bus: BusClient, report: Report) -> None:
    """Answer each question, from the inbox, until cancelled."""
    with report.waiting(True):
        async with contextlib.aclosing(bus.inbox()) as messages:
            async for message in messages:
                if message.HasField("expect_reply"):
                    number = number_of(message.content)
                    await bus.thread(message.thread).post(
                        f"{number} yes",
                        reply_to=message.seq,
                        request_id=f"re/{message.sender}/{number}",
                    )


async def wait_idly(job: dict[str, Any], report: Report, number: int) -> None:
    """Wait on a thread to which nobody posts, again and again, until cancelled."""
    address, agent = job["measured"], f"idle-{number}"
    async with BusClient(address, agent=agent, credentials=job["credentials"]) as bus:
        thread = await bus.join(f"quiet-{number % 4}")
        await asyncio.sleep(_IDLE * number / job["idle"])  # not all at once
        with report.waiting(True):  # but for a moment, now and then
            while True:
                if found := await thread.wait(timeout=_IDLE):
                    report.problems.append(f"{agent} received {found}")


@contextlib.asynccontextmanager
async def _running(job: dict[str, Any], report: Report) -> AsyncIterator[list[Follower]]:
    threads = [*job["threads"], "asks", "lobby"]
    followers = [
        *(
            Follower(f"follower-{n}", job["measured"], threads, True)
            for n in range(job["followers"])
        ),
        *(Follower(f"away-{n}", job["sibling"], threads, False) for n in range(2)),
    ]
    responder = BusClient(job["measured"], agent="responder", credentials=job["credentials"])
    async with (
        responder,  # before any report: from then on, others ask it
        background(
            *(each.run(job, report) for each in followers),
            *(wait_idly(job, report, number) for number in range(job["idle"])),
            respond(responder, report),
        ),
    ):
        yield followers


async def main() -> None:
    job, report = json.loads(sys.argv[1]), Report()
    async with _running(job, report) as followers, background(report.run()):
        await told_to_end()
        for follower in followers:
            try:
                await follower.ended(job)
            except TimeoutError:
                report.problems.append(f"{follower.name} did not reach the end of its threads")
    report.end(received={each.name: each.received() for each in followers})


if __name__ == "__main__":
    asyncio.run(main())
