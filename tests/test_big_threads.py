"""Threads of many megabytes: listed without reading their messages, and deleted in steps."""

import asyncio
import contextlib
import re
import sqlite3

import pytest

from tests.conftest import StartServer
from tests.connections import connected
from tests.ledger import history
from tests.polling import until
from tests.process_memory import forget_peak, memory, peak_memory
from tests.serving import BusStub, ServerProcess
from tests.statements import statements
from threadbus.v1.bus_service_pb2 import PostMessageRequest
from threadbus.v1.thread_service_pb2 import DeleteThreadRequest, ListThreadsRequest

KIB, MIB = 1024, 1024 * 1024


async def fill(bus: BusStub, threads: list[str], content: str) -> None:
    """Post this to each of the threads, ten at a time."""
    for start in range(0, len(threads), 10):
        requests = [PostMessageRequest(thread=t, content=content) for t in threads[start:][:10]]
        await asyncio.gather(*(bus.PostMessage(request) for request in requests))


def restart(server: ServerProcess, *flags: str) -> None:
    """Restart the server with these flags, so that nothing is cached."""
    assert server.stop() == 0
    server.flags = flags
    server.start()


@pytest.mark.slow
async def test_listing_threads_does_not_read_their_messages(
    start_server: StartServer, name: str
) -> None:
    server = start_server("--durability", "fast")
    names = [f"{name}-{n}" for n in range(200)]
    async with connected(server.address, *names) as client:
        await fill(client.bus, names, "x" * (500 * KIB))
    restart(server)
    async with connected(server.address) as client:
        await client.threads.ListThreads(ListThreadsRequest(prefix="none such"))
        forget_peak(server.pid)
        before = memory(server.pid)
        listed = await client.threads.ListThreads(ListThreadsRequest(page_size=1_000))
        assert sorted(thread.name for thread in listed.threads) == sorted(names)
        assert {thread.head_seq for thread in listed.threads} == {1}
        # Their newest messages take a hundred megabytes.
        assert peak_memory(server.pid) - before < 40 * MIB


_CLEARED = re.compile(r"DELETE FROM message WHERE .* \(.*\blow=(\d+), upto=(\d+)\b.*\)")


def cleared(server: ServerProcess) -> list[int]:
    """Returns how many messages each transaction has cleared of the only deleted thread."""
    counts, upto = [], 0
    for statement in statements(server):
        if statement == "BEGIN IMMEDIATE":
            counts.append(0)
        elif found := _CLEARED.fullmatch(statement):
            low, high = int(found[1]), int(found[2])
            counts[-1] += max(high - max(upto, low), 0)
            upto = max(upto, high)
    return counts


def left(server: ServerProcess) -> tuple[int, int]:
    """Returns how many messages a file holds, and how many threads are still to be cleared."""
    with contextlib.closing(sqlite3.connect(f"file:{server.db}?mode=ro", uri=True)) as db:
        found = "SELECT (SELECT count(*) FROM message), (SELECT count(*) FROM purge)"
        messages, purges = db.execute(found).fetchone()
    return messages, purges


@pytest.mark.sqlite
@pytest.mark.slow
async def test_a_big_thread_is_cleared_four_mebibytes_at_a_time_with_posts_in_between(
    start_server: StartServer,
) -> None:
    server = start_server("--durability", "fast")
    async with connected(server.address, "big", "other") as client:
        await fill(client.bus, ["big"] * 60, "x" * MIB)
    restart(server, "--log-level", "debug")
    async with connected(server.address) as client:
        posted = 0
        await client.threads.DeleteThread(DeleteThreadRequest(thread="big"))
        async with asyncio.timeout(30):
            while left(server)[1]:
                posted += 1
                await client.bus.PostMessage(PostMessageRequest(thread="other", content="hello"))
        assert left(server) == (posted, 0)
        assert len(await history(client.bus, "other")) == posted
    await until(lambda: sum(cleared(server)) >= 60)
    counts = [count for count in cleared(server) if count]
    assert sum(counts) == 60
    # Four, and the one that reaches the limit.
    assert max(counts) <= 5
