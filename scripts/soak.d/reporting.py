"""What all client programs share: they get a job as JSON, report on stdout, and end at EOF.

A report is a line of JSON, once a second. The result is one more, at the end.
"""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any

#: Seconds between two reports.
EVERY = 1.0
#: A message's size: 200 bytes, with what the receiver needs at the beginning.
SIZE = 200


class Report:
    """What a program tells about itself until its next report."""

    def __init__(self) -> None:
        #: Milliseconds of posts until they were acknowledged, and of messages from the call of
        #: the post until they were received. Only through the measured server.
        self.posts: list[float] = []
        self.wakes: list[float] = []
        #: Waits that are open at the measured server.
        self.waits = 0
        #: What is wrong; reported with the result.
        self.problems: list[str] = []

    @contextlib.contextmanager
    def waiting(self, measured: bool) -> Iterator[None]:
        """Count a wait, if it is at the measured server."""
        self.waits += measured
        try:
            yield
        finally:
            self.waits -= measured

    async def run(self) -> None:
        """Report until cancelled."""
        while True:
            await asyncio.sleep(EVERY)
            _say({"waits": self.waits, "posts": self.posts, "wakes": self.wakes})
            self.posts, self.wakes = [], []

    def end(self, **result: Any) -> None:
        """Print the result."""
        _say({"problems": self.problems, **result})


def content(number: str, sent: int) -> str:
    """Returns a message: its number, and when it was posted, in ns of the monotonic clock."""
    return f"{number} {sent} ".ljust(SIZE, ".")


def number_of(text: str) -> str:
    """Returns the number in a message."""
    return text.partition(" ")[0]


def sent_at(text: str) -> int:
    """Returns when a message was posted, in ns of the monotonic clock, which processes share."""
    return int(text.split(" ", 2)[1])


@contextlib.asynccontextmanager
async def background(*coroutines: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run coroutines until the end of the block. Raises what one of them does."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(each) for each in coroutines]
        yield
        for task in tasks:
            task.cancel()


async def told_to_end() -> None:
    """Return once standard input is closed."""
    await asyncio.to_thread(sys.stdin.read)


def _say(line: dict[str, Any]) -> None:
    # One write: a program that is killed leaves no half of a line before another one's.
    os.write(sys.stdout.fileno(), f"{json.dumps(line)}\n".encode())
