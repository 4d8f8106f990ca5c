"""Threads are listed last active first even if the wall clock is set."""

import time
from pathlib import Path

import pytest

from tests.clocks import DAY, MINUTES, WallClock
from tests.conftest import StartServer
from tests.connections import Connection, connected
from tests.peers import Peer
from threadbus.v1.thread_pb2 import Thread
from threadbus.v1.thread_service_pb2 import (
    CreateThreadRequest,
    GetThreadRequest,
    ListThreadsRequest,
)

pytestmark = [pytest.mark.slow, pytest.mark.sqlite]

steps = pytest.mark.parametrize("step", [-DAY, -MINUTES, -0.2, 2 * DAY])


@pytest.fixture
def wall(tmp_path: Path) -> WallClock:
    """The wall clock of the test's servers."""
    return WallClock(tmp_path)


async def create(client: Connection, *names: str) -> None:
    for name in names:
        await client.threads.CreateThread(CreateThreadRequest(thread=name))


async def post(client: Connection, *names: str) -> None:
    for name in names:
        await Peer(client.bus).post(name)


async def page(client: Connection, size: int, token: str = "") -> tuple[list[str], str]:
    """Returns the names of a page's threads, and the token of the next page."""
    request = ListThreadsRequest(page_size=size, page_token=token)
    answer = await client.threads.ListThreads(request)
    return [thread.name for thread in answer.threads], answer.next_page_token


async def listed(client: Connection, size: int) -> list[str]:
    """Returns the names of all threads, read in pages of this size."""
    names, token = await page(client, size)
    while token:
        more, token = await page(client, size, token)
        names += more
    return names


@steps
async def test_threads_are_listed_last_active_first(
    start_server: StartServer, wall: WallClock, step: float
) -> None:
    server = start_server(environment=wall.environment)
    async with connected(server.address) as client:
        await create(client, *"abcdef")
        await post(client, "b", "d")
        wall.set(step)
        await post(client, "c", "b")
        await create(client, "new")
        for size in (1, 3, 10):
            assert await listed(client, size) == ["new", "b", "c", "d", "f", "e", "a"]
        assert server.stop() == 0
    wall.set(2 * step)
    server.start()
    async with connected(server.address) as client:
        await post(client, "a")
        for size in (1, 3, 10):
            assert await listed(client, size) == ["a", "new", "b", "c", "d", "f", "e"]


@steps
async def test_times_are_shown_as_the_wall_clock_had_them(
    start_server: StartServer, wall: WallClock, name: str, step: float
) -> None:
    server = start_server(environment=wall.environment)

    async def told(name: str) -> Thread:
        return (await client.threads.GetThread(GetThreadRequest(thread=name))).thread

    async with connected(server.address) as client:
        before = time.time()
        await create(client, name)
        wall.set(step)
        first = (await Peer(client.bus).post(name, request_id="1")).create_time
        await create(client, f"{name}-2")
        created = (await told(name)).create_time.ToMicroseconds() / 1e6
        assert before - 1 < created < time.time() + 1
        assert (await told(name)).update_time == first
        created = (await told(f"{name}-2")).create_time.ToMicroseconds() / 1e6
        assert before - 1 < created - step < time.time() + 1
        again = await Peer(client.bus).post(name, request_id="1")
        assert (again.deduplicated, again.create_time) == (True, first)


@pytest.mark.parametrize("step", [-DAY, -MINUTES])
async def test_servers_on_a_file_agree_on_the_order(
    start_server: StartServer, wall: WallClock, step: float
) -> None:
    # A hint would come before the look at the file that tells the other server.
    flags = ("--fallback-interval", "0.1", "--hints", "off")
    here, there = [start_server(*flags, environment=wall.environment) for _ in range(2)]
    async with connected(here.address) as client, connected(there.address) as other:
        await create(client, *"abcd")
        wall.set(step)
        await post(client, "a")
        wall.set(0)  # and back, before the other server has looked
        await wait_until_other_knows(client, other)
        await post(other, "b")
        await post(client, "c")
        await post(other, "d")
        for at in (client, other):
            assert await listed(at, 3) == [*"dcba"]


async def wait_until_other_knows(client: Connection, other: Connection) -> None:
    """Wait until the other server knows what was posted through this one."""
    async with Peer(other.bus).wait("a") as frames:
        await frames.until("caught_up")
        await post(client, "a")
        await frames.messages(1)
