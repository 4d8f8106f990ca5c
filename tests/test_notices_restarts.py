"""Notices across restarts of the server: none is missing, and none comes twice."""

import time
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest

from tests.conftest import StartServer
from tests.connections import Connection, connected
from tests.peek import peek
from tests.peers import Peer, registered
from tests.polling import until
from tests.requests import alive, ask, listed, noticed, read_up_to
from tests.serving import ServerProcess
from threadbus.v1.agent_service_pb2 import EndSessionRequest
from threadbus.v1.thread_service_pb2 import LeaveThreadRequest

#: No agent is idle for long, or lapses, unless it says so.
PATIENT = (
    *("--heartbeat-interval", "30", "--agent-timeout", "3600"),
    *("--checkpoint-interval", "0.05"),
)
#: Agents are idle for long after a second.
HASTY = ("--heartbeat-interval", "0.5", "--agent-timeout", "1", "--checkpoint-interval", "0.05")

pytestmark = pytest.mark.slow

stops = pytest.mark.parametrize("stop", [ServerProcess.stop, ServerProcess.kill])


class Scene(NamedTuple):
    """A server, and agents in a thread."""

    server: ServerProcess
    client: Connection
    asker: Peer
    reviewer: Peer


@pytest.fixture
async def before(start_server: StartServer, name: str) -> AsyncIterator[Scene]:
    """The scene before the restart, on a patient server."""
    server = start_server(*PATIENT)
    async with connected(server.address, name) as client:
        asker, reviewer = [
            await registered(client.agents, client.bus, each) for each in ("asker", "reviewer")
        ]
        await alive(reviewer)
        yield Scene(server, client, asker, reviewer)


def restarted(server: ServerProcess, *flags: str) -> ServerProcess:
    """Start a stopped server with other flags."""
    server.flags = flags
    return server.start()


async def in_store(server: ServerProcess, query: str) -> None:
    """Return once a query returns a row that is not 0."""
    await until(lambda: any(value for (value,) in peek(server.db, query)))


@stops
async def test_a_request_that_became_overdue_while_no_server_ran_is_noticed_at_the_start(
    before: Scene, name: str, stop: object
) -> None:
    seq = await ask(before.asker, name, before.reviewer.name, within=0.3)
    (found,) = await listed(before.asker, thread=name)
    stop(before.server)  # type: ignore[operator]
    await until(lambda: time.time() > found.due_time.ToMicroseconds() / 1e6)
    restarted(before.server, *PATIENT)
    async with connected(before.server.address) as client:
        asker = Peer(client.bus, before.asker.caller)
        assert await noticed(asker, name, 1) == [("OVERDUE", seq, before.reviewer.name)]


@stops
async def test_a_request_that_becomes_overdue_after_a_restart_is_noticed(
    before: Scene, name: str, stop: object
) -> None:
    seq = await ask(before.asker, name, before.reviewer.name, within=3)
    stop(before.server)  # type: ignore[operator]
    restarted(before.server, *PATIENT)
    async with connected(before.server.address) as client:
        asker = Peer(client.bus, before.asker.caller)
        assert await noticed(asker, name, 1) == [("OVERDUE", seq, before.reviewer.name)]


@stops
async def test_no_notice_is_repeated_after_a_restart(
    before: Scene, name: str, stop: object
) -> None:
    server, client, asker, reviewer = before
    seq = await ask(asker, name, reviewer.name, within=0.1)
    wanted = [("OVERDUE", seq, reviewer.name)]
    assert await noticed(asker, name, 1) == wanted
    end = EndSessionRequest()
    await client.agents.EndSession(end, metadata=reviewer.metadata)
    wanted.append(("AGENT_OFFLINE", seq, reviewer.name))
    assert await noticed(asker, name, 2) == wanted
    leave = LeaveThreadRequest(thread=name)
    await client.threads.LeaveThread(leave, metadata=reviewer.metadata)
    wanted.append(("AGENT_LEFT", seq, reviewer.name))
    assert await noticed(asker, name, 3) == wanted
    for _ in range(2):
        stop(server)  # type: ignore[operator]
        restarted(server, *PATIENT)
        async with connected(server.address) as client:
            asker = Peer(client.bus, before.asker.caller)
            seq = await ask(asker, name, reviewer.name, within=0.1)
            wanted.append(("OVERDUE", seq, reviewer.name))
            assert await noticed(asker, name, len(wanted)) == wanted


@stops
async def test_an_agent_that_went_idle_before_a_restart_is_noticed_after_it(
    before: Scene, name: str, stop: object
) -> None:
    server, _, asker, reviewer = before
    seq = await ask(asker, name, reviewer.name)
    await read_up_to(reviewer, name, seq)
    query = f"SELECT count(*) FROM participant WHERE read_seq > 0 AND agent = '{reviewer.name}'"  # noqa: S608
    await in_store(server, query)
    stop(server)  # type: ignore[operator]
    restarted(server, *HASTY)
    async with connected(server.address) as client:
        asker = Peer(client.bus, before.asker.caller)
        assert await noticed(asker, name, 1) == [("AGENT_IDLE", seq, reviewer.name)]


@stops
async def test_an_agent_that_does_not_come_back_after_a_restart_is_noticed(
    before: Scene, name: str, stop: object
) -> None:
    server, _, asker, reviewer = before
    seq = await ask(asker, name, reviewer.name)
    await alive(reviewer, lease=5)
    query = "SELECT count(*) FROM presence WHERE lease_end_time - last_seen_time < 6000000"
    await in_store(server, f"{query} AND agent = '{reviewer.name}'")
    stop(server)  # type: ignore[operator]
    restarted(server, *HASTY)
    async with connected(server.address) as client:
        asker = Peer(client.bus, before.asker.caller)
        assert await noticed(asker, name, 1) == [("AGENT_LAPSED", seq, reviewer.name)]


@pytest.mark.usefixtures("chosen_store")
async def test_an_agent_that_was_found_to_be_gone_before_a_restart_is_noticed_after_it(
    before: Scene, name: str
) -> None:
    server, client, asker, reviewer = before
    # While there is another server, it may know better: for an hour, in this case.
    server.stop()
    slow = (*PATIENT, "--fallback-interval", "3600")
    restarted(server, *slow)
    with ServerProcess(server.db, *slow) as second:
        async with connected(server.address) as client:
            asker, reviewer = (Peer(client.bus, each.caller) for each in (asker, reviewer))
            await alive(reviewer)
            await in_store(server, "SELECT count(*) - 1 FROM server")
            await in_store(server, "SELECT count(*) FROM presence WHERE reported <> 6")
            seq = await ask(asker, name, reviewer.name)
            await client.agents.EndSession(EndSessionRequest(), metadata=reviewer.metadata)
            await in_store(server, "SELECT count(*) FROM presence WHERE reported = 6")
        second.kill()
        server.kill()
    restarted(server, *PATIENT, "--server-lease", "0.3")
    async with connected(server.address) as client:
        asker = Peer(client.bus, asker.caller)
        assert await noticed(asker, name, 1) == [("AGENT_OFFLINE", seq, reviewer.name)]
