"""Old messages are removed while servers are killed, disks are full, and others post."""

import asyncio
import contextlib
import signal
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests import serving
from tests.conftest import StartServer
from tests.connections import Connection, connected
from tests.disks import fill, small_disk
from tests.ledger import Ledger, history
from tests.polling import until, until_known
from tests.refusals import refused
from tests.retention import create, post, read, retain, until_first
from tests.serving import BusStub, ServerProcess
from tests.statements import statements
from threadbus.v1.admin_service_pb2 import GetStatusRequest, GetStatusResponse
from threadbus.v1.admin_service_pb2_grpc import AdminServiceStub
from threadbus.v1.bus_service_pb2 import PostMessageRequest
from threadbus.v1.message_pb2 import Message
from threadbus.v1.thread_pb2 import Retention

pytestmark = pytest.mark.slow

REMOVAL = "DELETE FROM message WHERE id BETWEEN"
CHECKPOINTS = ("--checkpoint-interval", "0.1")
#: Of servers that others replace soon after they were killed.
SHORT_LEASE = ("--server-lease", "1", *CHECKPOINTS)


async def status(client: Connection) -> GetStatusResponse:
    return await AdminServiceStub(client.channel).GetStatus(GetStatusRequest())


@contextlib.asynccontextmanager
async def posting(*buses: BusStub, thread: str, ledger: Ledger) -> AsyncIterator[None]:
    """Post through each all the time, one message after the other."""

    async def post_all(number: int, bus: BusStub) -> None:
        for n in range(1_000_000):
            await ledger.post(bus, thread, f"{number}-{n}")

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(post_all(*each)) for each in enumerate(buses)]
        yield
        for task in tasks:
            task.cancel()


def check_kept(ledger: Ledger, thread: str, first: int, stored: list[Message]) -> None:
    """Check that a thread has all entries from `first` on, and each post that was acknowledged."""
    assert [message.seq for message in stored] == list(range(first, first + len(stored)))
    by_seq = {message.seq: message.content for message in stored}
    for content, seq in ledger.seqs(thread).items():
        assert seq < first or by_seq[seq] == content


async def test_a_server_that_is_killed_in_the_midst_goes_on_after_its_restart(
    start_server: StartServer, name: str
) -> None:
    server = start_server(*SHORT_LEASE)
    async with connected(server.address, name) as client:
        await post(client.bus, name, 3_000, content="x" * 2_000)
        await retain(client.threads, name, max_messages=10)
    first = 1
    for _ in range(3):
        async with connected(server.address) as client:

            async def has_begun() -> bool:
                found = await read(client.threads, name)
                assert found.first_seq >= first  # noqa: B023
                return found.first_seq > first or found.first_seq == 2_992  # noqa: B023

            await until_known(has_begun)
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        async with connected(server.address) as client:
            found = await read(client.threads, name)
            assert found.head_seq == 3_001
            first = found.first_seq
            stored = await history(client.bus, name)
            at = (await read(client.threads, name)).first_seq
            seqs = [each.seq for each in stored]  # more is removed while it is read
            assert first <= seqs[0] and seqs == sorted(set(seqs))
            assert [seq for seq in seqs if seq >= at] == list(range(at, 3_002))
    async with connected(server.address) as client:
        await until_first(client.threads, name, 2_992)
        await post(client.bus, name, 1)
        await until_first(client.threads, name, 2_993)
    assert server.stop() == 0
    if serving.database_of is None:
        with contextlib.closing(sqlite3.connect(server.db)) as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def test_of_two_servers_the_first_by_name_removes_until_it_is_killed(
    start_server: StartServer, name: str
) -> None:
    ledger = Ledger()
    async with contextlib.AsyncExitStack() as opened:
        found: list[tuple[str, ServerProcess, Connection]] = []
        for _ in range(2):
            server = start_server("--log-level", "debug", "--server-lease", "5", *CHECKPOINTS)
            client = await opened.enter_async_context(connected(server.address, name))
            found.append(((await status(client)).server, server, client))
        (_, first, of_first), (_, other, of_other) = sorted(found, key=lambda each: each[0])

        async def know_each_other() -> bool:
            known = [(await status(client)).other_servers for *_, client in found]
            return known == [1, 1]

        await until_known(know_each_other)
        async with posting(of_first.bus, of_other.bus, thread=name, ledger=ledger):
            await retain(of_other.threads, name, max_messages=20)

            async def has_removed(client: Connection, count: int) -> bool:
                thread = await read(client.threads, name)
                return thread.first_seq > count and thread.head_seq - thread.first_seq < 100

            await until_known(lambda: has_removed(of_other, 50))
        removed = [sum(REMOVAL in each for each in statements(s)) for s in (first, other)]
        if serving.database_of is None:
            assert removed[0] > 0 == removed[1]
        await asyncio.to_thread(first.kill)
        async with posting(of_other.bus, thread=name, ledger=Ledger()):
            before = (await read(of_other.threads, name)).head_seq
            await until_known(lambda: has_removed(of_other, before), within=40)

        async def is_done() -> bool:  # posts that were cancelled may still be stored
            thread = await read(of_other.threads, name)
            return thread.first_seq == thread.head_seq - 19

        await until_known(is_done)
        stored = await history(of_other.bus, name)
        check_kept(ledger, name, stored[0].seq, stored)


@pytest.mark.sqlite
async def test_on_a_full_disk_it_goes_on_once_there_is_room(
    start_server: StartServer, tmp_path: Path, name: str
) -> None:
    file = tmp_path / "threadbus.toml"
    file.write_text("")
    with small_disk(tmp_path / "disk", megabytes=32) as disk:
        server = start_server("--config", str(file), db=disk / "bus.db")
        async with connected(server.address, name) as client:
            await post(client.bus, name, 2_000, content="x" * 4_000)
            ballast = fill(disk)
            large = PostMessageRequest(thread=name, content="x" * 1_000_000)

            refusal = await refused(_keep_posting(client.bus, large))
            assert refusal.reason == "STORAGE_FULL"
            head = (await read(client.threads, name)).head_seq
            file.write_text("retain-messages = 10")
            server.signal(signal.SIGHUP)
            await until(lambda: any("settings reloaded" in line for line in server.log))
            assert (await read(client.threads, name)).head_seq == head
            ballast.unlink()
            await until_first(client.threads, name, head - 9)
            await post(client.bus, name, 10)
            await until_first(client.threads, name, head + 1)
            assert (await status(client)).free_bytes > 4_000_000
        assert not any("Traceback" in line for line in server.log)
        assert server.stop() == 0


async def _keep_posting(bus: BusStub, request: PostMessageRequest) -> None:
    while True:
        await bus.PostMessage(request)


@pytest.mark.sqlite
@pytest.mark.timeout(600)
async def test_many_messages_are_removed_while_others_post_and_their_space_is_used_again(
    start_server: StartServer, name: str, soak: bool
) -> None:
    count = 100_000 if soak else 10_000
    server, ledger = start_server(), Ledger()
    async with connected(server.address, name) as client:
        await post(client.bus, name, count, content="x" * 1_000)
        async with connected(server.address) as other:
            async with posting(client.bus, other.bus, thread=name, ledger=ledger):
                await retain(other.threads, name, max_messages=1_000)

                async def is_done() -> bool:
                    return (await read(other.threads, name)).first_seq > count - 1_000

                await until_known(is_done, within=400)
            posted = len(ledger)
            assert posted > 0
        thread = await read(client.threads, name)
        assert thread.head_seq >= count + 1 + posted
        stored = await history(client.bus, name)
        check_kept(ledger, name, stored[0].seq, stored)
        # Another thread is not forgotten over a large one.
        await create(client.threads, f"{name}-small", Retention(max_messages=1))
        await post(client.bus, f"{name}-small", 2)
        await until_first(client.threads, f"{name}-small", 2)

        async def has_space() -> bool:
            now = await status(client)
            return now.free_bytes > now.store_bytes * 0.7

        await until_known(has_space)
        before = await status(client)
        await post(client.bus, name, count // 2, content="x" * 1_000)
        after = await status(client)
        assert after.store_bytes <= before.store_bytes * 1.05
