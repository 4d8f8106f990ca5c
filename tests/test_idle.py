"""What costs nothing: open waits, and unknown names."""

import asyncio
from collections.abc import Awaitable

import pytest

from tests.callers import register
from tests.conftest import StartServer
from tests.connections import Connection, connected
from tests.open_wait import open_wait, open_waits, wait_request
from tests.polling import until
from tests.process_memory import memory
from tests.refusals import Refusal, refused
from tests.serving import ServerProcess
from tests.statements import statements
from threadbus.v1.agent_service_pb2 import GetAgentRequest
from threadbus.v1.bus_service_pb2 import (
    GetMessageRequest,
    HeartbeatRequest,
    ListMessagesRequest,
    PostMessageRequest,
    WaitMessagesRequest,
)
from threadbus.v1.message_pb2 import Cursor

pytestmark = pytest.mark.sqlite

DEBUG = ("--log-level", "debug")


async def mark(server: ServerProcess, client: Connection) -> int:
    """Returns how many statements were logged before a call of now."""
    before = len(_marks(server))
    await refused(client.agents.GetAgent(GetAgentRequest(agent="nobody")))
    await until(lambda: len(_marks(server)) > before)
    return len(statements(server, _marks(server)[-1]))


def _marks(server: ServerProcess) -> list[int]:
    """Returns which lines of the log are about the calls of `mark`."""
    return [at for at, line in enumerate(server.log) if "GetAgent of anonymous: AGENT_NOT" in line]


async def statements_during(
    server: ServerProcess, client: Connection, doing: Awaitable[object]
) -> list[str]:
    """Returns the SQL that the server runs while `done` does."""
    begin = await mark(server, client)
    await doing
    end = await mark(server, client)
    return statements(server)[begin : end - 1]  # without that of the call that marks the end


async def entered(server: ServerProcess) -> None:
    """Return once the server has written that it is there, with its first checkpoint."""

    def written() -> bool:
        _, *later = "\n".join(statements(server)).split("INSERT INTO server", 1)
        return any("COMMIT" in rest for rest in later)

    await until(written)


async def ten_checks(server: ServerProcess) -> None:
    """Return once the fallback has checked ten more times."""
    enough = statements(server).count("PRAGMA data_version") + 10
    await until(lambda: statements(server).count("PRAGMA data_version") >= enough)


@pytest.mark.slow
async def test_with_two_hundred_open_waits_an_idle_server_runs_one_cheap_query_at_times(
    start_server: StartServer,
) -> None:
    server = start_server(*DEBUG, "--fallback-interval", "0.05")
    names = [f"t{n}" for n in range(20)]
    async with connected(server.address, *names) as client:
        requests = [wait_request(names if n % 10 == 0 else [names[n % 20]]) for n in range(200)]
        async with open_waits(client.bus, requests):
            await entered(server)
            seen = await statements_during(server, client, ten_checks(server))
            assert set(seen) == {"PRAGMA data_version"}


@pytest.mark.slow
async def test_a_servers_own_writes_cause_no_fallback_queries(
    start_server: StartServer, name: str
) -> None:
    server = start_server(*DEBUG, "--fallback-interval", "0.05")
    async with connected(server.address, name) as client, open_wait(client.bus, name):
        await entered(server)
        await ten_checks(server)

        async def post() -> None:
            await client.bus.PostMessage(PostMessageRequest(thread=name, content="x"))
            await ten_checks(server)

        seen = await statements_during(server, client, post())
        assert set(seen[seen.index("COMMIT") + 1 :]) == {"PRAGMA data_version"}


@pytest.mark.slow
async def test_without_the_fallback_an_idle_server_does_nothing(
    start_server: StartServer,
) -> None:
    server = start_server(*DEBUG, "--fallback-interval", "0")
    names = [f"t{n}" for n in range(20)]
    async with connected(server.address, *names) as client:
        requests = [wait_request([names[n % 20]], keepalive=1) for n in range(200)]
        async with open_waits(client.bus, requests) as waits:

            async def wait_for_two_keepalives() -> None:
                before = [len(wait.frames) for wait in waits]
                for wait, had in zip(waits, before, strict=True):
                    await wait.until(
                        lambda wait=wait, had=had: len(wait.frames) >= had + 2  # type: ignore[misc]
                    )
                    assert set(wait.kinds()[had:]) == {"keepalive"}

            assert await statements_during(server, client, wait_for_two_keepalives()) == []


@pytest.mark.slow
async def test_opening_ending_and_waking_waits_and_heartbeats_write_nothing(
    start_server: StartServer, name: str
) -> None:
    flags = (*DEBUG, "--fallback-interval", "0", "--checkpoint-interval", "60")
    server = start_server(*flags)
    async with connected(server.address, name) as client:
        agent = await register(client.agents, name)
        metadata = agent.metadata

        async def open_and_end_waits() -> None:
            for _ in range(20):
                async with open_wait(client.bus, name, metadata=metadata):
                    request = HeartbeatRequest(read_cursors=[Cursor(thread=name)])
                    await client.bus.Heartbeat(request, metadata=metadata)

        seen = await statements_during(server, client, open_and_end_waits())
        assert [s for s in seen if not s.startswith("SELECT")] == []

        async with open_wait(client.bus, name, metadata=metadata) as wait:

            async def wake() -> None:
                await client.bus.PostMessage(PostMessageRequest(thread=name, content="x"))
                await wait.until(lambda: wait.seqs(name) == [1])

            server.log.clear()
            seen = await statements_during(server, client, wake())
            assert seen.count("BEGIN IMMEDIATE") == 1
            assert seen.count("COMMIT") == 1
            assert seen[0] == "BEGIN IMMEDIATE"
            assert seen[-1] == "COMMIT"  # and the wait queried nothing


@pytest.mark.slow
@pytest.mark.soak
async def test_unknown_names_leave_nothing_in_the_servers_memory(
    start_server: StartServer, name: str
) -> None:
    server = start_server()
    async with connected(server.address) as client:
        agent = await register(client.agents, name)

        async def ask(number: int) -> None:
            # Many long names: kept, they would take much memory for each query.
            threads = [f"{number}-{k}-{'x' * 110}" for k in range(100)]
            cursors = [Cursor(thread=thread, epoch="e" * 32) for thread in threads]
            wait = client.bus.WaitMessages(
                WaitMessagesRequest(threads=cursors), metadata=agent.metadata
            )
            assert (await refused(wait)).reason == "THREAD_NOT_FOUND"
            for call in (
                client.bus.ListMessages(ListMessagesRequest(thread=threads[0])),
                client.bus.GetMessage(GetMessageRequest(thread=threads[0], seq=1)),
                client.bus.PostMessage(
                    PostMessageRequest(thread=threads[0], content="x", request_id=threads[0])
                ),
            ):
                assert (await refused(call)).reason == "THREAD_NOT_FOUND"
            request = HeartbeatRequest(read_cursors=cursors)
            await client.bus.Heartbeat(request, metadata=agent.metadata)

        async def ask_many(begin: int, end: int) -> None:
            for batch in range(begin, end, 50):
                await asyncio.gather(*(ask(n) for n in range(batch, batch + 50)))

        await ask_many(0, 400)  # what a server allocates once: buffers, caches of SQLite's
        grown = []
        for begin in range(400, 5_400, 1_000):
            before = memory(server.pid)
            await ask_many(begin, begin + 1_000)
            grown.append(memory(server.pid) - before)
            if grown[-1] < 8 * 1024 * 1024:
                return  # if names were kept, they would take twice as much each time
        raise AssertionError(f"the server grew by {grown}")


async def test_a_response_does_not_grow_with_unknown_names(
    start_server: StartServer,
) -> None:
    server = start_server()

    async def ask(client: Connection, count: int) -> Refusal:
        threads = [f"{n:04}{'x' * 124}" for n in range(count)]
        return await refused(client.bus.WaitMessages(wait_request(threads)))

    async with connected(server.address) as client:
        few, many = await ask(client, 50), await ask(client, 1_000)
        assert few.reason == many.reason == "THREAD_NOT_FOUND"
        assert abs(many.trailer_bytes - few.trailer_bytes) < 100
        assert many.trailer_bytes < 8_000
