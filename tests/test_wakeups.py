"""No wake-up is lost, whatever waits do while posts arrive.

The server here has no fallback and its keepalives are further apart than a test is long, so only
the wake-up itself makes a wait look again. Each round ends in silence: a wait that missed the last
post finds no later one that would hide it.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

import pytest

from tests.connections import connected
from tests.open_wait import wait_request
from tests.serving import BusStub, ServerProcess, ThreadStub
from threadbus.v1.bus_service_pb2 import PostMessageRequest, WaitMessagesRequest
from threadbus.v1.thread_service_pb2 import CreateThreadRequest

WAITERS = 200
POSTERS = 6
POSTS = 4  # of each poster, in a round


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, chosen_store: None) -> Iterator[ServerProcess]:
    """A server whose waits look for messages only when woken."""
    db = tmp_path_factory.mktemp("wakeups") / "bus.db"
    with ServerProcess(db, "--fallback-interval", "0") as running:
        yield running


@pytest.fixture
async def posting_bus(server: ServerProcess) -> AsyncIterator[BusStub]:
    """A connection for the posts alone."""
    async with connected(server.address) as client:
        yield client.bus


class Waiter:
    """Follows threads from their first messages, and resumes by cursor however its waits end."""

    def __init__(self, bus: BusStub, threads: Sequence[str]) -> None:
        self.bus = bus
        self.after = dict.fromkeys(threads, 0)
        self.seen: dict[str, list[int]] = {thread: [] for thread in threads}

    def request(self) -> WaitMessagesRequest:
        """Returns an open-ended request from the current position."""
        return wait_request(self.after)

    def missing(self, target: int) -> int:
        """Returns how many messages are missing until each thread has reached `target`."""
        return sum(target - len(seqs) for seqs in self.seen.values())

    async def read(self, request: WaitMessagesRequest, frames: int, target: int) -> None:
        """Wait until the server ends it, `frames` batches came, or the target is reached."""
        call = self.bus.WaitMessages(request)
        async for frame in call:
            if frame.HasField("messages"):
                cursor = frame.messages.cursor
                self.seen[cursor.thread] += [message.seq for message in frame.messages.messages]
                self.after[cursor.thread] = cursor.after_seq
                frames -= 1
            if frames == 0 or self.missing(target) == 0:
                call.cancel()
                return


async def stays(waiter: Waiter, target: int) -> None:
    """Stay in one wait."""
    await waiter.read(waiter.request(), -1, target)


async def polls(waiter: Waiter, target: int) -> None:
    """Wait for one message, or all that is available, and again."""
    while waiter.missing(target):
        request = waiter.request()
        request.min_messages = 1
        await waiter.read(request, -1, target)


async def counts(waiter: Waiter, target: int) -> None:
    """Wait for a few messages, and again."""
    while missing := waiter.missing(target):
        request = waiter.request()
        request.max_messages = min(random.randint(1, 5), missing)  # noqa: S311
        await waiter.read(request, -1, target)


async def quits(waiter: Waiter, target: int) -> None:
    """Disconnect after a frame or two, and reconnect."""
    while waiter.missing(target):
        await waiter.read(waiter.request(), random.randint(1, 2), target)  # noqa: S311


HABITS: list[Callable[[Waiter, int], Awaitable[None]]] = [stays, polls, counts, quits]


@pytest.mark.slow
async def test_no_wait_misses_or_repeats_a_message_when_posts_end_in_silence(
    bus: BusStub, posting_bus: BusStub, threads: ThreadStub, name: str, soak: bool
) -> None:
    rounds = 10 if soak else 3
    names = [f"{name}-{n}" for n in range(4)]
    for thread in names:
        await threads.CreateThread(CreateThreadRequest(thread=thread))
    # Of each habit three quarters wait on one thread, the others on all of them.
    waiters = [
        Waiter(bus, names if n // 4 % 4 == 0 else [names[n // 16 % 4]]) for n in range(WAITERS)
    ]

    async def poster() -> None:
        for n in range(POSTS):
            await posting_bus.PostMessage(PostMessageRequest(thread=names[n % 4], content="x"))

    for number in range(1, rounds + 1):
        target = number * POSTERS * POSTS // len(names)
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            for n, waiter in enumerate(waiters):
                group.create_task(asyncio.wait_for(HABITS[n % 4](waiter, target), 15))
            for _ in range(POSTERS):
                group.create_task(poster())
        for waiter in waiters:
            for seqs in waiter.seen.values():
                assert seqs == list(range(1, target + 1))


@pytest.mark.slow
@pytest.mark.parametrize("others", [0, 3], ids=["one_thread", "several_threads"])
async def test_a_single_post_wakes_a_wait_that_is_just_opening(
    bus: BusStub, posting_bus: BusStub, threads: ThreadStub, name: str, others: int
) -> None:
    names = [f"{name}-{n}" for n in range(1 + others)]
    for thread in names:
        await threads.CreateThread(CreateThreadRequest(thread=thread))
    for n in range(1, 301):
        request = wait_request({names[0]: n - 1} | dict.fromkeys(names[1:], 0))
        request.min_messages = 1
        waits = [bus.WaitMessages(request) for _ in range(3)]
        # At the same moment, on another connection: either side may come first.
        await posting_bus.PostMessage(PostMessageRequest(thread=names[0], content="x"))
        async with asyncio.timeout(10):
            for wait in waits:
                frames = [frame async for frame in wait]
                seqs = [m.seq for frame in frames for m in frame.messages.messages]
                assert seqs == [n]
