"""Notices do not depend on wall clocks: none that is set makes one early, late or missing."""

import time
from pathlib import Path

import pytest

from tests.clocks import DAY, MINUTES, WallClock
from tests.conftest import StartServer
from tests.connections import connected
from tests.peers import Peer, registered
from tests.requests import alive, ask, listed, noticed, notices_in, read_up_to

#: Agents are idle for long after a second. Other servers are read at once.
HASTY = (
    *("--heartbeat-interval", "0.5", "--agent-timeout", "1"),
    *("--checkpoint-interval", "0.05", "--fallback-interval", "0.1"),
)

pytestmark = [pytest.mark.slow, pytest.mark.sqlite]

steps = pytest.mark.parametrize("step", [-DAY, -MINUTES, 2 * DAY])


@pytest.fixture
def wall(tmp_path: Path) -> WallClock:
    """The wall clock of the servers in the test."""
    return WallClock(tmp_path)


@steps
async def test_a_request_is_overdue_after_its_time_whatever_the_clock_does(
    start_server: StartServer, wall: WallClock, name: str, step: float
) -> None:
    server = start_server(*HASTY, environment=wall.environment)
    async with connected(server.address, name) as client:
        asker = await registered(client.agents, client.bus, "asker")
        reviewer = await alive(await registered(client.agents, client.bus, "reviewer"))
        began = time.monotonic()
        long = await ask(asker, name, reviewer.name, within=3_600)
        seq = await ask(asker, name, reviewer.name, within=1)
        wall.set(step)
        await alive(reviewer)
        overdue = ("OVERDUE", seq, reviewer.name)
        assert await noticed(asker, name, 1) == [overdue]
        assert time.monotonic() - began >= 1
        # Set again, it does not make the notice come twice.
        wall.set(-step)
        second = await ask(asker, name, reviewer.name, within=0.1)
        assert await noticed(asker, name, 2) == [overdue, ("OVERDUE", second, reviewer.name)]
        found = {each.seq: each for each in await listed(asker, thread=name)}
        due, created = (
            each.ToMicroseconds() for each in (found[long].due_time, found[long].create_time)
        )
        assert due - created == 3_600_000_000


@steps
@pytest.mark.parametrize("how", ["stopped", "killed"])
async def test_a_request_is_overdue_after_a_restart_though_the_clock_was_set(
    start_server: StartServer, wall: WallClock, name: str, step: float, how: str
) -> None:
    server = start_server(*HASTY, environment=wall.environment)
    async with connected(server.address, name) as client:
        asker = await registered(client.agents, client.bus, "asker")
        reviewer = await alive(await registered(client.agents, client.bus, "reviewer"))
        await ask(asker, name, reviewer.name, within=3_600)
        began = time.monotonic()
        seq = await ask(asker, name, reviewer.name, within=2)
        if how == "stopped":
            assert server.stop() == 0
        else:
            server.kill()
    wall.set(step)
    server.start()
    async with connected(server.address) as client:
        asker = Peer(client.bus, asker.caller)
        assert await noticed(asker, name, 1) == [("OVERDUE", seq, reviewer.name)]
        assert time.monotonic() - began >= 2


@steps
async def test_an_idle_agent_is_noticed_once_whatever_the_clock_does(
    start_server: StartServer, wall: WallClock, name: str, step: float
) -> None:
    server = start_server(*HASTY, environment=wall.environment)
    async with connected(server.address, name) as client:
        asker = await registered(client.agents, client.bus, "asker")
        reviewer = await alive(await registered(client.agents, client.bus, "reviewer"))
        wanted = []
        for ahead in (step, 0.0):
            seq = await ask(asker, name, reviewer.name)
            began = time.monotonic()
            await read_up_to(reviewer, name, seq)
            wall.set(ahead)
            wanted.append(("AGENT_IDLE", seq, reviewer.name))
            assert await noticed(asker, name, len(wanted)) == wanted
            assert time.monotonic() - began >= 1
        await alive(reviewer, lease=0.05)
        wanted += [("AGENT_LAPSED", seq, reviewer.name) for _, seq, _ in wanted]
        assert sorted(await noticed(asker, name, 4)) == sorted(wanted)


@pytest.mark.parametrize("steps_of", [(0, -DAY), (-DAY, 0), (0, MINUTES), (2 * DAY, 0)])
async def test_servers_with_different_clocks_tell_once(
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
        asker = await registered(client.agents, client.bus, "asker")
        reviewer = await registered(other.agents, other.bus, "reviewer")
        wanted = []
        for _ in range(2):
            await alive(reviewer)
            seq = await ask(asker, name, reviewer.name, within=1)
            wanted.append(("OVERDUE", seq, reviewer.name))
            assert await noticed(asker, name, len(wanted)) == wanted
        await alive(reviewer, lease=0.05)
        wanted += [("AGENT_LAPSED", seq, reviewer.name) for _, seq, _ in wanted]
        assert sorted(await noticed(asker, name, 4)) == sorted(wanted)
        assert notices_in(await Peer(other.bus).read(name)) == await noticed(asker, name, 4)
