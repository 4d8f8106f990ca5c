"""PostMessage: callers that disconnect before they get a response."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.peers import Peer
from tests.refusals import refused
from tests.serving import BusStub, ServerProcess
from threadbus.v1.bus_service_pb2 import PostMessageRequest
from threadbus.v1.bus_service_pb2_grpc import BusServiceStub

#: Posts of one test: large enough that a partial one would be noticed, many enough to queue.
POSTS = {f"request {n}": f"{n} " * 20_000 for n in range(60)}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, chosen_store: None) -> Iterator[ServerProcess]:
    """This module's server, without the fallback: here only the commit itself wakes a wait."""
    db = tmp_path_factory.mktemp("server") / "bus.db"
    with ServerProcess(db, "--fallback-interval", "0") as running:
        yield running


@contextlib.contextmanager
def locked(db: Path) -> Iterator[None]:
    """Keep the server from writing, as another program that has locked the file."""
    with contextlib.closing(sqlite3.connect(db, isolation_level=None)) as foreign:
        foreign.execute("BEGIN IMMEDIATE")
        yield
        foreign.execute("ROLLBACK")


async def check_whole(anyone: Peer, thread: str) -> list[str]:
    """Check that the thread is gapless and holds each post whole and once; returns the ids."""
    stored = await anyone.read(thread)
    assert [message.seq for message in stored] == list(range(1, len(stored) + 1))
    for message in stored:
        assert message.content == POSTS[message.request_id]
    ids = [message.request_id for message in stored]
    assert len(set(ids)) == len(ids)
    return ids


async def check_retries(anyone: Peer, thread: str) -> None:
    """Check that after a retry with the same request_ids each post is stored once."""
    ids = await check_whole(anyone, thread)
    for request_id, content in POSTS.items():
        answer = await anyone.post(thread, content, request_id=request_id)
        if request_id in ids:
            assert (answer.deduplicated, answer.seq) == (True, ids.index(request_id) + 1)
    assert sorted(await check_whole(anyone, thread)) == sorted(POSTS)


async def test_cancelled_posts_are_stored_whole_or_not_at_all(bus: BusStub, thread: str) -> None:
    calls = [
        bus.PostMessage(PostMessageRequest(thread=thread, content=content, request_id=request_id))
        for request_id, content in POSTS.items()
    ]
    # After each response to an early post, cancel a late one: unsent, queued, or being stored.
    for answered, leaving in zip(calls[:30], reversed(calls[30:]), strict=True):
        await answered
        leaving.cancel()
    await check_retries(Peer(bus), thread)


async def test_posts_of_a_client_that_vanishes_are_stored_whole_or_not_at_all(
    server: ServerProcess, bus: BusStub, thread: str
) -> None:
    vanishing = grpc.aio.insecure_channel(server.address)
    stub: BusStub = BusServiceStub(vanishing)
    calls = [
        stub.PostMessage(PostMessageRequest(thread=thread, content=content, request_id=request_id))
        for request_id, content in POSTS.items()
    ]
    await calls[0]
    await vanishing.close()
    with contextlib.suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
        await calls[-1]
    await check_retries(Peer(bus), thread)


@pytest.mark.sqlite
async def test_posting_goes_on_when_callers_of_queued_posts_disconnect(
    server: ServerProcess, bus: BusStub, thread: str
) -> None:
    anyone, empty = Peer(bus), PostMessageRequest(thread=thread)
    async with anyone.wait(thread) as frames:
        await frames.until("caught_up")
        with locked(server.db):
            calls = [
                bus.PostMessage(PostMessageRequest(thread=thread, content=request_id))
                for request_id in POSTS
            ]
            await refused(bus.PostMessage(empty))  # what was sent before it is queued by then
            assert all(call.cancel() for call in calls)
            await refused(bus.PostMessage(empty))  # and cancelled by then
        live = await frames.messages(len(POSTS))
    assert [message.seq for message in live] == list(range(1, len(POSTS) + 1))
    assert sorted(message.content for message in live) == sorted(POSTS)
    assert await anyone.read(thread) == live
