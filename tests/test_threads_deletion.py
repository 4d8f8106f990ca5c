"""Deleting a big thread: done at once for callers, cleared afterwards even after a crash."""

import asyncio
import contextlib
import fcntl
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import grpc
import pytest

from tests.conftest import StartServer
from tests.peers import registered
from tests.polling import until_known
from tests.refusals import refused
from tests.requests import ask
from tests.serving import AgentStub, BusStub, ServerProcess, ThreadStub
from threadbus.v1.bus_service_pb2 import ListMessagesRequest, PostMessageRequest
from threadbus.v1.bus_service_pb2_grpc import BusServiceStub
from threadbus.v1.thread_service_pb2 import (
    CreateThreadRequest,
    DeleteThreadRequest,
    GetThreadRequest,
)
from threadbus.v1.thread_service_pb2_grpc import ThreadServiceStub

BIG = 4_500


def rows(server: ServerProcess, table: str) -> int:
    """Returns how many rows a table of the server's store has."""
    with contextlib.closing(sqlite3.connect(f"file:{server.db}?mode=ro", uri=True)) as db:
        (count,) = db.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608
    return int(count)


@contextlib.contextmanager
def one_write_at_a_time(server: ServerProcess) -> Iterator[Callable[[], Awaitable[None]]]:
    """Keep the server from writing; each call of the yielded function gives it about one turn."""
    with Path(f"{server.db}-writer").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        async def turn() -> None:
            fcntl.flock(lock, fcntl.LOCK_UN)
            await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)

        yield turn


async def fill(bus: BusStub, thread: str) -> None:
    """Fill a big thread, with up to 200 posts in flight."""

    async def some(start: int) -> None:
        for n in range(start, BIG, 200):
            await bus.PostMessage(
                PostMessageRequest(thread=thread, content="x" * 100, request_id=str(n))
            )

    await asyncio.gather(*(some(start) for start in range(200)))


@pytest.mark.sqlite
@pytest.mark.slow
async def test_a_deletion_interrupted_by_kill_9_is_finished_after_the_restart(
    start_server: StartServer,
) -> None:
    server = start_server("--durability", "fast")
    async with grpc.aio.insecure_channel(server.address) as channel:
        threads: ThreadStub = ThreadServiceStub(channel)
        await threads.CreateThread(CreateThreadRequest(thread="big"))
        await fill(BusServiceStub(channel), "big")
        with one_write_at_a_time(server) as turn:
            deletion = asyncio.ensure_future(
                threads.DeleteThread(DeleteThreadRequest(thread="big"))
            )
            async with asyncio.timeout(20):
                while rows(server, "thread"):
                    await turn()
                await deletion
            server.kill()
    assert rows(server, "message") > 0  # or else this test shows nothing

    server.start()
    async with grpc.aio.insecure_channel(server.address) as channel:
        threads, bus = ThreadServiceStub(channel), BusServiceStub(channel)
        refusal = await refused(threads.GetThread(GetThreadRequest(thread="big")))
        assert refusal.reason == "THREAD_NOT_FOUND"
        await threads.CreateThread(CreateThreadRequest(thread="big"))
        posted = 0
        async with asyncio.timeout(30):
            # Posts go through the same queue as the clearing: each one lets it progress.
            while rows(server, "purge"):
                posted += 1
                answer = await bus.PostMessage(
                    PostMessageRequest(thread="big", content="new", request_id=str(posted))
                )
                assert (answer.seq, answer.deduplicated) == (posted, False)
        assert (rows(server, "message"), rows(server, "request")) == (posted, posted)
        page = await bus.ListMessages(ListMessagesRequest(thread="big", limit=1_000))
        assert {message.content for message in page.messages} <= {"new"}


@pytest.mark.sqlite
async def test_what_a_deleted_thread_asked_is_cleared(
    server: ServerProcess, bus: BusStub, agents: AgentStub, threads: ThreadStub, thread: str
) -> None:
    asker, asked = [await registered(agents, bus, name) for name in ("asker", "asked")]
    before = rows(server, "asked")  # of other tests
    await ask(asker, thread, asked.name)
    assert rows(server, "asked") == before + 1
    await threads.DeleteThread(DeleteThreadRequest(thread=thread))

    async def is_cleared() -> bool:
        return rows(server, "asked") == before

    await until_known(is_cleared)
