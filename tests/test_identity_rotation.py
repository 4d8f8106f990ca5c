"""RotateToken: a new token replaces an old one, at once or after a grace period."""

import asyncio
import contextlib
import hashlib
import sqlite3
import time

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from bus_server.auth import token_hash
from tests.callers import Caller, operator, register
from tests.conftest import StartServer
from tests.connections import connected
from tests.own_bus import opened
from tests.peers import Peer
from tests.polling import until_known
from tests.refusals import refused
from tests.rotation import caller_name, expired, rotate
from tests.rpcs import RPCS, good_request, nothing_stored
from tests.serving import AgentStub, BusStub, ServerProcess
from tests.wait_frames import seconds
from threadbus.v1.agent_service_pb2 import RegisterAgentRequest, RotateTokenRequest

#: Seconds.
GRACE = 0.3


@pytest.fixture
async def agent(agents: AgentStub, name: str) -> Caller:
    """A newly registered agent."""
    return await register(agents, name)


async def test_the_new_token_works_and_the_old_one_ends_at_once(
    channel: grpc.aio.Channel, agents: AgentStub, bus: BusStub, agent: Caller, thread: str
) -> None:
    assert await caller_name(bus, agent) == agent.name
    new = await rotate(agents, agent)
    assert await caller_name(bus, new) == agent.name
    assert new.token != agent.token
    assert len(new.token) >= 32
    async with nothing_stored(channel):
        for rpc in RPCS:
            data = good_request(rpc, thread).SerializeToString()
            refusal = await refused(rpc.call(channel, data, metadata=agent.metadata))
            assert refusal.reason == "TOKEN_EXPIRED"


async def test_messages_written_with_the_old_token_are_still_the_agents_own(
    agents: AgentStub, bus: BusStub, agent: Caller, thread: str
) -> None:
    await Peer(bus, agent).post(thread, "frist", request_id="one")
    new = Peer(bus, await rotate(agents, agent))
    again = await new.post(thread, "frist", request_id="one")
    assert (again.seq, again.deduplicated) == (1, True)
    assert (await new.post(thread, "first", edit_of=1)).seq == 2


async def test_during_the_grace_period_both_tokens_work(
    agents: AgentStub, bus: BusStub, agent: Caller
) -> None:
    new = await rotate(agents, agent, Duration(seconds=60))
    assert [await caller_name(bus, caller) for caller in (agent, new)] == [agent.name, agent.name]
    # The response was lost, so it retries.
    again = await rotate(agents, agent, Duration(seconds=60))
    assert [await caller_name(bus, caller) for caller in (agent, new, again)] == [agent.name] * 3
    await rotate(agents, agent)
    assert await expired(bus, agent)


@pytest.mark.sqlite
async def test_the_grace_period_is_an_hour_at_most(
    agents: AgentStub, agent: Caller, server: ServerProcess
) -> None:
    await rotate(agents, agent, Duration(seconds=7_200))
    hashed = hashlib.sha256(agent.token.encode()).digest()
    with contextlib.closing(sqlite3.connect(server.db)) as db:
        query = "SELECT expire_time FROM token WHERE hash = ?"
        (expire_time,) = db.execute(query, (hashed,)).fetchone()
    assert 3_500 < expire_time / 1e6 - time.time() <= 3_600


@pytest.mark.slow
async def test_the_old_token_ends_with_the_grace_period(
    agents: AgentStub, bus: BusStub, agent: Caller
) -> None:
    before = time.time()
    new = await rotate(agents, agent, seconds(GRACE))
    await until_known(lambda: expired(bus, agent))
    assert time.time() - before >= GRACE  # and not earlier
    assert await caller_name(bus, new) == agent.name


@pytest.mark.slow
async def test_waits_opened_with_the_old_token_end_with_it_and_others_go_on(
    start_server: StartServer, name: str
) -> None:
    server = start_server("--fallback-interval", "0")  # which would end them, too, only later
    async with connected(server.address, name) as client:
        agent, other = [await register(client.agents, f"{name}-{role}") for role in "ab"]
        old, others = Peer(client.bus, agent), Peer(client.bus, other)
        async with old.wait(name) as ending, others.wait(name) as going_on:
            for frames in (ending, going_on):
                await frames.until("caught_up")
            await rotate(client.agents, agent)
            refusal = await refused(ending.failure())
            assert (refusal.code, refusal.reason) == (
                grpc.StatusCode.UNAUTHENTICATED,
                "TOKEN_EXPIRED",
            )
            await others.post(name)
            assert len(await going_on.messages(1)) == 1


@pytest.mark.sqlite
async def test_a_grace_period_of_more_than_an_hour_is_shortened_to_it(
    agents: AgentStub, agent: Caller, server: ServerProcess
) -> None:
    before = time.time()
    await rotate(agents, agent, Duration(seconds=315_576_000_000))
    async with opened(server.db) as store:
        (expire_time,) = (await store.expire_times([token_hash(agent.token)])).values()
    assert before - 1 < expire_time / 1e6 - 3_600 < time.time() + 1


@pytest.mark.slow
@pytest.mark.parametrize("rotated", ["before", "after"])
async def test_waits_opened_with_the_old_token_end_with_the_grace_period(
    agents: AgentStub, bus: BusStub, agent: Caller, thread: str, rotated: str
) -> None:
    before = time.time()
    if rotated == "before":
        await rotate(agents, agent, seconds(GRACE))
    async with Peer(bus, agent).wait(thread, keepalive=300) as frames:
        if rotated == "after":
            await frames.until("caught_up")
            await rotate(agents, agent, seconds(GRACE))
        assert (await refused(frames.failure())).reason == "TOKEN_EXPIRED"
    assert time.time() - before >= GRACE  # and not earlier


async def test_a_token_is_rotated_twice(agents: AgentStub, bus: BusStub, agent: Caller) -> None:
    second = await rotate(agents, agent)
    third = await rotate(agents, second)
    assert await expired(bus, second)
    assert await caller_name(bus, third) == agent.name
    assert await expired(bus, agent)
    assert (await refused(rotate(agents, second))).reason == "TOKEN_EXPIRED"


async def test_of_concurrent_rotations_without_a_grace_period_one_wins(
    agents: AgentStub, bus: BusStub, agent: Caller
) -> None:
    answers = await asyncio.gather(
        *(rotate(agents, agent) for _ in range(8)), return_exceptions=True
    )
    won = [answer for answer in answers if isinstance(answer, Caller)]
    assert [await caller_name(bus, caller) for caller in won] == [agent.name]
    assert await expired(bus, agent)


async def test_registering_again_with_a_token_that_ended_is_refused(
    channel: grpc.aio.Channel, agents: AgentStub, bus: BusStub, agent: Caller
) -> None:
    new = await rotate(agents, agent)
    request = RegisterAgentRequest(agent=agent.name, token=agent.token)
    async with nothing_stored(channel):
        assert (await refused(agents.RegisterAgent(request))).reason == "TOKEN_EXPIRED"
    request.token = new.token
    assert (await agents.RegisterAgent(request)).agent.name == agent.name


async def test_anonymous_and_the_operator_have_no_token_to_rotate(
    agents: AgentStub, bus: BusStub, server: ServerProcess
) -> None:
    assert (await refused(agents.RotateToken(RotateTokenRequest()))).reason == "TOKEN_INVALID"
    boss = operator(server)
    assert (await refused(rotate(agents, boss))).reason == "VALIDATION_FAILED"
    assert await caller_name(bus, boss) == "operator"


@pytest.mark.own_server
@pytest.mark.slow
async def test_tokens_are_the_same_after_a_restart(
    agents: AgentStub, bus: BusStub, agent: Caller, name: str, server: ServerProcess
) -> None:
    new = await rotate(agents, agent)
    graced = await register(agents, f"{name}-2")
    await rotate(agents, graced, Duration(seconds=60))
    server.kill()
    server.start()
    assert await caller_name(bus, new) == name
    assert await expired(bus, agent)
    assert await caller_name(bus, graced) == graced.name


async def test_only_the_newest_token_stays_valid_and_no_old_one_extends_itself(
    agents: AgentStub, bus: BusStub, agent: Caller
) -> None:
    lost = await rotate(agents, agent, seconds(GRACE))  # as when its response was lost
    new = await rotate(agents, agent, seconds(3_600))
    assert await caller_name(bus, lost) == await caller_name(bus, new) == agent.name
    await until_known(lambda: expired(bus, agent))
    newest = await rotate(agents, new)
    for ended in (lost, new):
        refusal = await refused(caller_name(bus, ended))
        assert refusal.reason in ("TOKEN_EXPIRED", "TOKEN_INVALID")
    assert await caller_name(bus, newest) == agent.name
