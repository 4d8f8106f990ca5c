"""A failing disk: nothing that failed is acknowledged, the rest works, errors say what is wrong.

The faults are injected into the server's system calls.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from tests.conftest import StartServer
from tests.connections import Connection, connected
from tests.ledger import Ledger, history, outcome
from tests.open_wait import open_wait, wait_request
from tests.polling import until, until_known
from tests.post_stream import post_stream
from tests.refusals import Refusal, refused
from tests.serving import BusStub, ServerProcess
from tests.statements import statements
from tests.strace import traced
from threadbus.v1.bus_service_pb2 import ListMessagesRequest, PostMessageRequest

UNKNOWN = (grpc.StatusCode.UNAVAILABLE, "")
FULL = (grpc.StatusCode.RESOURCE_EXHAUSTED, "STORAGE_FULL")
FAILED = (grpc.StatusCode.UNAVAILABLE, "STORE_FAILED")


def kind(refusal: Refusal) -> tuple[grpc.StatusCode, str]:
    return refusal.code, refusal.reason


def log_of(server: ServerProcess) -> Path:
    return server.db.with_name(f"{server.db.name}-wal")


@contextlib.asynccontextmanager
async def failing(server: ServerProcess, file: Path, fault: str) -> AsyncIterator[None]:
    """Make system calls on a file fail within the block."""
    with traced(server, "-P", str(file), "-e", f"inject={fault}", "-o", "/dev/null"):
        yield


async def is_serving(client: Connection) -> bool:
    answer = await HealthStub(client.channel).Check(HealthCheckRequest())
    return bool(answer.status == HealthCheckResponse.SERVING)


def check_logged_once(server: ServerProcess, begin: str) -> None:
    """Check that the log has the begin and the end of a fault, once each, and calls it no bug."""
    told = [line for line in server.log if begin in line]
    assert len(told) == 2, server.log
    assert "over, after" in told[1]
    assert not any("Traceback" in line or "incident" in line for line in server.log)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("pwrite64,write:error=EIO:when=9+40", UNKNOWN),
        ("pwrite64,write:error=ENOSPC:when=9+40", FULL),
        ("fdatasync,fsync:error=EIO:when=3+7", UNKNOWN),
        ("fdatasync,fsync:error=ENOSPC:when=3+7", UNKNOWN),
    ],
    ids=["write_error", "write_full", "sync_error", "sync_full"],
)
async def test_writes_that_fail_are_not_acknowledged_and_all_others_are_stored(
    start_server: StartServer,
    tmp_path: Path,
    name: str,
    fault: str,
    told: tuple[grpc.StatusCode, str],
) -> None:
    server, ledger = start_server(), Ledger()
    refusals: list[Refusal] = []

    async def poster(bus: BusStub, label: int) -> None:
        attempts = [await ledger.attempt(bus, name, f"{label}-{n}") for n in range(20)]
        refusals.extend(filter(None, attempts))

    async with connected(server.address, name) as client, open_wait(client.bus, name) as wait:
        calls = tmp_path / "calls"
        options = ("-P", str(log_of(server)), "-e", f"inject={fault}", "-o", str(calls))
        with traced(server, *options):
            async with asyncio.timeout(40), asyncio.TaskGroup() as group:
                for label in range(20):
                    group.create_task(poster(client.bus, label))
        assert "(INJECTED)" in calls.read_text()
        assert {kind(refusal) for refusal in refusals} <= {told}
        # After ENOSPC the posts of a batch are tried once more, one by one: all may succeed.
        assert refusals or told == FULL

        for n in range(20):  # the disk works again
            await ledger.post(client.bus, name, f"afterwards {n}")
        stored = await history(client.bus, name)
        ledger.check(name, stored, unknown=True)
        await wait.until(lambda: len(wait.messages) >= len(stored))
        assert wait.messages == stored
    assert server.stop() == 0
    with contextlib.closing(sqlite3.connect(server.db)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    server.start()
    async with connected(server.address) as client:
        assert await history(client.bus, name) == stored


@pytest.mark.slow
@pytest.mark.parametrize("error", ["EIO", "EROFS"])
@pytest.mark.parametrize("call", ["pwrite64", "fdatasync"])
async def test_while_a_posts_outcome_is_unknown_no_reply_says_it_was_not_stored(
    start_server: StartServer, name: str, call: str, error: str
) -> None:
    server = start_server()
    post = PostMessageRequest(thread=name, content="once", request_id="the-same")
    async with connected(server.address, name) as client:
        async with failing(server, log_of(server), f"{call}:error={error}"):
            for _ in range(3):
                assert kind(await refused(client.bus.PostMessage(post))) == UNKNOWN
            await until_known(lambda: _not(is_serving(client)))
        # Without any post the server notices that the disk works again.
        await until_known(lambda: is_serving(client))
        answer = await client.bus.PostMessage(post)
        assert answer.seq == 1
        assert [message.content for message in await history(client.bus, name)] == ["once"]
    assert server.stop() == 0
    check_logged_once(server, "cannot be written")


async def _not(state: Awaitable[bool]) -> bool:
    return not await state


@pytest.mark.slow
async def test_a_stream_of_posts_ends_when_the_outcome_of_a_batch_is_unknown(
    start_server: StartServer, name: str
) -> None:
    server = start_server()
    async with connected(server.address, name) as client:
        async with post_stream(client.bus) as stream:
            await stream.post(PostMessageRequest(thread=name, content="before"))
            async with failing(server, log_of(server), "fdatasync:error=EIO"):
                with pytest.raises(grpc.aio.AioRpcError) as ended:
                    await stream.post(PostMessageRequest(thread=name, content="in doubt"))
            assert ended.value.code() == grpc.StatusCode.UNAVAILABLE
            assert not dict(ended.value.trailing_metadata() or ())
        answer = await client.bus.PostMessage(PostMessageRequest(thread=name, content="after"))
        assert answer.seq == 2


@pytest.mark.slow
async def test_posts_run_alone_on_a_full_disk_are_not_tried_after_one_whose_outcome_is_unknown(
    start_server: StartServer, name: str
) -> None:
    server = start_server("--log-level", "debug", "--checkpoint-interval", "60")
    async with connected(server.address, name) as client, post_stream(client.bus) as stream:
        await stream.post(PostMessageRequest(thread=name, content="before"))
        faults = ("pwrite64:error=ENOSPC:when=1", "fdatasync:error=EIO")
        options = [option for fault in faults for option in ("-e", f"inject={fault}")]
        with traced(server, "-P", str(log_of(server)), *options, "-o", "/dev/null"):
            posts = [PostMessageRequest(thread=name, content=f"post {n}") for n in range(3)]
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await stream.post(*posts)
        assert ended.value.code() == grpc.StatusCode.UNAVAILABLE
        assert not dict(ended.value.trailing_metadata() or ())
    tried = [sql for sql in statements(server) if sql.startswith("INSERT INTO message")]
    assert len(tried) == 1 + 3 + 1  # the post before, the whole batch, its first post alone


@pytest.mark.slow
async def test_data_that_cannot_be_read_is_an_error_for_its_readers_until_it_can_be(
    start_server: StartServer, name: str
) -> None:
    server, ledger = start_server(), Ledger()
    async with connected(server.address, name) as client:
        for n in range(40):
            await ledger.post(client.bus, name, f"{n} {'x' * 50_000}")
    assert server.stop() == 0
    server.start()  # with empty caches
    async with connected(server.address, name) as client:
        async with failing(server, server.db, "pread64:error=EIO"):
            refusal = await refused(client.bus.ListMessages(ListMessagesRequest(thread=name)))
            assert kind(refusal) == FAILED
            wait = wait_request([name])
            wait.max_wait.CopyFrom(Duration(seconds=1))
            assert kind(await refused(client.bus.WaitMessages(wait))) == FAILED
            await until_known(lambda: _not(is_serving(client)))
        await until_known(lambda: is_serving(client))
        ledger.check(name, await history(client.bus, name))
        await ledger.post(client.bus, name, "after")
    assert server.stop() == 0
    check_logged_once(server, "cannot be read")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ending", "fault"),
    [
        ("-wal", "lseek:error=EIO"),
        ("-wal", "newfstatat,statx:error=EACCES"),
        ("", "newfstatat,statx:error=ESTALE"),
        ("-shm", "pread64:error=EIO"),
        ("-writer", "flock:error=ENOLCK"),
    ],
    ids=["size", "log", "file", "index", "lock"],
)
async def test_a_server_that_cannot_examine_its_files_resumes_once_it_can(
    start_server: StartServer, tmp_path: Path, name: str, ending: str, fault: str
) -> None:
    server, ledger = start_server(), Ledger()
    file, calls = Path(f"{server.db}{ending}"), tmp_path / "calls"
    async with connected(server.address, name) as client:
        await ledger.post(client.bus, name, "before")
        with traced(server, "-P", str(file), "-e", f"inject={fault}", "-o", str(calls)):
            post = PostMessageRequest(thread=name, content="meanwhile", request_id="the-same")
            told = await outcome(client.bus.PostMessage(post))
            assert not isinstance(told, Refusal) or kind(told) == FAILED
            # The server checks every second, even without posts.
            await until(lambda: calls.read_text().count("(INJECTED)") > 2)
        await until_known(lambda: is_serving(client))
        ledger.ack(name, "meanwhile", await client.bus.PostMessage(post))
        await ledger.post(client.bus, name, "after")
        ledger.check(name, await history(client.bus, name))
    assert server.stop() == 0
    faults = [line for line in server.problems if "store.faults" in line]
    assert len(faults) in (0, 2)  # begin and end


@pytest.mark.slow
async def test_an_intermittent_fault_is_logged_once(start_server: StartServer, name: str) -> None:
    server, ledger = start_server(), Ledger()
    async with connected(server.address, name) as client:
        for n in range(4):
            async with failing(server, log_of(server), "pwrite64:error=ENOSPC"):
                assert await ledger.attempt(client.bus, name, f"meanwhile {n}")
            await ledger.post(client.bus, name, f"after {n}")
        await until_known(lambda: is_serving(client))
    assert server.stop() == 0
    check_logged_once(server, "the disk is full")


@pytest.mark.slow
async def test_a_log_that_grows_because_of_a_long_read_is_reported_and_shrinks_again(
    start_server: StartServer, name: str
) -> None:
    server = start_server()

    def size() -> float:
        return log_of(server).stat().st_size / 2**20

    async with connected(server.address, name) as client:
        post = PostMessageRequest(thread=name, content="x" * 250_000)
        await client.bus.PostMessage(post)
        with contextlib.closing(sqlite3.connect(server.db, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM message").fetchall()
            while size() < 33:
                await client.bus.PostMessage(post)
            await until(lambda: any("the log is large" in line for line in server.log))
        while size() > 17:
            assert await outcome(client.bus.PostMessage(post))
        await until(lambda: any("the log is large: over" in line for line in server.log))
    assert server.stop() == 0
    check_logged_once(server, "the log is large")
