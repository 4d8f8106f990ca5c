"""AdminService.GetStatus: what it says of a small scenario, and who may call it."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from bus_server import __version__
from tests import serving
from tests.callers import operator, register, with_token
from tests.conftest import StartServer
from tests.connections import Connection, connected
from tests.disks import small_disk
from tests.locks import locked
from tests.open_wait import open_wait, open_waits, wait_request
from tests.polling import until_known
from tests.refusals import refused
from tests.scrapes import FLAGS, scrape
from tests.serving import ServerProcess
from threadbus.v1.admin_service_pb2 import GetStatusRequest, GetStatusResponse
from threadbus.v1.admin_service_pb2_grpc import AdminServiceStub
from threadbus.v1.agent_pb2 import (
    PRESENCE_IDLE,
    PRESENCE_OFFLINE,
    PRESENCE_UNSPECIFIED,
    PRESENCE_WAITING,
    PRESENCE_WORKING,
)
from threadbus.v1.agent_service_pb2 import EndSessionRequest
from threadbus.v1.bus_service_pb2 import (
    PostMessageRequest,
    PostMessagesRequest,
    WaitMessagesRequest,
)
from threadbus.v1.message_pb2 import ExpectReply
from threadbus.v1.thread_service_pb2 import (
    CreateThreadRequest,
    DeleteThreadRequest,
    GetThreadRequest,
)

Metadata = tuple[tuple[str, str], ...]


@pytest.fixture
def server(tmp_path: Path, chosen_store: None) -> Iterator[ServerProcess]:
    """A server that has done nothing yet."""
    with ServerProcess(tmp_path / "bus.db") as running:
        yield running


@pytest.fixture
async def client(server: ServerProcess) -> AsyncIterator[Connection]:
    async with connected(server.address) as connection:
        yield connection


async def status(
    client: Connection, window: Duration | None = None, metadata: Metadata = ()
) -> GetStatusResponse:
    request = GetStatusRequest(window=window)
    return await AdminServiceStub(client.channel).GetStatus(request, metadata=metadata)


async def post(client: Connection, thread: str, metadata: Metadata = ()) -> int:
    request = PostMessageRequest(thread=thread, content="x")
    return (await client.bus.PostMessage(request, metadata=metadata)).seq


def own_address() -> str:
    """Returns an address of this machine that is not loopback. Skips the test without a network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine has no address but loopback")
        return str(probe.getsockname()[0])


def per_window(found: GetStatusResponse, rate: float) -> int:
    """Returns how often something happened in the window."""
    return round(rate * found.window.ToMicroseconds() / 1e6)


async def test_a_server_that_has_done_nothing_says_so(
    client: Connection, server: ServerProcess
) -> None:
    found = await status(client)
    kind = "sqlite" if serving.database_of is None else "postgresql"
    assert (found.version, found.store_kind) == (__version__, kind)
    assert len(found.server) == 16
    began, now = found.start_time.ToMicroseconds(), found.time.ToMicroseconds()
    assert now - 60e6 < began < now <= time.time() * 1e6
    assert found.window.ToMicroseconds() == pytest.approx(now - began, abs=1e6)
    assert (found.posted_per_second, found.delivered_per_second) == (0, 0)
    assert (found.wake.count, found.wake.HasField("p50")) == (0, False)
    assert (found.open_waits, found.queued_posts, found.thread_count) == (0, 0, 0)
    assert list(found.agents) == list(found.busiest_threads) == []
    assert (found.store_failing, found.other_servers) == (False, 0)
    assert found.hint_lag.ToMicroseconds() == 0
    assert found.memory_bytes > 1_000_000
    assert found.open_files > 3
    assert found.store_bytes > 0
    if kind == "sqlite":
        assert (found.log_bytes > 0, found.disk_free_bytes > 0) == (True, True)
    else:
        assert not found.HasField("disk_free_bytes")


async def test_posts_deliveries_and_calls_are_counted(client: Connection) -> None:
    for thread in ("busy", "quiet", "gone"):
        await client.threads.CreateThread(CreateThreadRequest(thread=thread))
    async with (
        open_wait(client.bus, "busy") as live,
        open_waits(client.bus, [wait_request(["busy", "quiet"])]),
    ):
        await live.until(lambda: "caught_up" in live.kinds())
        for count in range(1, 6):
            await post(client, "busy")
            await live.until(lambda count=count: live.seqs("busy")[-1:] == [count])  # type: ignore[misc]
        batch = [PostMessageRequest(thread="quiet", content="x") for _ in range(3)]
        async for _ in client.bus.PostMessages(iter([PostMessagesRequest(posts=batch)])):
            pass
        await post(client, "gone")
        await client.threads.DeleteThread(DeleteThreadRequest(thread="gone"))
        await refused(client.threads.GetThread(GetThreadRequest(thread="none")))

        async def delivered() -> bool:
            found = await status(client)
            return per_window(found, found.delivered_per_second) == 13

        await until_known(delivered)
        found = await status(client)
        assert per_window(found, found.posted_per_second) == 9
        # The call of `status` itself has not ended; those of `delivered` have.
        assert per_window(found, found.calls_per_second) >= 3 + 5 + 1 + 1 + 1 + 1 + 1
        assert found.failed_calls_per_second == 0
        assert found.open_waits == 2
        assert found.thread_count == 2
        times = [found.wake.p50, found.wake.p99, found.wake.max]
        assert found.wake.count >= 5
        assert 10 <= times[0].ToMicroseconds() <= times[1].ToMicroseconds()
        assert times[1].ToMicroseconds() <= times[2].ToMicroseconds() < 10e6
        assert found.commit.count >= 11
        assert [
            (each.thread, each.last_seq, each.open_waits) for each in found.busiest_threads
        ] == [("busy", 5, 2), ("quiet", 3, 1)]
        rates = [per_window(found, each.posted_per_second) for each in found.busiest_threads]
        assert rates == [5, 3]


async def test_history_that_a_wait_reads_is_no_wake_up(client: Connection) -> None:
    await client.threads.CreateThread(CreateThreadRequest(thread="t"))
    async with open_wait(client.bus, "t"):  # so that the server takes note of the commits
        await post(client, "t")
        await post(client, "t")

        async def delivered() -> bool:
            found = await status(client)
            return per_window(found, found.delivered_per_second) == 2

        await until_known(delivered)
        before = (await status(client)).wake.count
        for after in (0, 1):
            async with open_waits(client.bus, [wait_request({"t": after})]) as (reading,):
                await reading.until(lambda: "caught_up" in reading.kinds())
        assert (await status(client)).wake.count == before


async def test_a_wait_on_all_threads_of_an_agent_is_woken(client: Connection) -> None:
    ann = await register(client.agents, "ann")
    await client.threads.CreateThread(CreateThreadRequest(thread="t"), metadata=ann.metadata)
    await post(client, "t", ann.metadata)
    request = WaitMessagesRequest(all_my_threads=True)
    async with open_waits(client.bus, [request], metadata=ann.metadata) as (inbox,):
        await inbox.until(lambda: "caught_up" in inbox.kinds())
        before = (await status(client)).wake.count
        await post(client, "t")
        await inbox.until(lambda: inbox.seqs("t")[-1:] == [2])

        async def woken() -> bool:
            return (await status(client)).wake.count > before

        await until_known(woken)
        (busiest,) = (await status(client)).busiest_threads
        assert (busiest.thread, busiest.open_waits) == ("t", 1)


async def test_agents_are_counted_by_presence(client: Connection, server: ServerProcess) -> None:
    boss = operator(server)
    ann, ben, cleo = [await register(client.agents, name) for name in ("ann", "ben", "cleo")]
    await with_token(client.channel, boss, "dan")  # who has never called
    await client.threads.CreateThread(CreateThreadRequest(thread="t"), metadata=ann.metadata)
    async with (
        open_wait(client.bus, "t", metadata=ann.metadata),
        open_wait(client.bus, "t", metadata=ben.metadata) as of_ben,
    ):
        await post(client, "t", ann.metadata)
        await of_ben.until(lambda: of_ben.seqs("t") == [1])
        expected = {
            PRESENCE_UNSPECIFIED: 1,
            PRESENCE_WAITING: 1,  # ann, who has read her own message
            PRESENCE_WORKING: 1,
            PRESENCE_IDLE: 1,
        }

        async def counted() -> bool:
            found = await status(client)
            assert [each.presence for each in found.agents] == sorted(
                each.presence for each in found.agents
            )
            return {each.presence: each.count for each in found.agents} == expected

        await until_known(counted)
        await client.agents.EndSession(EndSessionRequest(), metadata=cleo.metadata)
        del expected[PRESENCE_IDLE]
        expected[PRESENCE_OFFLINE] = 1
        await until_known(counted)


async def test_open_and_overdue_requests_are_counted(client: Connection) -> None:
    ann, _ = [await register(client.agents, name) for name in ("ann", "ben")]
    await client.threads.CreateThread(CreateThreadRequest(thread="t"))
    for within in (Duration(nanos=1_000_000), Duration(seconds=3_600)):
        asks = ExpectReply(agents=["ben"], within=within)
        request = PostMessageRequest(thread="t", content="?", expect_reply=asks)
        await client.bus.PostMessage(request, metadata=ann.metadata)

    async def counted() -> bool:
        found = await status(client)
        return (found.open_requests, found.overdue_requests) == (2, 1)

    await until_known(counted)


async def test_a_failed_call_counts_and_a_refused_one_does_not(start_server: StartServer) -> None:
    server = start_server("--posts-per-minute", "1")
    async with connected(server.address, "t") as client:
        ann = await register(client.agents, "ann")
        await post(client, "t", ann.metadata)
        again = PostMessageRequest(thread="t", content="x")
        assert (
            await refused(client.bus.PostMessage(again, metadata=ann.metadata))
        ).reason == "RATE_LIMITED"
        await refused(client.threads.GetThread(GetThreadRequest(thread="none")))
        found = await status(client)
        assert per_window(found, found.failed_calls_per_second) == 1


@pytest.mark.slow
async def test_a_window_forgets_what_was_before_it(client: Connection) -> None:
    await client.threads.CreateThread(CreateThreadRequest(thread="t"))
    await post(client, "t")

    async def over() -> bool:
        found = await status(client, Duration(nanos=1))
        assert found.window.ToMicroseconds() < 10e6
        return found.posted_per_second == 0 and not found.busiest_threads and not found.wake.count

    await until_known(over)
    found = await status(client, Duration(seconds=300))
    assert per_window(found, found.posted_per_second) == 1


@pytest.mark.parametrize(
    "window",
    [Duration(), Duration(seconds=-1), Duration(seconds=300, nanos=1), Duration(seconds=1 << 60)],
    ids=["0", "negative", "over 5 minutes", "not a duration"],
)
async def test_an_invalid_window_is_refused(client: Connection, window: Duration) -> None:
    request = GetStatusRequest(window=window)
    refusal = await refused(AdminServiceStub(client.channel).GetStatus(request))
    assert (refusal.reason, refusal.fields) == ("VALIDATION_FAILED", ["window"])


@pytest.mark.slow
async def test_another_server_is_counted_and_what_it_posts_is_not(
    client: Connection, server: ServerProcess, start_server: StartServer
) -> None:
    await client.threads.CreateThread(CreateThreadRequest(thread="t"))
    other = start_server(db=server.db)
    async with connected(other.address) as there, open_wait(client.bus, "t") as live:

        async def met() -> bool:
            return (await status(client)).other_servers == 1

        await until_known(met)
        await live.until(lambda: "caught_up" in live.kinds())
        await post(there, "t")
        await live.until(lambda: live.seqs("t") == [1])

        async def delivered() -> bool:
            return (await status(client)).delivered_per_second > 0

        await until_known(delivered)

        async def measured() -> bool:  # twice a second, and after the wait was woken
            await post(there, "t")
            return 0 < (await status(client)).hint_lag.ToMicroseconds() < 20e6

        await until_known(measured)
        here = await status(client)
        assert (here.posted_per_second, here.wake.count) == (0, 0)
        assert (await status(there)).posted_per_second > 0


@pytest.mark.slow
async def test_the_status_of_a_store_that_fails_says_so(
    start_server: StartServer, tmp_path: Path
) -> None:
    if serving.database_of is not None:
        pytest.skip("the disk is another machine's")
    with small_disk(tmp_path / "disk", megabytes=4) as disk:
        server = start_server(*FLAGS, db=disk / "bus.db")
        async with connected(server.address, "t") as client:
            assert (await status(client)).thread_count == 1
            large = PostMessageRequest(thread="t", content="x" * 1_000_000)
            reason = ""
            while reason != "STORAGE_FULL":
                try:
                    await client.bus.PostMessage(large)
                except grpc.aio.AioRpcError:
                    reason = (await refused(client.bus.PostMessage(large))).reason
            found = await status(client)
            assert (found.store_failing, found.thread_count) == (True, 1)
            assert found.failed_calls_per_second > 0

            async def full() -> bool:  # it may be as old as the last count
                return (await status(client)).disk_free_bytes < 2_000_000

            await until_known(full)
            metrics = await scrape(server)
            assert metrics.value("threadbus_store_failing") == 1
            assert metrics.value("threadbus_rejections_total", reason="STORAGE_FULL") > 0
            assert metrics.value("threadbus_disk_free_bytes") < 4_000_000


@pytest.mark.slow
async def test_a_write_that_waits_for_the_store_is_the_lag(
    client: Connection, server: ServerProcess
) -> None:
    await client.threads.CreateThread(CreateThreadRequest(thread="t"))
    with locked(server.db):
        posting = asyncio.create_task(post(client, "t"))

        async def lagging() -> bool:
            found = await status(client)
            return found.store_lag.ToMicroseconds() > 50_000 and found.queued_posts == 1

        await until_known(lagging)
        assert (await status(client)).queued_bytes > 0
    await posting
    found = await status(client)
    assert (found.queued_posts, found.store_lag.ToMicroseconds()) == (0, 0)


async def test_a_token_of_an_agent_does_not_permit_it(
    client: Connection, server: ServerProcess
) -> None:
    ann = await register(client.agents, "ann")
    call = AdminServiceStub(client.channel).GetStatus(GetStatusRequest(), metadata=ann.metadata)
    assert (await refused(call)).reason == "ACCESS_DENIED"
    assert (await status(client, metadata=operator(server).metadata)).server


@pytest.mark.slow
async def test_where_tokens_are_required_it_needs_one(start_server: StartServer) -> None:
    server = start_server("--auth", "required")
    async with connected(server.address) as client:
        call = AdminServiceStub(client.channel).GetStatus(GetStatusRequest())
        assert (await refused(call)).reason == "TOKEN_INVALID"
        assert (await status(client, metadata=operator(server).metadata)).server


@pytest.mark.slow
async def test_over_a_unix_socket_it_needs_no_token(
    start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server(listen=f"unix:{tmp_path}/bus.sock")
    async with connected(server.address) as client:
        assert (await status(client)).server


@pytest.mark.slow
async def test_from_another_machine_it_needs_a_token(start_server: StartServer) -> None:
    server = start_server("--insecure", "--auth", "open", listen="0.0.0.0:0")
    port = server.address.rpartition(":")[2]
    async with connected(f"127.0.0.1:{port}") as client:
        assert (await status(client)).server
    async with connected(f"{own_address()}:{port}") as client:
        call = AdminServiceStub(client.channel).GetStatus(GetStatusRequest())
        assert (await refused(call)).reason == "ACCESS_DENIED"
        assert (await status(client, metadata=operator(server).metadata)).server
