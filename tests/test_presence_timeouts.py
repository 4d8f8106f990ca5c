"""An agent's presence as time passes: leases, and what outlasts them.

The timeouts are short. Time is measured by the lease of another agent, which expires.
"""

import signal
import time
from collections.abc import Iterator

import pytest

from tests.callers import Caller, register
from tests.client_process import waiting_client
from tests.conftest import StartServer
from tests.connections import connected
from tests.peers import Peer
from tests.polling import until, until_known
from tests.presence import beat, seen, state, until_state
from tests.serving import AgentStub, BusStub, ServerProcess, ThreadStub
from tests.wait_frames import waiting
from threadbus.v1.agent_pb2 import PRESENCE_AWAITING_HUMAN, PRESENCE_WORKING
from threadbus.v1.agent_service_pb2 import GetAgentRequest
from threadbus.v1.message_pb2 import Cursor
from threadbus.v1.thread_service_pb2 import CreateThreadRequest

TIMEOUT = 0.4
HASTY = (
    *("--heartbeat-interval", "0.2", "--agent-timeout", str(TIMEOUT)),
    *("--working-timeout", "1.5", "--checkpoint-interval", "0.1"),
)
#: With them, work counts for longer than any test takes.
LONG_WORK = (*HASTY, "--working-timeout", "900")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, chosen_store: None) -> Iterator[ServerProcess]:
    """A server with short timeouts."""
    with ServerProcess(tmp_path_factory.mktemp("server") / "bus.db", *HASTY) as running:
        yield running


@pytest.fixture
async def agent(agents: AgentStub, name: str) -> Caller:
    """A newly registered agent."""
    return await register(agents, name)


async def timeouts_pass(bus: BusStub, agents: AgentStub, agent: Caller, count: int) -> None:
    """Return after `count` timeouts: another agent sends a heartbeat and lapses each time."""
    clock = await register(agents, f"{agent.name}-clock")
    for _ in range(count):
        await beat(bus, clock)
        await until_state(agents, clock.name, "LAPSED")


async def test_a_silent_agent_lapses_and_any_call_ends_that(
    agents: AgentStub, bus: BusStub, agent: Caller
) -> None:
    await beat(bus, agent, state=PRESENCE_AWAITING_HUMAN, status_text="need a decision")
    await until_state(agents, agent.name, "LAPSED", never="IDLE")
    assert (await seen(agents, agent.name)).status_text == "need a decision"
    await beat(bus, agent)
    assert await state(agents, agent.name) == "IDLE"


async def test_an_agent_that_beats_does_not_lapse(
    agents: AgentStub, bus: BusStub, agent: Caller
) -> None:
    clock = await register(agents, f"{agent.name}-clock")
    await beat(bus, clock)

    async def clock_lapsed_during_heartbeats() -> bool:
        await beat(bus, agent)
        assert await state(agents, agent.name) == "IDLE"
        return await state(agents, clock.name) == "LAPSED"

    await until_known(clock_lapsed_during_heartbeats)


async def test_a_wait_outlasts_ten_timeouts_and_its_end_is_the_last_activity(
    agents: AgentStub, bus: BusStub, agent: Caller, thread: str
) -> None:
    async with waiting(bus, thread, metadata=agent.metadata) as frames:
        await frames.until("caught_up")
        opened = (await seen(agents, agent.name)).last_seen_time.ToMicroseconds()
        await timeouts_pass(bus, agents, agent, 10)
        found = await seen(agents, agent.name)
        assert await state(agents, agent.name) == "WAITING"
        assert found.last_seen_time.ToMicroseconds() - opened > 10 * TIMEOUT * 1e6
    await until_state(agents, agent.name, "LAPSED")
    ended = (await seen(agents, agent.name)).last_seen_time
    assert ended.ToMicroseconds() >= found.last_seen_time.ToMicroseconds()


async def test_a_silent_model_turn_counts_as_work_for_the_working_timeout(
    agents: AgentStub, bus: BusStub, agent: Caller, thread: str
) -> None:
    await Peer(bus).post(thread, "think about this")
    async with waiting(bus, thread, max_wait=0, metadata=agent.metadata) as frames:
        await frames.ending()
    await timeouts_pass(bus, agents, agent, 2)
    assert await state(agents, agent.name) == "WORKING"
    await until_state(agents, agent.name, "LAPSED", never="IDLE")


async def test_an_agent_that_replied_and_is_silent_then_lapses_as_usual(
    agents: AgentStub, bus: BusStub, agent: Caller, thread: str
) -> None:
    other = await register(agents, f"{agent.name}-other")
    await Peer(bus).post(thread, "think about this")
    for one in (other, agent):
        async with waiting(bus, thread, max_wait=0, metadata=one.metadata) as frames:
            await frames.ending()
    await Peer(bus, agent).post(thread, "done")
    await until_state(agents, agent.name, "LAPSED")
    assert await state(agents, other.name) == "WORKING"


async def test_work_that_lasts_too_long_is_waiting_while_its_wait_is_open(
    agents: AgentStub, bus: BusStub, agent: Caller, thread: str
) -> None:
    await Peer(bus).post(thread, "think about this")
    async with waiting(bus, thread, metadata=agent.metadata) as frames:
        await frames.messages(1)
        assert await state(agents, agent.name) == "WORKING"
        await until_state(agents, agent.name, "WAITING", never="LAPSED")


async def test_a_reported_state_ends_with_the_lease_and_no_call_restores_it(
    agents: AgentStub, bus: BusStub, agent: Caller, thread: str
) -> None:
    async with waiting(bus, thread, metadata=agent.metadata) as frames:
        await frames.until("caught_up")
        await beat(bus, agent, state=PRESENCE_AWAITING_HUMAN)
        assert await state(agents, agent.name) == "AWAITING_HUMAN"
        await until_state(agents, agent.name, "WAITING", never="LAPSED")
        await agents.GetAgent(GetAgentRequest(), metadata=agent.metadata)
        assert await state(agents, agent.name) == "WAITING"
        await beat(bus, agent, state=PRESENCE_AWAITING_HUMAN)
        await until_state(agents, agent.name, "WAITING", never="LAPSED")
    await until_state(agents, agent.name, "IDLE", never="AWAITING_HUMAN")


async def test_work_that_lasted_too_long_is_not_restored_by_the_next(
    agents: AgentStub, bus: BusStub, threads: ThreadStub, agent: Caller, name: str
) -> None:
    for thread in (name, f"{name}-2"):
        await threads.CreateThread(CreateThreadRequest(thread=thread))
    async with waiting(bus, name, f"{name}-2", metadata=agent.metadata) as frames:
        await Peer(bus).post(name, "think about this")
        await frames.messages(1)
        await until_state(agents, agent.name, "WAITING", never="LAPSED")
        await Peer(bus).post(f"{name}-2", "this is easy")
        await frames.messages(1)
        assert await state(agents, agent.name) == "WORKING"
        await Peer(bus, agent).post(f"{name}-2", "done")
        assert await state(agents, agent.name) == "WAITING"


async def test_a_lease_covers_a_silent_turn_and_the_agent_lapses_at_its_end(
    agents: AgentStub, bus: BusStub, agent: Caller
) -> None:
    await beat(bus, agent, state=PRESENCE_WORKING, lease=2.0)
    await timeouts_pass(bus, agents, agent, 2)
    assert await state(agents, agent.name) == "WORKING"
    await until_state(agents, agent.name, "LAPSED", never="IDLE")


async def test_other_calls_do_not_shorten_a_lease_and_a_heartbeat_does(
    agents: AgentStub, bus: BusStub, agent: Caller, thread: str
) -> None:
    await beat(bus, agent, state=PRESENCE_WORKING, lease=60)
    await Peer(bus, agent).post(thread, "half way")
    await timeouts_pass(bus, agents, agent, 2)
    assert await state(agents, agent.name) == "WORKING"
    await beat(bus, agent)
    await until_state(agents, agent.name, "LAPSED")


async def test_a_heartbeat_after_a_delivery_replaces_the_working_timeout(
    agents: AgentStub, bus: BusStub, agent: Caller, thread: str
) -> None:
    await Peer(bus).post(thread, "think about this")
    async with waiting(bus, thread, max_wait=0, metadata=agent.metadata) as frames:
        await frames.ending()
    await beat(bus, agent)
    assert await state(agents, agent.name) == "WORKING"
    clock = await register(agents, f"{agent.name}-clock")
    await Peer(bus).post(thread, "another")
    async with waiting(bus, Cursor(thread=thread), max_wait=0, metadata=clock.metadata) as frames:
        await frames.ending()  # it has the whole working timeout
    await until_state(agents, agent.name, "LAPSED", never="IDLE")
    assert await state(agents, clock.name) == "WORKING"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_an_agent_that_sends_heartbeats_and_dies_before_the_next_one_lapses(
    start_server: StartServer, name: str, number: signal.Signals
) -> None:
    server = start_server(*LONG_WORK, "--keepalive-time", "1", "--keepalive-timeout", "1")
    async with connected(server.address, name) as client:
        agent = await register(client.agents, name)
        with waiting_client(server.address, name, agent.token) as process:
            await beat(client.bus, agent)
            await Peer(client.bus).post(name, "think about this")
            await until_state(client.agents, agent.name, "WORKING")
            process.send_signal(number)
            await until_state(client.agents, agent.name, "LAPSED")


async def test_a_heartbeat_before_an_agent_lapsed_says_nothing_about_its_later_silence(
    start_server: StartServer, name: str
) -> None:
    server = start_server(*LONG_WORK, "--checkpoint-interval", "600")
    async with connected(server.address, name) as client:
        agent = await register(client.agents, name)
        await beat(client.bus, agent)
        await until_state(client.agents, agent.name, "LAPSED")
        await Peer(client.bus).post(name, "think about this")
        async with waiting(client.bus, name, max_wait=0, metadata=agent.metadata) as frames:
            await frames.ending()
        await timeouts_pass(client.bus, client.agents, agent, 2)
        assert await state(client.agents, agent.name) == "WORKING"


async def test_an_agent_killed_while_it_waits_lapses(
    agents: AgentStub, server: ServerProcess, agent: Caller, thread: str
) -> None:
    with waiting_client(server.address, thread, agent.token) as process:
        assert await state(agents, agent.name) == "WAITING"
        process.kill()
        await until_state(agents, agent.name, "LAPSED")


async def test_a_stopped_agent_is_waiting_until_its_connection_is_closed(
    start_server: StartServer, name: str
) -> None:
    server = start_server(*HASTY, "--keepalive-time", "1", "--keepalive-timeout", "1")
    async with connected(server.address, name) as client:
        agent = await register(client.agents, name)
        with waiting_client(server.address, name, agent.token) as process:
            process.send_signal(signal.SIGSTOP)
            await timeouts_pass(client.bus, client.agents, agent, 2)
            assert await state(client.agents, agent.name) == "WAITING"
            await until_state(client.agents, agent.name, "LAPSED")


@pytest.mark.slow
async def test_no_agent_lapses_because_the_server_was_stopped(
    start_server: StartServer, name: str
) -> None:
    server = start_server()
    async with connected(server.address, name) as client:
        agent = await register(client.agents, name)
        beaten = await beat(client.bus, agent, lease=1)
        server.signal(signal.SIGSTOP)
        end = beaten.expire_time.ToSeconds() + 2
        await until(lambda: time.time() > end)
        server.signal(signal.SIGCONT)
        assert await state(client.agents, agent.name) == "IDLE"
