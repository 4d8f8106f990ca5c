"""Presence across servers: checkpoints, restarts, two servers on one file."""

import asyncio
import contextlib
import re
import sqlite3
import time
from datetime import datetime
from itertools import pairwise

import pytest

from tests.callers import Caller, register
from tests.conftest import StartServer
from tests.connections import Connection, connected
from tests.peers import Peer
from tests.polling import until, until_known
from tests.presence import beat, seen, state, until_state
from tests.serving import ServerProcess
from tests.statements import statements
from tests.wait_frames import waiting
from threadbus.v1.agent_pb2 import PRESENCE_AWAITING_HUMAN, PRESENCE_WORKING
from threadbus.v1.agent_service_pb2 import EndSessionRequest, RegisterAgentRequest
from threadbus.v1.message_pb2 import Cursor
from threadbus.v1.thread_service_pb2 import (
    JoinThreadRequest,
    ListParticipantsRequest,
)

HASTY = ("--heartbeat-interval", "0.6", "--agent-timeout", "1", "--checkpoint-interval", "0.05")
DEBUG = ("--log-level", "debug")

pytestmark = pytest.mark.slow


async def agents_in_every_state(client: Connection, thread: str) -> dict[str, Caller]:
    """Six agents, by name; each has the presence it is named for."""
    names = ("waiting", "working", "busy", "human", "lapsed", "offline")
    agents = {name: await register(client.agents, f"{thread}-{name}") for name in names}
    await beat(client.bus, agents["lapsed"])
    await until_state(client.agents, agents["lapsed"].name, "LAPSED")
    for name in ("waiting", "working"):
        join = JoinThreadRequest(thread=thread)
        await client.threads.JoinThread(join, metadata=agents[name].metadata)
    await Peer(client.bus).post(thread, "work to do")
    await beat(client.bus, agents["busy"], state=PRESENCE_WORKING, lease=600, status_text="bu\0sy")
    await beat(client.bus, agents["human"], state=PRESENCE_AWAITING_HUMAN, lease=600)
    async with waiting(client.bus, thread, max_wait=0, metadata=agents["working"].metadata) as end:
        await end.ending()
    await client.agents.EndSession(EndSessionRequest(), metadata=agents["offline"].metadata)
    return agents


async def states(client: Connection, agents: dict[str, Caller]) -> dict[str, str]:
    """Returns the presence of each."""
    return {name: await state(client.agents, agent.name) for name, agent in agents.items()}


@pytest.mark.sqlite
@pytest.mark.parametrize("how", ["stopped", "killed"])
async def test_presence_is_right_after_a_restart(
    start_server: StartServer, name: str, how: str
) -> None:
    server = start_server(*HASTY)
    async with connected(server.address, name) as client:
        agents = await agents_in_every_state(client, name)
        token = agents["waiting"].metadata
        async with waiting(client.bus, Cursor(thread=name, after_seq=1), metadata=token) as frames:
            await frames.until("caught_up")
            before = await states(client, agents)
            assert before == {
                "waiting": "WAITING",
                "working": "WORKING",
                "busy": "WORKING",
                "human": "AWAITING_HUMAN",
                "lapsed": "LAPSED",
                "offline": "OFFLINE",
            }
            if how == "stopped":
                assert server.stop() == 0
            else:
                await until_written(server, client, agents["working"])
                server.kill()
    server.flags = ("--heartbeat-interval", "0.6", "--agent-timeout", "4")  # time to look at all
    server.start()
    async with connected(server.address) as client:
        # An agent that waited is IDLE until it waits again: a restart makes none lapse.
        assert await states(client, agents) == before | {"waiting": "IDLE"}
        assert (await seen(client.agents, agents["busy"].name)).status_text == "bu\0sy"
        await until_state(client.agents, agents["waiting"].name, "LAPSED")
        after = await states(client, agents)
        assert after == before | {"waiting": "LAPSED"}


async def test_lowered_timeouts_count_from_the_next_activity(
    start_server: StartServer, name: str
) -> None:
    server = start_server("--heartbeat-interval", "1", "--agent-timeout", "4")
    async with connected(server.address) as client:
        silent, lively = [await register(client.agents, f"{name}-{n}") for n in range(2)]
        await beat(client.bus, silent)
        await beat(client.bus, lively)
        assert server.stop() == 0
    server.flags = ("--heartbeat-interval", "0.2", "--agent-timeout", "0.4")
    server.start()
    async with connected(server.address) as client:
        await beat(client.bus, lively)
        await until_state(client.agents, lively.name, "LAPSED")
        assert await state(client.agents, silent.name) == "IDLE"  # by the lease it was granted
        await until_state(client.agents, silent.name, "LAPSED")


async def test_a_wait_ended_by_a_stop_is_the_last_activity(
    start_server: StartServer, name: str
) -> None:
    server = start_server()
    async with connected(server.address, name) as client:
        agent = await register(client.agents, name)
        async with waiting(client.bus, name, metadata=agent.metadata) as frames:
            await frames.until("caught_up")
            while_it_waited = time.time_ns() // 1000
            assert server.stop() == 0
    server.start()
    async with connected(server.address) as client:
        found = await seen(client.agents, name)
        # A store on PostgreSQL has a clock of its own, which may be a moment behind.
        assert found.last_seen_time.ToMicroseconds() >= while_it_waited - 100_000


async def until_written(server: ServerProcess, client: Connection, agent: Caller) -> None:
    """Return once a checkpoint after this call is written: the file has a lease granted in it."""
    await beat(client.bus, agent, lease=3_000)  # longer than the working timeout, 900 s
    lease_end_time = (time.time() + 2_000) * 1e6

    def written() -> bool:
        with contextlib.closing(sqlite3.connect(server.db)) as db:
            lease = "SELECT lease_end_time FROM presence WHERE agent = ?"
            row = db.execute(lease, (agent.name,)).fetchone()
        return row is not None and row[0] > lease_end_time

    await until(written)


async def test_work_delivered_before_a_restart_ends_when_the_agent_posts(
    start_server: StartServer, name: str
) -> None:
    server = start_server()
    async with connected(server.address, name) as client:
        agent = await register(client.agents, name)
        await Peer(client.bus).post(name, "work to do")
        async with waiting(client.bus, name, max_wait=0, metadata=agent.metadata) as frames:
            await frames.ending()
        assert server.stop() == 0
    server.start()
    async with connected(server.address) as client:
        assert await state(client.agents, name) == "WORKING"
        await Peer(client.bus, agent).post(name, "done")
        assert await state(client.agents, name) == "IDLE"


async def test_an_agent_that_sent_heartbeats_and_died_at_work_lapses_after_a_restart(
    start_server: StartServer, name: str
) -> None:
    server = start_server(*HASTY)
    async with connected(server.address, name) as client:
        lively, silent = [await register(client.agents, f"{name}-{n}") for n in range(2)]
        await beat(client.bus, lively)
        await Peer(client.bus).post(name, "work to do")
        for agent in (lively, silent):
            async with waiting(client.bus, name, max_wait=0, metadata=agent.metadata) as frames:
                await frames.ending()
        assert server.stop() == 0
    server.start()
    async with connected(server.address) as client:
        await until_state(client.agents, lively.name, "LAPSED", never="IDLE")
        assert await state(client.agents, silent.name) == "WORKING"
        assert server.stop() == 0
    server.start()
    async with connected(server.address) as client:
        assert await state(client.agents, lively.name) == "LAPSED"
        assert await state(client.agents, silent.name) == "WORKING"


async def test_positions_survive_a_restart(start_server: StartServer, name: str) -> None:
    server = start_server()
    async with connected(server.address, name) as client:
        agent = await register(client.agents, name)
        await client.threads.JoinThread(JoinThreadRequest(thread=name), metadata=agent.metadata)
        await Peer(client.bus).post_all(name, "1", "2", "3")
        async with waiting(client.bus, name, max_wait=0, metadata=agent.metadata) as frames:
            await frames.ending()
        read = Cursor(thread=name, after_seq=2, hidden_seq=2)
        await beat(client.bus, agent, read_cursors=[read])
        assert server.stop() == 0
    server.start()
    async with connected(server.address) as client:
        listed = await client.threads.ListParticipants(ListParticipantsRequest(thread=name))
        (found,) = listed.participants
        assert (found.delivered_seq, found.read_seq, found.passed_over) == (3, 1, 2)


@pytest.mark.sqlite
async def test_heartbeats_of_many_agents_cost_one_transaction_per_checkpoint_interval(
    start_server: StartServer, name: str, soak: bool
) -> None:
    interval, rounds, count = 0.5, 2, 5_000 if soak else 500
    server = start_server("--checkpoint-interval", str(interval), *DEBUG)
    async with connected(server.address) as client:
        at_once = asyncio.Semaphore(100)

        async def registered(number: int) -> Caller:
            async with at_once:
                request = RegisterAgentRequest(agent=f"a{number}")
                return Caller(request.agent, (await client.agents.RegisterAgent(request)).token)

        async def beats(agent: Caller) -> None:
            async with at_once:
                await beat(client.bus, agent, status_text="here")

        agents = await asyncio.gather(*(registered(number) for number in range(count)))
        before = len(server.log)
        for _ in range(rounds):
            await asyncio.gather(*(beats(agent) for agent in agents))
        await until(lambda: bool(begun(server, before)))
    portions, most = 1, -(-count // 1_000)
    for earlier, later in pairwise(begun(server, before)):
        apart = (later - earlier).total_seconds() > interval * 0.9
        portions = 1 if apart else portions + 1
        assert portions <= most
    assert any("INSERT INTO presence" in statement for statement in statements(server))
    assert server.stop() == 0
    server.start()
    async with connected(server.address) as client:
        for number in (0, count - 1):
            assert (await seen(client.agents, f"a{number}")).status_text == "here"


def begun(server: ServerProcess, after: int) -> list[datetime]:
    """Returns when transactions began, from the lines of the log after the first `after`."""
    lines = [line for line in server.log[after:] if "BEGIN IMMEDIATE" in line]
    times = [re.match(r"\S+ \S+", line) for line in lines]
    return [datetime.strptime(time[0], "%Y-%m-%d %H:%M:%S,%f") for time in times if time]  # noqa: DTZ007


async def test_another_server_on_the_file_learns_who_is_online(
    start_server: StartServer, name: str
) -> None:
    flags = ("--checkpoint-interval", "0.05", "--fallback-interval", "0.1")
    here, there = start_server(*flags), start_server(*flags)
    async with connected(here.address, name) as client, connected(there.address) as other:
        agent = await register(client.agents, name)
        await beat(client.bus, agent, state=PRESENCE_AWAITING_HUMAN, status_text="help")
        await until_state(other.agents, name, "AWAITING_HUMAN")
        assert (await seen(other.agents, name)).status_text == "help"
        await client.agents.EndSession(EndSessionRequest(), metadata=agent.metadata)
        await until_state(other.agents, name, "OFFLINE")

        await beat(other.bus, agent)
        await until_state(client.agents, name, "IDLE")
        # Newer evidence counts more, also on the server that the agent itself called.
        await beat(client.bus, agent)
        await beat(other.bus, agent, state=PRESENCE_AWAITING_HUMAN, status_text="help me there")
        await until_state(client.agents, name, "AWAITING_HUMAN")
        assert (await seen(client.agents, name)).status_text == "help me there"

        async def read_there() -> bool:
            request = ListParticipantsRequest(thread=name)
            found = (await other.threads.ListParticipants(request)).participants
            return [p.read_seq for p in found] == [1]

        await Peer(client.bus, agent).post(name, "hello", based_on_seq=0)
        await beat(client.bus, agent, read_cursors=[Cursor(thread=name, after_seq=1)])
        await until_known(read_there)
