"""Wall clocks that are set: a rotated token works for exactly its grace period."""

import time
from pathlib import Path

import pytest

from tests.callers import Caller, register
from tests.clocks import DAY, MINUTES, WallClock, change
from tests.conftest import StartServer
from tests.connections import connected
from tests.peers import Peer
from tests.polling import until_known
from tests.refusals import refused
from tests.rotation import caller_name, expired, rotate
from tests.wait_frames import seconds
from threadbus.v1.agent_service_pb2 import RegisterAgentRequest

#: Grace periods in seconds: a short one, and one that outlasts the test.
BRIEF, LONG = seconds(1), seconds(600)

pytestmark = [pytest.mark.slow, pytest.mark.sqlite]

steps = pytest.mark.parametrize("step", [-DAY, -MINUTES, 2 * DAY])


@pytest.fixture
def wall(tmp_path: Path) -> WallClock:
    """The wall clock of the test's server."""
    return WallClock(tmp_path)


@steps
@pytest.mark.parametrize("fallback", [0, 0.1])
async def test_the_grace_period_ends_on_time_whatever_the_clock_does(
    start_server: StartServer, wall: WallClock, name: str, step: float, fallback: float
) -> None:
    # With the fallback the token is looked up again and again; without it, once.
    flags = ("--fallback-interval", str(fallback))
    server = start_server(*flags, environment=wall.environment)
    async with connected(server.address, name) as client:
        brief, long = [await register(client.agents, f"{name}-{n}") for n in range(2)]
        async with Peer(client.bus, brief).wait(name) as ending:
            await ending.until("caught_up")
            began = time.monotonic()
            new = await rotate(client.agents, brief, BRIEF)
            await rotate(client.agents, long, LONG)
            wall.set(step)
            assert not await expired(client.bus, brief) or time.monotonic() - began > 1
            await until_known(lambda: expired(client.bus, brief))
            assert time.monotonic() - began >= 1
            assert (await refused(ending.failure())).reason == "TOKEN_EXPIRED"
        assert await caller_name(client.bus, new) == brief.name
        assert await caller_name(client.bus, long) == long.name


@steps
async def test_what_a_token_may_do_in_its_grace_period_does_not_depend_on_the_clock(
    start_server: StartServer, wall: WallClock, name: str, step: float
) -> None:
    server = start_server(environment=wall.environment)
    async with connected(server.address, name) as client:
        first = await register(client.agents, name)
        async with Peer(client.bus, first).wait(name) as frames:
            await frames.until("caught_up")
            lost = await rotate(client.agents, first, LONG)
            wall.set(step)
            request = RegisterAgentRequest(agent=name, token=first.token)
            assert (await client.agents.RegisterAgent(request)).agent.name == name
            again = await rotate(client.agents, first, LONG)
            assert [await caller_name(client.bus, caller) for caller in (first, lost, again)] == [
                name
            ] * 3
            await Peer(client.bus, again).post(name)
            assert len(await frames.messages(1)) == 1
        await rotate(client.agents, again)
        assert await expired(client.bus, again)


@steps
async def test_the_grace_period_continues_over_a_restart_though_the_clock_was_set(
    start_server: StartServer, wall: WallClock, name: str, step: float
) -> None:
    server = start_server(environment=wall.environment)
    async with connected(server.address) as client:
        brief, long = [await register(client.agents, f"{name}-{n}") for n in range(2)]
        await rotate(client.agents, brief, BRIEF)
        await rotate(client.agents, long, LONG)
        server.kill()
    wall.set(step)
    server.start()
    async with connected(server.address) as client:
        assert await caller_name(client.bus, long) == long.name
        await until_known(lambda: expired(client.bus, brief))


@pytest.mark.parametrize("step", [-DAY, -MINUTES])
async def test_no_grace_period_starts_again_after_a_boot_with_a_clock_that_went_back(
    start_server: StartServer, wall: WallClock, name: str, step: float
) -> None:
    server = start_server(environment=wall.environment)
    async with connected(server.address) as client:
        ended, brief = [await register(client.agents, f"{name}-{n}") for n in range(2)]
        await rotate(client.agents, ended)
        await rotate(client.agents, brief, BRIEF)
        assert server.stop() == 0
    change(server.db, "UPDATE clock SET boot = 'an earlier one'")
    wall.set(step)
    server.start()
    async with connected(server.address) as client:
        assert await expired(client.bus, ended)
        await until_known(lambda: expired(client.bus, brief))


async def test_a_stored_token_ends_within_an_hour(start_server: StartServer, name: str) -> None:
    server = start_server()
    async with connected(server.address) as client:
        agent = await register(client.agents, name)
        await rotate(client.agents, agent, LONG)
        assert server.stop() == 0
    change(server.db, "UPDATE token SET expire_time = expire_time + 86400000000 WHERE expire_time")
    server.start()
    async with connected(server.address) as client:
        assert await caller_name(client.bus, agent) == name
        assert server.stop() == 0
    # As if an hour had passed since.
    change(server.db, "UPDATE clock SET base = base + 3600000000")
    server.start()
    async with connected(server.address) as client:
        assert await expired(client.bus, agent)


async def test_servers_with_different_clocks_end_a_token_at_the_same_time(
    start_server: StartServer, tmp_path: Path, name: str
) -> None:
    servers = []
    for number, step in enumerate((-DAY, 2 * DAY)):
        folder = tmp_path / str(number)
        folder.mkdir()
        wall = WallClock(folder)
        wall.set(step)
        flags = ("--fallback-interval", "0.1")
        servers.append(start_server(*flags, environment=wall.environment))
    here, there = servers
    async with connected(here.address) as client, connected(there.address) as other:

        async def is_known_there(caller: Caller) -> bool:
            return not await expired(other.bus, caller)

        for at in (client, other):
            brief, long = [await register(at.agents, f"{name}-{n}-{id(at)}") for n in range(2)]
            await rotate(at.agents, brief, BRIEF)
            await rotate(at.agents, long, LONG)
            for seen in (client, other):
                await until_known(lambda: expired(seen.bus, brief))  # noqa: B023 - awaited here
                assert await caller_name(seen.bus, long) == long.name
