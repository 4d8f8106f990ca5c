"""Statements that fail: each alone, with an incident in the log, and only while the cause lasts."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import grpc
import pytest

from tests.callers import register
from tests.conftest import StartServer
from tests.connections import connected
from tests.ledger import Ledger, history
from tests.locks import locked
from tests.open_wait import open_wait
from tests.polling import until
from tests.post_stream import post_stream, reason, seqs
from tests.refusals import Refusal
from tests.serving import ServerProcess
from tests.statements import statements
from threadbus.v1.bus_service_pb2 import HeartbeatRequest, PostMessageRequest
from threadbus.v1.message_pb2 import Cursor
from threadbus.v1.thread_service_pb2 import JoinThreadRequest


def alter(db: Path, statement: str) -> None:
    """Change the schema as another program would."""
    with contextlib.closing(sqlite3.connect(db, isolation_level=None, timeout=10)) as other:
        other.execute(statement)


POISON = """
    CREATE TRIGGER poison BEFORE INSERT ON message
    WHEN instr(NEW.body, CAST('POISON' AS BLOB))
    BEGIN SELECT RAISE({}, 'it is poisoned'); END
"""
NOTHING_GOES = """
    CREATE TRIGGER poison BEFORE INSERT ON message
    BEGIN SELECT RAISE(ABORT, 'it is poisoned'); END
"""


async def check_incident(server: ServerProcess, refusal: Refusal) -> None:
    """Check that it is INTERNAL with no more than an incident id, which the log explains."""
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert "oison" not in refusal.message
    incident = refusal.metadata["incident"]
    await until(lambda: any(incident in line for line in server.log))
    assert sum(incident in line for line in server.log) == 1


@pytest.mark.slow
@pytest.mark.parametrize("how", ["ABORT", "FAIL", "ROLLBACK"])
async def test_a_post_that_cannot_be_stored_fails_alone(
    start_server: StartServer, name: str, how: str
) -> None:
    server, ledger = start_server(), Ledger()
    async with connected(server.address, name) as client:
        bus = client.bus
        alter(server.db, POISON.format(how))
        async with open_wait(bus, name) as wait:
            for n in range(5):
                contents = [f"{n}, good {k}" for k in range(50)]
                contents[20:20] = [f"{n}, POISON"]
                refusals = await asyncio.gather(
                    *(ledger.attempt(bus, name, content) for content in contents)
                )
                (refusal,) = filter(None, refusals)
                assert refusals.index(refusal) == 20
                await check_incident(server, refusal)
            assert len(ledger) == 250
            ledger.check(name, await history(bus, name))
            await wait.until(lambda: len(wait.messages) >= 250)
            assert wait.seqs(name) == list(range(1, 251))


@pytest.mark.slow
async def test_posts_retried_after_their_batch_failed_are_known_by_their_request_ids(
    start_server: StartServer, name: str
) -> None:
    def batch(poison: str) -> list[PostMessageRequest]:
        contents = ["one", "two", poison, "three"]
        return [
            PostMessageRequest(thread=name, content=content, request_id=f"id-{n}")
            for n, content in enumerate(contents)
        ]

    server = start_server()
    async with connected(server.address, name) as client:
        alter(server.db, POISON.format("ABORT"))
        async with post_stream(client.bus) as stream:
            first = await stream.post(*batch("POISON"))
            assert seqs(first) == [1, 2, 0, 3]
            assert reason(first[2]) == "INTERNAL"
            again = await stream.post(*batch("harmless"))
        assert seqs(again) == [1, 2, 4, 3]
        assert [r.response.deduplicated for r in again] == [True, True, False, True]


@pytest.mark.slow
async def test_a_store_in_which_every_statement_fails_refuses_everything_and_recovers(
    start_server: StartServer, name: str
) -> None:
    server, ledger = start_server(), Ledger()
    async with connected(server.address, name) as client:
        bus = client.bus
        alter(server.db, NOTHING_GOES)
        refusals = await asyncio.gather(
            *(ledger.attempt(bus, name, f"in vain {n}") for n in range(30))
        )
        told = [refusal for refusal in refusals if refusal]
        assert len(told) == 30
        # It is one bug, in a lone post and in a batch: the log has it once.
        incidents = {refusal.metadata["incident"] for refusal in told}
        assert len(incidents) <= 2
        assert sum("incident" in line for line in server.log) == len(incidents)
        alter(server.db, "DROP TRIGGER poison")
        for n in range(5):
            await ledger.post(bus, name, f"again {n}")
        ledger.check(name, await history(bus, name))


@contextlib.asynccontextmanager
async def reader(
    server: ServerProcess, name: str
) -> AsyncIterator[tuple[Callable[[int], Awaitable[object]], Callable[[], Awaitable[int]]]]:
    """An agent that has joined a thread of three messages, and reports what it has read."""
    async with connected(server.address, name) as client:
        agent = await register(client.agents, name)
        bus, threads = client.bus, client.threads
        await threads.JoinThread(JoinThreadRequest(thread=name), metadata=agent.metadata)
        for n in range(3):
            await bus.PostMessage(PostMessageRequest(thread=name, content=str(n)))

        async def report(seq: int) -> None:
            cursors = [Cursor(thread=name, after_seq=seq)]
            request = HeartbeatRequest(read_cursors=cursors)
            await bus.Heartbeat(request, metadata=agent.metadata)

        async def position() -> int:
            request = JoinThreadRequest(thread=name)
            joined = await threads.JoinThread(request, metadata=agent.metadata)
            return joined.cursor.after_seq

        yield report, position


def updates_tried(server: ServerProcess) -> int:
    """Returns how often a server has tried to write read positions."""
    return sum("UPDATE participant" in statement for statement in statements(server))


@pytest.mark.slow
async def test_a_read_position_that_cannot_be_written_is_kept_until_it_can_be(
    start_server: StartServer, name: str
) -> None:
    server = start_server("--log-level", "debug", "--checkpoint-interval", "0.1")
    async with reader(server, name) as (report, position):
        alter(
            server.db,
            "CREATE TRIGGER poison BEFORE UPDATE ON participant"
            " BEGIN SELECT RAISE(ABORT, 'no'); END",
        )
        await report(2)
        await until(lambda: updates_tried(server) >= 3)
        alter(server.db, "DROP TRIGGER poison")
        assert await position() == 2
        await report(3)
        assert await position() == 3


@pytest.mark.slow
async def test_a_read_position_that_cannot_be_written_does_not_fail_the_shutdown(
    start_server: StartServer, name: str
) -> None:
    server = start_server("--busy-timeout", "0.3", "--checkpoint-interval", "60")
    async with reader(server, name) as (report, _):
        await report(2)
        with locked(server.db):
            assert await asyncio.to_thread(server.stop) == 0
    assert [line for line in server.log if "Traceback" in line] == []
