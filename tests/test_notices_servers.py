"""Notices of several servers on a store: each is written once, by whichever server."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from tests.connections import Connection, connected
from tests.participation import join
from tests.peek import peek
from tests.peers import Peer, registered
from tests.polling import until
from tests.presence import until_state
from tests.requests import alive, ask, noticed, notices_in, read_up_to
from tests.server_pairs import Servers, pair
from threadbus.v1.agent_service_pb2 import EndSessionRequest
from threadbus.v1.thread_service_pb2 import LeaveThreadRequest

#: What one server knows of an agent, the other knows within half a second.
HASTY = (
    *("--heartbeat-interval", "0.5", "--agent-timeout", "1"),
    *("--checkpoint-interval", "0.05", "--fallback-interval", "0.2", "--server-lease", "0.5"),
)

pytestmark = pytest.mark.slow

Act = Callable[[Connection, Peer, str, int], Awaitable[object]]
Both = tuple[Connection, Connection]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, chosen_store: None) -> Iterator[Servers]:
    """Two servers on one store, for this module."""
    with pair(tmp_path_factory.mktemp("servers") / "bus.db", *HASTY) as both:
        yield both


@contextlib.asynccontextmanager
async def connections(servers: Servers, name: str) -> AsyncIterator[Both]:
    """Connections to both servers. There is a thread with the test's name."""
    async with connected(servers[0].address, name) as here, connected(servers[1].address) as there:
        yield here, there


@pytest.fixture
async def both(servers: Servers, name: str) -> AsyncIterator[Both]:
    async with connections(servers, name) as opened:
        yield opened


async def end_session(at: Connection, agent: Peer, thread: str, seq: int) -> None:
    await at.agents.EndSession(EndSessionRequest(), metadata=agent.metadata)


async def lapse(at: Connection, agent: Peer, thread: str, seq: int) -> None:
    await alive(agent, lease=0.05)


async def read_and_idle(at: Connection, agent: Peer, thread: str, seq: int) -> None:
    await read_up_to(agent, thread, seq)


async def leave(at: Connection, agent: Peer, thread: str, seq: int) -> None:
    await at.threads.LeaveThread(LeaveThreadRequest(thread=thread), metadata=agent.metadata)


async def nothing(at: Connection, agent: Peer, thread: str, seq: int) -> None:
    """Let it be overdue."""


@pytest.mark.parametrize(
    ("reason", "act"),
    [
        ("AGENT_OFFLINE", end_session),
        ("AGENT_LAPSED", lapse),
        ("AGENT_IDLE", read_and_idle),
        ("AGENT_LEFT", leave),
        ("OVERDUE", nothing),
    ],
)
async def test_what_an_agent_does_at_another_server_is_noticed_once(
    both: Both, name: str, reason: str, act: Act
) -> None:
    here, there = both
    asker = await registered(here.agents, here.bus, "asker")
    reviewer = await registered(there.agents, there.bus, "reviewer")
    wanted = []
    for _ in range(2):  # the second shows that the first was not repeated
        await join(there.threads, name, reviewer)
        await alive(reviewer)
        for at in both:
            await until_state(at.agents, reviewer.name, "IDLE")
        seq = await ask(asker, name, reviewer.name, within=0.3 if act is nothing else None)
        await act(there, reviewer, name, seq)
        wanted.append((reason, seq, reviewer.name))
        for at in both:
            assert await noticed(Peer(at.bus, asker.caller), name, len(wanted)) == wanted


@pytest.mark.usefixtures("chosen_store")
@pytest.mark.parametrize("went", [end_session, lapse])
async def test_an_agent_that_is_gone_from_one_server_and_lives_at_another_is_not_noticed(
    tmp_path: Path, name: str, went: Act
) -> None:
    # The server that it is gone from learns that it lives only after it is gone.
    with pair(tmp_path / "bus.db", *HASTY, "--fallback-interval", "2") as servers:
        async with connections(servers, name) as (here, there):
            asker = await registered(here.agents, here.bus, "asker")
            reviewer, other = [
                await alive(await registered(here.agents, here.bus, each))
                for each in ("reviewer", "other")
            ]
            await until(lambda: peek(servers[0].db, "SELECT count(*) FROM server") == [(2,)])
            seq = await ask(asker, name, reviewer.name, other.name)
            for each in (reviewer, other):
                await went(here, each, name, seq)
            await until_state(
                here.agents, reviewer.name, "OFFLINE" if went is end_session else "LAPSED"
            )
            await alive(Peer(there.bus, reviewer.caller))
            (notice,) = await noticed(asker, name, 1)
            assert notice[1:] == (seq, other.name)
            await until_state(here.agents, reviewer.name, "IDLE")
            assert notices_in(await asker.read(name)) == [notice]


@pytest.mark.usefixtures("chosen_store")
@pytest.mark.parametrize("reason", ["AGENT_LAPSED", "AGENT_IDLE", "OVERDUE"])
async def test_if_the_server_that_knows_is_killed_another_one_tells(
    tmp_path: Path, name: str, reason: str
) -> None:
    with pair(tmp_path / "bus.db", *HASTY) as servers:
        async with connections(servers, name) as (here, there):
            asker = await registered(here.agents, here.bus, "asker")
            reviewer = await registered(here.agents, here.bus, "reviewer")
            await alive(reviewer)
            await until_state(there.agents, reviewer.name, "IDLE")
            seq = await ask(asker, name, reviewer.name, within=1 if reason == "OVERDUE" else None)
            saved = "SELECT count(*) FROM presence WHERE last_seen_time > 0"
            if reason == "AGENT_IDLE":
                await read_up_to(reviewer, name, seq)
                saved = "SELECT count(*) FROM participant WHERE read_seq > 0"
            elif reason == "AGENT_LAPSED":
                await alive(reviewer, lease=2)
                saved = (
                    "SELECT count(*) FROM presence WHERE lease_end_time < last_seen_time + 3000000"
                )
            saved = f"{saved} AND agent = '{reviewer.name}'"
            await until(lambda: peek(servers[0].db, saved) == [(1,)])
            servers[0].kill()
            found = await noticed(Peer(there.bus, asker.caller), name, 1)
            assert found == [(reason, seq, reviewer.name)]
