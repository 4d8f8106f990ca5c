"""A token that ends closes its streams, at the server where it ends and at others of the store."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from tests.callers import Caller, create_token, operator, with_token
from tests.connections import Connection, connected
from tests.open_wait import OpenWait, wait_request
from tests.polling import until_known
from tests.post_stream import PostStream, post_stream
from tests.refusals import read
from tests.server_pairs import Servers, admin, pair
from tests.serving import ServerProcess
from threadbus.v1.admin_service_pb2 import ListTokensRequest, RevokeTokenRequest
from threadbus.v1.agent_service_pb2 import RotateTokenRequest, UnregisterAgentRequest
from threadbus.v1.bus_service_pb2 import GetServerInfoRequest, PostMessageRequest
from threadbus.v1.thread_service_pb2 import JoinThreadRequest


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, chosen_store: None) -> Iterator[Servers]:
    """Two servers on one store; tokens are required."""
    with pair(tmp_path_factory.mktemp("pair") / "bus.db", "--auth", "required") as both:
        yield both


@pytest.fixture(scope="module")
def lone(tmp_path_factory: pytest.TempPathFactory, chosen_store: None) -> Iterator[ServerProcess]:
    """A server that never looks at what others have written."""
    flags = ("--auth", "required", "--fallback-interval", "0", "--hints", "off")
    db = tmp_path_factory.mktemp("lone") / "bus.db"
    with ServerProcess(db, *flags, "--checkpoint-interval", "0.05") as running:
        yield running


#: Where streams are open: at the server where their token ends, at another one, or at a lone one.
everywhere = pytest.mark.parametrize("where", ["here", "there", "alone"])


@contextlib.asynccontextmanager
async def connections(
    servers: Servers, lone: ServerProcess, where: str
) -> AsyncIterator[tuple[Connection, Connection, Caller]]:
    """Connections to where tokens end, and to where streams are open; and the operator."""
    ends, streams = {
        "here": (servers[0], servers[0]),
        "there": servers,
        "alone": (lone, lone),
    }[where]
    async with connected(ends.address) as here, connected(streams.address) as at:
        yield here, at, operator(ends)


@contextlib.asynccontextmanager
async def streams(
    client: Connection, caller: Caller, thread: str
) -> AsyncIterator[tuple[OpenWait, PostStream]]:
    """A wait, and a stream of posts that has posted once; both are open and idle."""
    request = wait_request([thread])
    wait = OpenWait(client.bus.WaitMessages(request, metadata=caller.metadata))
    try:
        await wait.until_started()
        async with post_stream(client.bus, metadata=caller.metadata) as stream:
            (result,) = await stream.post(PostMessageRequest(thread=thread, content="x"))
            assert result.response.seq
            yield wait, stream
    finally:
        await wait.close()


async def reasons(wait: OpenWait, stream: PostStream) -> list[str]:
    """Returns the reasons with which a wait and a stream of posts end; "" if they do not."""
    found = []
    for ending in (wait.ended(within=5), stream.results()):
        try:
            await ending
        except grpc.aio.AioRpcError as error:
            found.append(read(error).reason)
        else:
            found.append("")
    assert "ending" not in wait.kinds()
    return found


@everywhere
@pytest.mark.parametrize("how", ["revoked", "rotated", "reset", "unregistered", "lifetime"])
async def test_streams_end_with_their_token(
    servers: Servers, lone: ServerProcess, name: str, where: str, how: str
) -> None:
    async with connections(servers, lone, where) as (here, at, boss):
        join = JoinThreadRequest(thread=name, create=True)
        await here.threads.JoinThread(join, metadata=boss.metadata)
        lifetime = {"lifetime": Duration(nanos=700_000_000)} if how == "lifetime" else {}
        created = await create_token(here.channel, boss, name, **lifetime)
        caller = Caller(name, created.secret)
        other = await with_token(here.channel, boss, f"{name}-other")
        async with streams(at, caller, name) as ending, streams(at, other, name) as going_on:
            if how == "revoked":
                request = RevokeTokenRequest(token_id=created.token.token_id)
                await admin(here).RevokeToken(request, metadata=boss.metadata)
            elif how == "rotated":
                await here.agents.RotateToken(RotateTokenRequest(), metadata=caller.metadata)
            elif how == "reset":
                reset = RotateTokenRequest(agent=name)
                await here.agents.RotateToken(reset, metadata=boss.metadata)
            elif how == "unregistered":
                unregister = UnregisterAgentRequest(agent=name)
                await here.agents.UnregisterAgent(unregister, metadata=boss.metadata)
            reason = "TOKEN_INVALID" if how in ("revoked", "unregistered") else "TOKEN_EXPIRED"
            assert await reasons(*ending) == [reason, reason]
            (result,) = await going_on[1].post(PostMessageRequest(thread=name, content="last"))
            await going_on[0].until(lambda: result.response.seq in going_on[0].seqs(name))


async def test_accepted_posts_of_a_stream_are_answered_before_it_ends(
    lone: ServerProcess, name: str
) -> None:
    boss = operator(lone)
    async with connected(lone.address) as here:
        join = JoinThreadRequest(thread=name, create=True)
        await here.threads.JoinThread(join, metadata=boss.metadata)
        created = await create_token(here.channel, boss, name)
        metadata = Caller(name, created.secret).metadata
        posts = [PostMessageRequest(thread=name, content="x" * 1000) for _ in range(1000)]
        async with post_stream(here.bus, metadata=metadata) as stream:
            await stream.post(posts[0])
            await stream.send(*posts)
            revocation = RevokeTokenRequest(token_id=created.token.token_id)
            await admin(here).RevokeToken(revocation, metadata=boss.metadata)
            answered = 1
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                while True:
                    answered += len(await stream.results())
            assert read(raised.value).reason == "TOKEN_INVALID"
        joined = await here.threads.JoinThread(join, metadata=boss.metadata)
        assert joined.thread.head_seq == answered
        assert answered in (1, 1001)


@everywhere
@pytest.mark.parametrize("method", ["WaitMessages", "PostMessages"])
async def test_a_stream_that_opens_while_its_token_ends_ends_too(
    servers: Servers, lone: ServerProcess, name: str, where: str, method: str
) -> None:
    """It is authenticated before the token ends, and its request arrives afterwards."""
    async with connections(servers, lone, where) as (here, at, boss):
        join = JoinThreadRequest(thread=name, create=True)
        await here.threads.JoinThread(join, metadata=boss.metadata)
        created = await create_token(here.channel, boss, name)
        caller, token_id = Caller(name, created.secret), created.token.token_id

        async def used() -> bool:
            listing = ListTokensRequest(agent=name)
            answer = await admin(here).ListTokens(listing, metadata=boss.metadata)
            return answer.tokens[0].HasField("last_use_time")

        async def refused_now() -> bool:
            try:
                await at.bus.GetServerInfo(GetServerInfoRequest(), metadata=caller.metadata)
            except grpc.aio.AioRpcError:
                return True
            return False

        open_call: Any = at.channel.stream_stream(f"/threadbus.v1.BusService/{method}")
        call = open_call(metadata=caller.metadata)
        await until_known(used)
        revocation = RevokeTokenRequest(token_id=token_id)
        await admin(here).RevokeToken(revocation, metadata=boss.metadata)
        await until_known(refused_now)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            async with asyncio.timeout(5):
                if method == "WaitMessages":
                    await call.write(wait_request([name]).SerializeToString())
                    await call.done_writing()
                while await call.read() is not grpc.aio.EOF:
                    pass
        assert read(raised.value).reason == "TOKEN_INVALID"
