"""ThreadHandle.post when connections break, servers hang or are busy: once, or OutcomeUnknown."""

import asyncio
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from bus_client import BusClient, OutcomeUnknown, StoreBusy, ThreadHandle
from tests.conftest import StartServer
from tests.ledger import history
from tests.members import contents, member
from tests.polling import until_known
from tests.relay import relay_to
from tests.serving import BusStub, ServerProcess
from tests.wait_frames import BOUND


@contextmanager
def locked(db: Path) -> Iterator[None]:
    """Hold the database's write lock, as another program, so that no post can be committed."""
    with closing(sqlite3.connect(db, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


@pytest.mark.parametrize("breaks", [1, 3])
async def test_a_post_whose_response_is_lost_is_retried_and_stored_once(
    server: ServerProcess, bus: BusStub, thread: str, tmp_path: Path, breaks: int
) -> None:
    async with relay_to(server.address) as relay, member(relay.address, thread, tmp_path) as poster:
        for n in range(1, breaks + 1):
            relay.silence()
            posting = asyncio.create_task(poster.post(f"post {n}", expected_last_seq=n - 1))

            async def stored(n: int = n) -> bool:
                return len(await history(bus, thread)) == n

            await until_known(stored)
            assert not posting.done()
            relay.cut()
            async with asyncio.timeout(BOUND):
                answer = await posting
            assert (answer.seq, answer.deduplicated) == (n, True)
    assert contents(await history(bus, thread)) == [f"post {n}" for n in range(1, breaks + 1)]


async def outcome_unknown(handle: ThreadHandle, request_id: str | None) -> str:
    """Post with a short timeout to a server that cannot respond; returns the request_id."""
    async with asyncio.timeout(BOUND):
        with pytest.raises(OutcomeUnknown) as unknown:
            await handle.post("hello", request_id=request_id, timeout=1)
    assert unknown.value.retryable
    assert "request_id" in unknown.value.hint
    assert unknown.value.request_id
    assert request_id in (None, unknown.value.request_id)
    return unknown.value.request_id


@pytest.mark.sqlite
@pytest.mark.slow
@pytest.mark.parametrize("given", [None, "mine"])
async def test_a_post_committed_after_its_timeout_is_found_by_its_request_id(
    start_server: StartServer, name: str, given: str | None
) -> None:
    server = start_server("--busy-timeout", "20")
    async with BusClient(server.address) as client:
        handle = await client.join(name)
        with locked(server.db):
            request_id = await outcome_unknown(handle, given)
        again = await handle.post("hello", request_id=request_id)
        assert (again.seq, again.deduplicated) == (1, True)
        assert len(await handle.messages()) == 1


@pytest.mark.slow
async def test_a_post_to_a_hung_server_can_be_retried_when_it_resumes(
    start_server: StartServer, name: str
) -> None:
    server = start_server()
    async with BusClient(server.address) as client:
        handle = await client.join(name)
        server.signal(signal.SIGSTOP)
        request_id = await outcome_unknown(handle, None)
        server.signal(signal.SIGCONT)
        again = await handle.post("hello", request_id=request_id)
        messages = await handle.messages()
        assert [(m.seq, m.request_id) for m in messages] == [(1, request_id)]
        assert again.seq == 1


@pytest.mark.sqlite
@pytest.mark.slow
async def test_a_post_to_a_busy_store_is_retried_until_it_is_stored(
    start_server: StartServer, name: str
) -> None:
    server = start_server("--busy-timeout", "0.05")
    async with BusClient(server.address) as client:
        handle = await client.join(name)
        with locked(server.db):
            with pytest.raises(StoreBusy) as busy:
                await handle.post("given up", timeout=2.0)
            assert busy.value.retry_delay
            posting = asyncio.create_task(handle.post("kept on"))
            with pytest.raises(StoreBusy):
                await handle.post("given up, too", timeout=0.5)
            assert not posting.done()
        async with asyncio.timeout(BOUND):
            assert (await posting).seq == 1
        assert contents(await handle.messages()) == ["kept on"]


@pytest.mark.slow
async def test_posts_continue_when_the_server_is_killed_and_restarted(
    start_server: StartServer, name: str
) -> None:
    server = start_server()
    async with BusClient(server.address) as client:
        handle = await client.join(name)
        async with asyncio.TaskGroup() as group:
            posts = [group.create_task(handle.post(str(n))) for n in range(100)]
            await posts[0]
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
        answers = {str(n): (await post).seq for n, post in enumerate(posts)}
        messages = await handle.messages()
        assert {message.content: message.seq for message in messages} == answers


async def test_a_post_can_be_cancelled_while_it_waits_for_its_response(
    server: ServerProcess, bus: BusStub, thread: str
) -> None:
    async def stored() -> bool:
        return bool(await history(bus, thread))

    async with relay_to(server.address) as relay, BusClient(relay.address) as client:
        relay.silence()
        posting = asyncio.create_task(client.thread(thread).post("x"))
        await until_known(stored)
        posting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await posting
    assert contents(await history(bus, thread)) == ["x"]
