"""Presence does not depend on wall clocks: none that is set makes an agent lapse or return."""

import contextlib
import sqlite3
import time
from pathlib import Path

import pytest

from tests.callers import register
from tests.clocks import DAY, MINUTES, WallClock, change
from tests.conftest import StartServer
from tests.connections import connected
from tests.peers import Peer
from tests.polling import until
from tests.presence import beat, seen, state, until_state
from threadbus.v1.agent_pb2 import PRESENCE_AWAITING_HUMAN, PRESENCE_WORKING
from threadbus.v1.agent_service_pb2 import EndSessionRequest, GetAgentRequest

#: Agents lapse after two seconds. Checkpoints, and other servers' reads of them, run at once.
HASTY = (
    *("--heartbeat-interval", "1", "--agent-timeout", "2"),
    *("--checkpoint-interval", "0.05", "--fallback-interval", "0.1"),
)

pytestmark = [pytest.mark.slow, pytest.mark.sqlite]

steps = pytest.mark.parametrize("step", [-DAY, -MINUTES, 2 * DAY])


@pytest.fixture
def wall(tmp_path: Path) -> WallClock:
    """The wall clock of the servers in the test."""
    return WallClock(tmp_path)


def stored(db: Path, agent: str) -> tuple[int, int, int]:
    """Returns 6 (OFFLINE) or 3, last_seen_time and lease_end_time from the file.

    Zeros if there is no row.
    """
    with contextlib.closing(sqlite3.connect(db)) as opened:
        query = (
            "SELECT iif(reported = 6, 6, 3), last_seen_time, lease_end_time FROM presence"
            " WHERE agent = ?"
        )
        row: tuple[int, int, int] = opened.execute(query, (agent,)).fetchone() or (0, 0, 0)
        return row


@steps
async def test_leases_keep_their_durations_whatever_the_clock_does(
    start_server: StartServer, wall: WallClock, name: str, step: float
) -> None:
    server = start_server(*HASTY, environment=wall.environment)
    async with connected(server.address) as client:
        brief, long = [await register(client.agents, f"{name}-{n}") for n in range(2)]
        await beat(client.bus, long, state=PRESENCE_AWAITING_HUMAN, lease=600)
        began = time.monotonic()
        await beat(client.bus, brief)
        wall.set(step)
        found = await state(client.agents, brief.name)
        assert found == "IDLE" or time.monotonic() - began > 2
        await until_state(client.agents, brief.name, "LAPSED")
        assert time.monotonic() - began >= 2
        assert await state(client.agents, long.name) == "AWAITING_HUMAN"


@steps
async def test_times_are_shown_as_the_wall_clock_has_them(
    start_server: StartServer, wall: WallClock, name: str, step: float
) -> None:
    server = start_server(environment=wall.environment)
    async with connected(server.address) as client:
        agent = await register(client.agents, name)
        before = time.time()
        await beat(client.bus, agent)
        after = time.time()
        wall.set(step)
        told = (await seen(client.agents, name)).last_seen_time.ToMicroseconds() / 1e6
        assert before - 1 < told - step < after + 1
        answer = await beat(client.bus, agent, lease=600)
        ends = answer.expire_time.ToMicroseconds() / 1e6
        assert before + 599 < ends - step < time.time() + 601
        assert server.stop() == 0
    server.start()
    async with connected(server.address) as client:
        told = (await seen(client.agents, name)).last_seen_time.ToMicroseconds() / 1e6
        assert before - 1 < told - step < time.time()


@steps
async def test_a_killed_agent_lapses_after_a_restart_though_the_clock_was_set(
    start_server: StartServer, wall: WallClock, name: str, step: float
) -> None:
    server = start_server(*HASTY, environment=wall.environment)
    async with connected(server.address) as client:
        brief, long = [await register(client.agents, f"{name}-{n}") for n in range(2)]
        await beat(client.bus, long, state=PRESENCE_WORKING, lease=600)
        await beat(client.bus, brief)
        assert server.stop() == 0
    wall.set(step)
    server.start()
    async with connected(server.address) as client:
        assert await state(client.agents, brief.name) == "IDLE"  # its lease has been renewed
        await until_state(client.agents, brief.name, "LAPSED")
        assert await state(client.agents, long.name) == "WORKING"


@steps
@pytest.mark.parametrize("how", ["stopped", "killed"])
async def test_an_ended_session_stays_ended_though_the_clock_was_set_before_it(
    start_server: StartServer, wall: WallClock, name: str, step: float, how: str
) -> None:
    server = start_server(*HASTY, environment=wall.environment)
    async with connected(server.address) as client:
        agent = await register(client.agents, name)
        await beat(client.bus, agent, lease=600)
        await until(lambda: stored(server.db, name)[0] == 3)
        wall.set(step)
        await client.agents.EndSession(EndSessionRequest(), metadata=agent.metadata)
        await until(lambda: stored(server.db, name)[0] == 6)
        if how == "stopped":
            assert server.stop() == 0
        else:
            server.kill()
    server.start()
    async with connected(server.address) as client:
        assert await state(client.agents, name) == "OFFLINE"
        await beat(client.bus, agent)
        await until(lambda: stored(server.db, name)[0] == 3)


@pytest.mark.parametrize("steps_of", [(0, -DAY), (-DAY, 0), (0, MINUTES), (2 * DAY, 0)])
async def test_of_two_servers_with_different_clocks_the_later_activity_counts(
    start_server: StartServer, tmp_path: Path, name: str, steps_of: tuple[float, float]
) -> None:
    servers = []
    for number, step in enumerate(steps_of):
        folder = tmp_path / str(number)
        folder.mkdir()
        wall = WallClock(folder)
        wall.set(step)
        servers.append(start_server(*HASTY, environment=wall.environment))
    here, there = servers
    async with connected(here.address, name) as client, connected(there.address) as other:
        agent = await register(client.agents, name)
        peer = Peer(client.bus, agent)
        for _ in range(2):
            await beat(client.bus, agent, lease=600)
            await other.agents.EndSession(EndSessionRequest(), metadata=agent.metadata)
            await until(lambda: stored(here.db, name)[0] == 6)
            for at in (client, other):
                await until_state(at.agents, name, "OFFLINE")
            async with peer.wait(name) as frames:
                await frames.until("caught_up")
                await until_state(other.agents, name, "WAITING")
                await other.agents.EndSession(EndSessionRequest(), metadata=agent.metadata)
                await frames.ending()
            await beat(client.bus, agent)
            await until_state(other.agents, name, "IDLE")
            client, other = other, client
            peer = Peer(client.bus, agent)
        assert [server.stop() for server in servers] == [0, 0]
    here.start()
    async with connected(here.address) as client:
        assert await state(client.agents, name) == "IDLE"


@steps
async def test_an_agent_seen_at_another_server_only_lapses_though_the_clock_was_set(
    start_server: StartServer, wall: WallClock, name: str, step: float
) -> None:
    here = start_server(*HASTY, "--fallback-interval", "0", environment=wall.environment)
    there = start_server(*HASTY)
    async with connected(here.address) as client, connected(there.address) as other:
        brief, long = [await register(other.agents, f"{name}-{n}") for n in range(2)]
        await beat(other.bus, brief)
        await beat(other.bus, long, lease=600)

        def is_stored() -> bool:
            _, seen, lease_end = stored(here.db, long.name)
            return lease_end - seen > 500e6

        await until(is_stored)
        wall.set(step)
        there.kill()
        await until_state(client.agents, brief.name, "LAPSED")
        assert await state(client.agents, long.name) == "IDLE"


@pytest.mark.parametrize("step", [-DAY, -MINUTES])
async def test_after_a_boot_with_a_clock_that_went_back_nothing_lasts_longer(
    start_server: StartServer, wall: WallClock, name: str, step: float
) -> None:
    server = start_server(*HASTY, environment=wall.environment)
    async with connected(server.address) as client:
        idle, gone = [await register(client.agents, f"{name}-{n}") for n in range(2)]
        await beat(client.bus, gone, lease=600)
        await beat(client.bus, idle)
        assert server.stop() == 0
    change(server.db, "UPDATE clock SET boot = 'an earlier one'")
    wall.set(step)
    server.start()
    async with connected(server.address) as client:
        assert await state(client.agents, idle.name) == "IDLE"
        await client.agents.EndSession(EndSessionRequest(), metadata=gone.metadata)
        await until_state(client.agents, idle.name, "LAPSED")
        server.kill()
    server.start()
    async with connected(server.address) as client:
        assert await state(client.agents, gone.name) == "OFFLINE"


async def test_stored_times_in_the_future_count_as_now_and_hide_no_later_activity(
    start_server: StartServer, name: str
) -> None:
    server = start_server(*HASTY)
    async with connected(server.address) as client:
        left, idle, gone, long = [await register(client.agents, f"{name}-{n}") for n in range(4)]
        for agent in (left, idle, gone):
            await beat(client.bus, agent)
        await beat(client.bus, long, lease=600)
        await client.agents.EndSession(EndSessionRequest(), metadata=left.metadata)
        assert server.stop() == 0
    for agent in (left, idle, gone, long):
        change(
            server.db,
            "UPDATE presence SET last_seen_time = last_seen_time + 86400000000,"
            " state_time = state_time + 86400000000, work_time = work_time + 86400000000,"
            " lease_end_time = lease_end_time + 86400000000 WHERE agent = ?",
            agent.name,
        )
    _, in_the_future, _ = stored(server.db, long.name)
    server.start()
    async with connected(server.address) as client:
        await until(lambda: stored(server.db, long.name)[1] < in_the_future)
        for agent in (left, idle):
            told = (await seen(client.agents, agent.name)).last_seen_time
            assert told.ToMicroseconds() / 1e6 < time.time() + 1
        await client.agents.EndSession(EndSessionRequest(), metadata=gone.metadata)
        await until(lambda: stored(server.db, gone.name)[0] == 6)
        await until_state(client.agents, idle.name, "LAPSED")
        assert await state(client.agents, left.name) == "OFFLINE"
        server.kill()
    server.start()
    async with connected(server.address) as client:
        assert await state(client.agents, gone.name) == "OFFLINE"


async def test_a_stored_lease_is_cut_to_the_longest_allowed(
    start_server: StartServer, name: str
) -> None:
    server = start_server(*HASTY, "--working-timeout", "900")
    async with connected(server.address) as client:
        agent = await register(client.agents, name)
        await beat(client.bus, agent, lease=3_600)
        assert server.stop() == 0
    change(server.db, "UPDATE presence SET lease_end_time = lease_end_time + 86400000000")
    server.start()
    async with connected(server.address) as client:
        _, before, _ = stored(server.db, name)
        await client.agents.GetAgent(GetAgentRequest(), metadata=agent.metadata)
        await until(lambda: stored(server.db, name)[1] > before)
        _, last_seen, lease_end = stored(server.db, name)
        assert 3_500 < (lease_end - last_seen) / 1e6 <= 3_601
