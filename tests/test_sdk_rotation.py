"""Clients at work while their agent's token is rotated, against a real server."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bus_client import BusClient, Post
from bus_client.credentials import agent_token
from tests.callers import Caller
from tests.members import contents, take
from tests.peers import Peer
from tests.polling import until_known
from tests.rotation import expired
from tests.serving import BusStub, ServerProcess
from tests.wait_frames import BOUND

GRACE = 1.0  # seconds, in which the new token is stored


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    return tmp_path / "credentials.json"


@pytest.fixture
async def client(server: ServerProcess, name: str, credentials: Path) -> AsyncIterator[BusClient]:
    async with BusClient(server.address, agent=name, credentials=credentials) as bus:
        yield bus


@pytest.fixture
async def second(
    server: ServerProcess, name: str, credentials: Path, client: BusClient
) -> AsyncIterator[BusClient]:
    """Another client of the same agent, as in another process."""
    assert credentials.exists()
    async with BusClient(server.address, agent=name, credentials=credentials) as bus:
        yield bus


@pytest.mark.slow
async def test_followers_of_both_clients_get_each_message_once_when_the_old_token_expires(
    client: BusClient, second: BusClient, bus: BusStub, thread: str, credentials: Path
) -> None:
    old = Caller(client.agent, agent_token(credentials, client.server, client.agent))
    first, other = await client.join(thread), await second.join(thread)
    following = [handle.follow(acknowledge=False) for handle in (first, other)]
    await Peer(bus).post(thread, "before")
    assert [await take(messages, 1) for messages in following] == [["before"], ["before"]]
    await client.rotate_token(grace=GRACE)
    await Peer(bus).post(thread, "in grace")
    await until_known(lambda: expired(bus, old))
    await Peer(bus).post(thread, "after")
    expected = ["in grace", "after"]
    assert [await take(messages, 2) for messages in following] == [expected, expected]
    posted = [await handle.post("mine") for handle in (first, other)]
    assert [answer.seq for answer in posted] == [4, 5]


async def test_a_follower_goes_on_when_its_client_ends_the_token_at_once(
    client: BusClient, bus: BusStub, thread: str
) -> None:
    messages = (await client.join(thread)).follow()
    await Peer(bus).post(thread, "before")
    assert await take(messages, 1) == ["before"]
    await client.rotate_token(grace=0)
    await Peer(bus).post(thread, "after")
    assert await take(messages, 1) == ["after"]


@pytest.mark.parametrize("rotator", ["client", "second"])
async def test_post_many_goes_on_with_the_new_token(
    client: BusClient, second: BusClient, thread: str, rotator: str
) -> None:
    rotated = asyncio.Event()

    async def posts() -> AsyncIterator[Post]:
        yield Post("before")
        await rotated.wait()
        yield Post("after")

    handle = await client.join(thread)
    async with asyncio.timeout(BOUND):
        results = handle.post_many(posts())
        await anext(results)
        await (client if rotator == "client" else second).rotate_token(grace=0)
        rotated.set()
        assert [result async for result in results]
    assert contents(await handle.messages()) == ["before", "after"]


async def test_an_agents_calls_go_on_when_its_other_client_ends_the_token(
    client: BusClient, second: BusClient
) -> None:
    await client.rotate_token(grace=0)
    assert (await second.get_agent()).name == client.agent
    await second.rotate_token(grace=0)
    assert (await client.get_agent()).name == client.agent
