"""UnregisterAgent: the agent is removed, its messages stay, its name is never registered again."""

import secrets

import grpc
import pytest

from tests.callers import Caller, operator, register
from tests.participation import join, participants
from tests.peers import Peer, registered
from tests.refusals import refused
from tests.rpcs import RPCS, good_request, nothing_stored, pages
from tests.serving import AgentStub, BusStub, ServerProcess, ThreadStub
from threadbus.v1.agent_service_pb2 import (
    GetAgentRequest,
    ListAgentsRequest,
    RegisterAgentRequest,
    UnregisterAgentRequest,
)
from threadbus.v1.bus_service_pb2 import GetServerInfoRequest
from threadbus.v1.thread_service_pb2 import ListThreadsRequest


@pytest.fixture
async def agent(agents: AgentStub, bus: BusStub) -> Peer:
    """A newly registered agent."""
    return await registered(agents, bus, "coder")


@pytest.fixture
def boss(bus: BusStub, server: ServerProcess) -> Peer:
    """The operator."""
    return Peer(bus, operator(server))


async def unregister(agents: AgentStub, name: str, by: Peer) -> None:
    await agents.UnregisterAgent(UnregisterAgentRequest(agent=name), metadata=by.metadata)


async def test_an_agent_unregisters_itself(agents: AgentStub, agent: Peer) -> None:
    await unregister(agents, "", by=agent)
    refusal = await refused(agents.GetAgent(GetAgentRequest(agent=agent.name)))
    assert (refusal.reason, refusal.resources) == ("AGENT_NOT_FOUND", [("agent", agent.name)])
    listed = await pages(agents.ListAgents, ListAgentsRequest(page_size=1_000))
    assert agent.name not in [found.name for page in listed for found in page.agents]


async def test_an_operator_unregisters_any_agent_once(
    agents: AgentStub, agent: Peer, boss: Peer
) -> None:
    await unregister(agents, agent.name, by=boss)
    for gone in (agent.name, "nobody", "operator"):
        refusal = await refused(unregister(agents, gone, by=boss))
        assert (refusal.reason, refusal.resources) == ("AGENT_NOT_FOUND", [("agent", gone)])


async def test_no_other_agent_unregisters_an_agent_or_learns_whether_it_exists(
    channel: grpc.aio.Channel, agents: AgentStub, bus: BusStub, agent: Peer
) -> None:
    another = await registered(agents, bus, "another")
    for peer in (another, Peer(bus)):
        for whom in (agent.name, "nobody", "no name"):
            async with nothing_stored(channel):
                refusal = await refused(unregister(agents, whom, by=peer))
            assert refusal.reason == "ACCESS_DENIED"


async def test_anonymous_and_the_operator_cannot_be_unregistered(
    agents: AgentStub, bus: BusStub, boss: Peer
) -> None:
    for peer in (Peer(bus), boss):
        refusal = await refused(unregister(agents, "", by=peer))
        assert (refusal.reason, refusal.fields) == ("VALIDATION_FAILED", ["agent"])


async def test_an_unregistered_agents_token_is_refused_at_once_by_every_call(
    channel: grpc.aio.Channel, agents: AgentStub, agent: Peer, boss: Peer, thread: str
) -> None:
    await agent.post(thread)  # so that the server has cached it
    await unregister(agents, agent.name, by=boss)
    async with nothing_stored(channel):
        for rpc in RPCS:
            data = good_request(rpc, thread).SerializeToString()
            refusal = await refused(rpc.call(channel, data, metadata=agent.metadata))
            assert refusal.reason == "TOKEN_INVALID"


async def test_an_unregistered_agents_waits_end_and_those_of_others_go_on(
    agents: AgentStub, bus: BusStub, agent: Peer, boss: Peer, thread: str
) -> None:
    another = await registered(agents, bus, "another")
    async with agent.wait(thread) as its, another.wait(thread) as others:
        for frames in (its, others):
            await frames.until("caught_up")
        await unregister(agents, agent.name, by=boss)
        refusal = await refused(its.failure())
        assert (refusal.code, refusal.reason) == (
            grpc.StatusCode.UNAUTHENTICATED,
            "TOKEN_INVALID",
        )
        assert agent.name in refusal.message
        await another.post(thread)
        assert len(await others.messages(1)) == 1


async def test_an_unregistered_agent_leaves_its_threads_and_its_messages_keep_its_name(
    agents: AgentStub, bus: BusStub, threads: ThreadStub, agent: Peer, thread: str
) -> None:
    another = await registered(agents, bus, "another")
    await join(threads, thread, agent)
    await agent.post(thread, "mine", mentions=[agent.name])
    await another.post(thread, "for you", handoff_to=agent.name)
    await unregister(agents, "", by=agent)
    assert list(await participants(threads, thread)) == [another.name]
    listed = await threads.ListThreads(ListThreadsRequest(participant=agent.name))
    assert list(listed.threads) == []
    first, second = await another.read(thread)
    assert (first.sender, list(first.mentions)) == (agent.name, [agent.name])
    assert second.handoff_to == agent.name


@pytest.mark.parametrize("field", ["mentions", "handoff_to"])
async def test_an_unregistered_agent_can_no_longer_be_addressed(
    channel: grpc.aio.Channel, agents: AgentStub, bus: BusStub, agent: Peer, thread: str, field: str
) -> None:
    await unregister(agents, "", by=agent)
    async with nothing_stored(channel):
        if field == "mentions":
            refusal = await refused(Peer(bus).post(thread, mentions=[agent.name]))
        else:
            refusal = await refused(Peer(bus).post(thread, handoff_to=agent.name))
    assert (refusal.reason, refusal.resources) == ("AGENT_NOT_FOUND", [("agent", agent.name)])


async def test_a_retry_of_a_post_that_named_it_is_still_recognised(
    agents: AgentStub, bus: BusStub, agent: Peer, thread: str
) -> None:
    fields = {"request_id": "one", "mentions": [agent.name]}
    first = await Peer(bus).post(thread, "x", **fields)
    await unregister(agents, "", by=agent)
    again = await Peer(bus).post(thread, "x", **fields)
    assert (again.seq, again.deduplicated) == (first.seq, True)


async def check_name_stays_taken(
    channel: grpc.aio.Channel, agents: AgentStub, boss: Peer, gone: Caller, thread: str
) -> None:
    """Check that an unregistered agent cannot come back without an operator."""
    async with nothing_stored(channel):
        for token in (gone.token, "", secrets.token_urlsafe(32)):
            request = RegisterAgentRequest(agent=gone.name, token=token)
            refusal = await refused(agents.RegisterAgent(request))
            assert (refusal.reason, refusal.resources) == ("AGENT_EXISTS", [("agent", gone.name)])
            assert "unregistered" in refusal.message
        assert (await refused(boss.post(thread, on_behalf_of=gone.name))).reason == "AGENT_EXISTS"


async def test_only_an_operator_registers_an_unregistered_name_again(
    channel: grpc.aio.Channel, agents: AgentStub, bus: BusStub, boss: Peer, name: str, thread: str
) -> None:
    gone = await register(agents, name)
    await Peer(bus, gone).post(thread)
    await unregister(agents, name, by=boss)
    await check_name_stays_taken(channel, agents, boss, gone, thread)
    back = await register(agents, name, boss.caller)
    assert (await Peer(bus, back).post(thread)).seq == 2
    refusal = await refused(Peer(bus, gone).post(thread))
    assert refusal.reason == "TOKEN_INVALID"


async def test_a_name_that_only_an_operator_posted_for_can_be_unregistered(
    channel: grpc.aio.Channel, agents: AgentStub, boss: Peer, name: str, thread: str
) -> None:
    await boss.post(thread, on_behalf_of=name)
    await unregister(agents, name, by=boss)
    never_had = Caller(name, secrets.token_urlsafe(32))
    await check_name_stays_taken(channel, agents, boss, never_had, thread)


@pytest.mark.own_server
@pytest.mark.slow
async def test_after_a_restart_it_is_still_unregistered(
    channel: grpc.aio.Channel,
    agents: AgentStub,
    bus: BusStub,
    server: ServerProcess,
    boss: Peer,
    name: str,
    thread: str,
) -> None:
    gone = await register(agents, name)
    await Peer(bus, gone).post(thread, "mine")
    await unregister(agents, name, by=boss)
    server.kill()
    server.start()
    await bus.GetServerInfo(GetServerInfoRequest(), wait_for_ready=True)
    await check_name_stays_taken(channel, agents, boss, gone, thread)
    refusal = await refused(bus.GetServerInfo(GetServerInfoRequest(), metadata=gone.metadata))
    assert refusal.reason == "TOKEN_INVALID"
    assert [message.sender for message in await Peer(bus).read(thread)] == [name]
