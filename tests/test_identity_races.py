"""Tokens that expire during a lookup in the store, or through another server."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from bus_server.auth import Auth, Caller, token_hash
from bus_server.errors import TokenExpired, TokenInvalid
from bus_server.presence.changes import Changes
from bus_server.presence.token_uses import TokenUses
from bus_server.store import Command, RegisterAgent, RotateToken, TokenOwner, UnregisterAgent
from bus_server.store.interface import Store
from bus_server.store.sqlite.store import SqliteStore
from tests.callers import register
from tests.conftest import StartServer
from tests.connections import Connection, connected
from tests.own_bus import opened
from tests.peers import Peer
from tests.polling import until_known
from tests.refusals import refused
from tests.serving import ServerProcess
from threadbus.v1.agent_pb2 import Agent
from threadbus.v1.agent_service_pb2 import RotateTokenRequest, UnregisterAgentRequest
from threadbus.v1.bus_service_pb2 import GetServerInfoRequest

AUTHORIZATION = "Bearer old"
NEXT = token_hash("new")


class SlowOwner:
    """A store whose first lookup of a token is delayed."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.on_its_way = asyncio.Event()
        self.arrives = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def owner(self, hashed: bytes) -> TokenOwner | None:
        """Returns the owner of a token; the first result is held back until it is released."""
        owner = await self._store.owner(hashed)
        if not self.on_its_way.is_set():
            self.on_its_way.set()
            await self.arrives.wait()
        return owner


@pytest.mark.parametrize(
    ("end", "error"),
    [
        (UnregisterAgent("coder"), TokenInvalid),
        (RotateToken(token_hash("old"), NEXT, expire_time=2), TokenExpired),
    ],
    ids=["unregistered", "rotated"],
)
async def test_a_token_that_expires_during_its_lookup_is_not_cached(
    tmp_path: Path, end: Command[None], error: type[Exception]
) -> None:
    async with opened(tmp_path / "bus.db") as store, asyncio.timeout(20):
        await store.commit([RegisterAgent(Agent(name="coder"), token_hash("old"), operator=False)])
        slow = SlowOwner(store)
        auth = Auth(cast("Store", slow), TokenUses(Changes(), store.clock), required=False)
        looking_up = asyncio.create_task(cast("Any", auth.authenticate(AUTHORIZATION)))
        await slow.on_its_way.wait()
        await store.commit([end])
        auth.clear_cache()
        slow.arrives.set()
        for identified in (looking_up, auth.authenticate(AUTHORIZATION)):
            with pytest.raises(error):
                await identified


async def test_a_lookup_serves_no_call_that_begins_after_tokens_ended(tmp_path: Path) -> None:
    async with opened(tmp_path / "bus.db") as store, asyncio.timeout(20):
        await store.commit([RegisterAgent(Agent(name="coder"), token_hash("old"), operator=False)])
        slow = SlowOwner(store)
        auth = Auth(cast("Store", slow), TokenUses(Changes(), store.clock), required=False)
        before = asyncio.create_task(cast("Any", auth.authenticate(AUTHORIZATION)))
        await slow.on_its_way.wait()
        await store.commit([UnregisterAgent("coder")])
        auth.clear_cache()
        with pytest.raises(TokenInvalid):
            await auth.authenticate(AUTHORIZATION)
        slow.arrives.set()
        with pytest.raises(TokenInvalid):
            await before


async def test_a_lookup_refuses_no_call_that_begins_after_the_token_was_created(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path / "bus.db") as store, asyncio.timeout(20):
        slow = SlowOwner(store)
        auth = Auth(cast("Store", slow), TokenUses(Changes(), store.clock), required=False)
        before = asyncio.create_task(cast("Any", auth.authenticate(AUTHORIZATION)))
        await slow.on_its_way.wait()
        await store.commit([RegisterAgent(Agent(name="coder"), token_hash("old"), operator=False)])
        auth.now_valid(token_hash("old"))
        assert (await auth.authenticate(AUTHORIZATION)).name == "coder"
        slow.arrives.set()
        with pytest.raises(TokenInvalid):
            await before


async def test_a_known_caller_is_looked_up_once(tmp_path: Path) -> None:
    looked_up = 0

    class Counting(SlowOwner):
        async def owner(self, hashed: bytes) -> TokenOwner | None:
            nonlocal looked_up
            looked_up += 1
            return await self._store.owner(hashed)

    async with opened(tmp_path / "bus.db") as store:
        await store.commit([RegisterAgent(Agent(name="coder"), token_hash("old"), operator=False)])
        counting = cast("Store", Counting(store))
        auth = Auth(counting, TokenUses(Changes(), store.clock), required=False)
        callers: set[Caller] = {await auth.authenticate(AUTHORIZATION) for _ in range(3)}
    assert ([caller.name for caller in callers], looked_up) == (["coder"], 1)


# ── Through two servers ─────────────────────────────────────────────────────────────────────────


@pytest.fixture
def pair(start_server: StartServer) -> Iterator[list[ServerProcess]]:
    """Two servers on one file."""
    yield [start_server("--fallback-interval", "0.1") for _ in range(2)]


async def unregister(at: Connection, peer: Peer) -> None:
    await at.agents.UnregisterAgent(UnregisterAgentRequest(), metadata=peer.metadata)


async def rotate(at: Connection, peer: Peer) -> None:
    await at.agents.RotateToken(RotateTokenRequest(), metadata=peer.metadata)


async def rotate_soon(at: Connection, peer: Peer) -> None:
    request = RotateTokenRequest(grace=Duration(nanos=500_000_000))
    await at.agents.RotateToken(request, metadata=peer.metadata)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("end", "reason"),
    [(unregister, "TOKEN_INVALID"), (rotate, "TOKEN_EXPIRED"), (rotate_soon, "TOKEN_EXPIRED")],
)
async def test_another_server_learns_that_a_token_ended_and_ends_its_waits(
    pair: list[ServerProcess],
    name: str,
    end: Callable[[Connection, Peer], Awaitable[None]],
    reason: str,
) -> None:
    async with connected(pair[0].address, name) as here, connected(pair[1].address) as there:
        peer = Peer(here.bus, await register(here.agents, name))
        request = GetServerInfoRequest()
        assert (await here.bus.GetServerInfo(request, metadata=peer.metadata)).agent == name
        async with (
            peer.wait(name, keepalive=300) as its,
            Peer(here.bus).wait(name) as anybodys,
        ):
            for frames in (its, anybodys):
                await frames.until("caught_up")
            await end(there, peer)
            refusal = await refused(its.failure())
            assert refusal.reason == reason

            async def ended() -> bool:
                call = here.bus.GetServerInfo(request, metadata=peer.metadata)
                return await call.code() == grpc.StatusCode.UNAUTHENTICATED

            await until_known(ended, within=5)
            await Peer(here.bus).post(name)
            assert len(await anybodys.messages(1)) == 1
