"""Servers on one store: each tells the truth about the agents that wait at another one."""

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path

import pytest

from bus_server.parts import build
from bus_server.settings import Settings
from tests.callers import operator
from tests.connections import Connection, connected
from tests.own_bus import opened
from tests.participation import join, participants
from tests.peek import peek
from tests.peers import Peer, registered
from tests.polling import until, until_known
from tests.presence import beat, seen, state, until_state
from tests.refusals import refused
from tests.server_pairs import (
    HASTY,
    Servers,
    admin,
    caller_of,
    has_waits,
    open_wait,
    pair,
    until_waiting,
    waits,
)
from tests.serving import ServerProcess
from threadbus.v1.admin_service_pb2 import ListWaitsRequest
from threadbus.v1.agent_pb2 import (
    PRESENCE_AWAITING_HUMAN,
    PRESENCE_LAPSED,
    PRESENCE_OFFLINE,
    PRESENCE_WAITING,
    Participant,
)
from threadbus.v1.agent_service_pb2 import (
    EndSessionRequest,
    GetAgentRequest,
    UnregisterAgentRequest,
)
from threadbus.v1.bus_service_pb2 import WaitEnding
from threadbus.v1.message_pb2 import PRIORITY_URGENT, MessageFilter


@pytest.fixture(scope="module")
def servers(
    tmp_path_factory: pytest.TempPathFactory,
    chosen_store: None,
) -> Iterator[Servers]:
    """Two servers on one file, for this module."""
    with pair(tmp_path_factory.mktemp("servers") / "bus.db", *HASTY) as both:
        yield both


@pytest.fixture
async def both(servers: Servers, name: str) -> AsyncIterator[tuple[Connection, Connection]]:
    """Connections to both servers. There is a thread with the test's name."""
    async with connected(servers[0].address, name) as here, connected(servers[1].address) as there:
        yield here, there


async def test_an_agent_that_waits_at_one_server_is_waiting_for_the_other(
    both: tuple[Connection, Connection], name: str
) -> None:
    here, there = both
    agent = await registered(here.agents, here.bus, "coder")
    await join(here.threads, name, agent)
    assert not (await participants(there.threads, name))[agent.name].waiting
    async with open_wait(agent, name):
        await until_waiting(there, name, agent.name)
        async with open_wait(agent, name):
            await until_waiting(there, name, agent.name, 2)
            async with open_wait(Peer(there.bus, agent.caller), name):
                await until_waiting(there, name, agent.name, 3)
                await until_waiting(here, name, agent.name, 3)
        await until_waiting(there, name, agent.name, 1)
    await until_waiting(there, name, agent.name, 0)


async def test_it_does_not_lapse_for_the_other(
    both: tuple[Connection, Connection], name: str
) -> None:
    here, there = both
    agent = await registered(here.agents, here.bus, "coder")
    async with open_wait(agent, name):
        await until_state(there.agents, agent.name, "WAITING")
        begin = (await seen(there.agents, agent.name)).last_seen_time.ToMicroseconds()

        async def outlasted() -> bool:
            """Returns whether it has been seen waiting for two agent timeouts and more."""
            found = await seen(there.agents, agent.name)
            assert found.presence == PRESENCE_WAITING
            return found.last_seen_time.ToMicroseconds() > begin + 2_500_000

        await until_known(outlasted)
    # The end of the wait is its last sign of life, for both.
    for each in both:
        await until_state(each.agents, agent.name, "LAPSED", never="OFFLINE")


async def test_work_delivered_by_one_server_ends_with_a_post_through_another(
    both: tuple[Connection, Connection], name: str
) -> None:
    here, there = both
    agent = await registered(here.agents, here.bus, "coder")
    async with open_wait(agent, name) as frames:
        await until_state(there.agents, agent.name, "WAITING")
        for reply in (Peer(there.bus, agent.caller), agent, Peer(there.bus, agent.caller)):
            await Peer(here.bus).post(name)
            await frames.messages(1)
            for each in both:
                await until_state(each.agents, agent.name, "WORKING")
            await reply.post(name)
            await frames.messages(1)
            for each in both:
                await until_state(each.agents, agent.name, "WAITING")


async def test_a_post_ends_work_that_the_server_does_not_know_of_yet(
    both: tuple[Connection, Connection], name: str
) -> None:
    here, there = both
    agent = await registered(here.agents, here.bus, "coder")
    async with open_wait(agent, name) as frames:
        await until_waiting_anywhere(there, agent.name)
        await beat(there.bus, caller_of(agent))
        await Peer(here.bus).post(name)
        await frames.messages(1)
        assert await state(here.agents, agent.name) == "WORKING"
        await Peer(there.bus, agent.caller).post(name)
        await until_state(here.agents, agent.name, "WAITING")


async def test_recipients_are_waiting_wherever_they_wait_and_whatever_their_filter(
    both: tuple[Connection, Connection], name: str
) -> None:
    here, there = both
    agent = await registered(here.agents, here.bus, "coder")
    # Only this server knows the filter.
    async with agent.wait(name, filter=MessageFilter(min_priority=PRIORITY_URGENT)) as frames:
        await frames.until("caught_up")

        async def recipients(peer: Peer) -> list[Participant]:
            return list((await peer.post(name, include_recipients=True)).recipients)

        await until_known(lambda: is_true(recipients(Peer(there.bus))))
        (found,) = await recipients(Peer(there.bus))
        assert (found.agent, found.waiting, found.wait_count) == (agent.name, True, 1)
        assert found.presence == PRESENCE_WAITING
        assert not found.HasField("join_time")
        assert await recipients(Peer(here.bus)) == []


async def is_true(found: Awaitable[object]) -> bool:
    return bool(await found)


async def test_both_list_all_waits_the_longest_open_first(
    servers: Servers, both: tuple[Connection, Connection], name: str
) -> None:
    here, there = both
    agents = [await registered(here.agents, here.bus, "coder") for _ in range(3)]
    async with contextlib.AsyncExitStack() as stack:
        for number, agent in enumerate(agents * 2):
            peer = Peer(both[number % 2].bus, agent.caller)
            await stack.enter_async_context(open_wait(peer, name))
        await stack.enter_async_context(open_wait(Peer(there.bus), name))
        expected = [agent.name for agent in agents * 2] + ["anonymous"]
        for client, server in zip(both, servers, strict=True):
            await until_known(lambda c=client, s=server: has_waits(c, s, 7, thread=name))  # type: ignore[misc]
            found = await waits(client, server, thread=name)
            assert [wait.agent for wait in found] == expected
            assert all(wait.peer.startswith("127.0.0.1:") for wait in found)
            assert all([c.thread for c in wait.threads] == [name] for wait in found)
            own = await waits(client, server, agent=agents[0].name)
            assert [wait.agent for wait in own] == [agents[0].name] * 2
            assert len(await waits(client, server, agent="anonymous", thread=name)) == 1
            assert await waits(client, server, agent="nobody") == []
        # The pages follow on each other, also if each is another server's.
        tokens, listed = [""], list[str]()
        for number in range(7):
            client, server = both[number % 2], servers[number % 2]
            request = ListWaitsRequest(page_size=1, page_token=tokens[-1], thread=name)
            answer = await admin(client).ListWaits(request, metadata=operator(server).metadata)
            tokens.append(answer.next_page_token)
            listed += [wait.agent for wait in answer.waits]
        assert listed == expected
        assert len(set(tokens[1:-1])) == 6
        assert tokens[-1] == ""
    for client, server in zip(both, servers, strict=True):
        await until_known(lambda c=client, s=server: has_waits(c, s, 0, thread=name))  # type: ignore[misc]


async def test_waits_of_anonymous_callers_are_listed_at_both(
    servers: Servers, both: tuple[Connection, Connection], name: str
) -> None:
    here, there = both
    for count in (1, 0):  # no agent does anything meanwhile
        async with contextlib.AsyncExitStack() as stack:
            if count:
                await stack.enter_async_context(open_wait(Peer(here.bus), name))
            await until_known(lambda count=count: has_waits(there, servers[1], count, thread=name))  # type: ignore[misc]


@pytest.mark.slow
@pytest.mark.parametrize("everywhere", [False, True])
async def test_an_agent_that_observes_at_one_server_is_not_waiting_for_the_other(
    servers: Servers, both: tuple[Connection, Connection], name: str, everywhere: bool
) -> None:
    here, there = both
    agent = await registered(here.agents, here.bus, "coder")
    await join(here.threads, name, agent)
    threads = () if everywhere else (name,)
    async with agent.wait(*threads, observe=True, all_my_threads=everywhere) as frames:
        await frames.until("caught_up")

        async def is_listed() -> bool:
            found = await waits(there, servers[1], agent=agent.name)
            return [wait.observe for wait in found] == [True]

        await until_known(is_listed)
        assert not (await participants(there.threads, name))[agent.name].waiting
        await until_state(there.agents, agent.name, "LAPSED", never="WAITING")
        await there.agents.EndSession(EndSessionRequest(), metadata=agent.metadata)
        await until_state(here.agents, agent.name, "OFFLINE")
        await Peer(there.bus).post(name)
        await frames.messages(1)
        assert await state(here.agents, agent.name) == "OFFLINE"


async def test_the_end_of_a_session_ends_the_waits_at_the_other_server(
    both: tuple[Connection, Connection], name: str
) -> None:
    here, there = both
    agent = await registered(here.agents, here.bus, "coder")
    await join(here.threads, name, agent)
    async with open_wait(agent, name) as frames:
        await until_waiting(there, name, agent.name)
        await there.agents.EndSession(EndSessionRequest(), metadata=agent.metadata)
        assert await state(there.agents, agent.name) == "OFFLINE"
        assert (await frames.ending()).reason == WaitEnding.REASON_SESSION_ENDED
    await until_waiting(there, name, agent.name, 0)
    for each in both:
        await until_state(each.agents, agent.name, "OFFLINE")


async def test_a_session_that_was_ended_is_not_revived_by_a_delivery_at_the_other_server(
    both: tuple[Connection, Connection], name: str
) -> None:
    here, there = both
    agent = await registered(here.agents, here.bus, "coder")
    async with open_wait(agent, name) as frames:
        await until_waiting_anywhere(there, agent.name)
        await there.agents.EndSession(EndSessionRequest(), metadata=agent.metadata)
        await Peer(here.bus).post(name)  # this server does not know yet
        assert (await frames.ending()).reason == WaitEnding.REASON_SESSION_ENDED
    for each in both:
        await until_state(each.agents, agent.name, "OFFLINE")


async def test_a_session_that_was_ended_is_not_revived_by_the_end_of_a_wait_at_the_other_server(
    both: tuple[Connection, Connection], name: str
) -> None:
    here, there = both
    agent = await registered(here.agents, here.bus, "coder")
    async with open_wait(agent, name) as frames:
        await until_waiting_anywhere(there, agent.name)
        await Peer(here.bus).post(name)
        await frames.messages(1)
        await there.agents.EndSession(EndSessionRequest(), metadata=agent.metadata)
    await until_state(here.agents, agent.name, "OFFLINE")
    assert await state(there.agents, agent.name) == "OFFLINE"
    # A call ends it, at whichever server.
    await beat(here.bus, caller_of(agent))
    for each in both:
        await until_state(each.agents, agent.name, "IDLE")


async def until_waiting_anywhere(client: Connection, agent: str) -> None:
    """Return once a server knows that an agent waits."""
    await until_state(client.agents, agent, "WAITING")


async def test_a_call_ends_the_offline_of_a_session_that_was_ended_elsewhere(
    both: tuple[Connection, Connection], name: str
) -> None:
    here, there = both
    agent = await registered(here.agents, here.bus, "coder")
    await beat(here.bus, caller_of(agent), lease=60)
    await until_state(there.agents, agent.name, "IDLE")
    await there.agents.EndSession(EndSessionRequest(), metadata=agent.metadata)
    await Peer(here.bus, agent.caller).post(name)  # this server does not know yet
    for each in (there, here):
        await until_state(each.agents, agent.name, "IDLE")


@pytest.mark.slow
async def test_an_agent_that_sends_heartbeats_and_dies_at_work_lapses_at_both(
    both: tuple[Connection, Connection], name: str
) -> None:
    here, _ = both
    agent = await registered(here.agents, here.bus, "coder")
    await beat(here.bus, caller_of(agent))
    async with open_wait(agent, name) as frames:
        await Peer(here.bus).post(name)
        await frames.messages(1)
    for each in both:
        await until_state(each.agents, agent.name, "LAPSED")


async def test_an_agent_that_calls_one_server_and_waits_at_another_is_waiting(
    both: tuple[Connection, Connection], name: str
) -> None:
    here, there = both
    agent = await registered(here.agents, here.bus, "coder")
    for each in both:
        await beat(each.bus, caller_of(agent), lease=60)
    async with open_wait(agent, name):
        await until_state(there.agents, agent.name, "WAITING")
        await beat(there.bus, caller_of(agent), lease=60)
        assert await state(there.agents, agent.name) == "WAITING"


async def test_a_call_to_a_server_that_does_not_know_the_agent_ends_no_report(
    both: tuple[Connection, Connection], name: str
) -> None:
    here, there = both
    agent = await registered(here.agents, here.bus, "coder")
    await beat(here.bus, caller_of(agent), state=PRESENCE_AWAITING_HUMAN, lease=60)
    await Peer(there.bus, agent.caller).post(name)  # at once
    for each in (there, here):
        await until_state(each.agents, agent.name, "AWAITING_HUMAN")
    await there.agents.EndSession(EndSessionRequest(), metadata=agent.metadata)
    await until_state(here.agents, agent.name, "OFFLINE")
    await Peer(here.bus, agent.caller).post(name)  # OFFLINE agents are not in memory
    for each in (there, here):
        await until_state(each.agents, agent.name, "IDLE")


async def test_a_call_to_another_server_does_not_shorten_the_time_for_work(
    both: tuple[Connection, Connection], name: str
) -> None:
    here, there = both
    agent = await registered(here.agents, here.bus, "coder")
    async with open_wait(agent, name) as frames:
        await Peer(here.bus).post(name)
        await frames.messages(1)
        await until_state(there.agents, agent.name, "WORKING")
        await there.agents.GetAgent(GetAgentRequest(agent=agent.name), metadata=agent.metadata)
    for each in both:
        await until_state(each.agents, agent.name, "WORKING")
    ended = time.monotonic()

    async def outlasted() -> bool:
        """Returns whether it has been WORKING for two agent timeouts since."""
        for each in both:
            assert await state(each.agents, agent.name) == "WORKING"
        return time.monotonic() > ended + 2

    await until_known(outlasted)
    # When the work is done, its lease counts again.
    await Peer(there.bus, agent.caller).post(name)
    for each in both:
        await until_state(each.agents, agent.name, "LAPSED")


@pytest.mark.usefixtures("chosen_store")
async def test_a_new_server_knows_what_an_agent_reported(tmp_path: Path, name: str) -> None:
    db = tmp_path / "bus.db"
    with ServerProcess(db, *HASTY) as here:
        async with connected(here.address) as client:
            agent = await registered(client.agents, client.bus, "coder")
            await beat(client.bus, caller_of(agent), state=PRESENCE_WAITING, lease=60)
            await until(lambda: bool(peek(db, "SELECT 1 FROM presence WHERE reported <> 0")))
            with ServerProcess(db, *HASTY) as there:
                async with connected(there.address) as other:
                    assert await state(other.agents, agent.name) == "WAITING"
                    await other.agents.GetAgent(
                        GetAgentRequest(agent=agent.name), metadata=agent.metadata
                    )
                    assert await state(other.agents, agent.name) == "WAITING"
                    assert await state(client.agents, agent.name) == "WAITING"


async def test_what_an_agent_reports_at_one_server_counts_where_it_waits(
    both: tuple[Connection, Connection], name: str
) -> None:
    here, there = both
    agent = await registered(here.agents, here.bus, "coder")
    async with open_wait(agent, name) as frames:
        await until_waiting_anywhere(there, agent.name)
        await beat(here.bus, caller_of(agent), status_text="old")
        await beat(
            there.bus, caller_of(agent), state=PRESENCE_AWAITING_HUMAN, status_text="new", lease=60
        )
        for each in both:
            await until_state(each.agents, agent.name, "AWAITING_HUMAN")
            assert (await seen(each.agents, agent.name)).status_text == "new"
        # A delivery is newer than the report, but says nothing about the text.
        await Peer(here.bus).post(name)
        await frames.messages(1)
        for each in both:
            await until_state(each.agents, agent.name, "WORKING")
            assert (await seen(each.agents, agent.name)).status_text == "new"


async def test_a_call_to_a_server_that_does_not_know_of_a_delivery_yet_ends_no_work(
    both: tuple[Connection, Connection], name: str
) -> None:
    here, there = both
    agent = await registered(here.agents, here.bus, "coder")
    async with open_wait(agent, name) as frames:
        await until_waiting_anywhere(there, agent.name)
        await Peer(here.bus).post(name)
        await frames.messages(1)
        await beat(there.bus, caller_of(agent), lease=60)
        await until_state(there.agents, agent.name, "WORKING")
        await beat(there.bus, caller_of(agent), status_text="called", lease=60)

        async def called() -> bool:
            return (await seen(here.agents, agent.name)).status_text == "called"

        await until_known(called)  # and all that it knew before
        for each in both:
            assert await state(each.agents, agent.name) == "WORKING"


async def test_a_token_that_ends_at_one_server_ends_the_waits_at_the_other(
    both: tuple[Connection, Connection], name: str
) -> None:
    here, there = both
    agent = await registered(here.agents, here.bus, "coder")
    async with open_wait(agent, name) as frames:
        await there.agents.UnregisterAgent(UnregisterAgentRequest(), metadata=agent.metadata)
        assert (await refused(frames.failure())).reason == "TOKEN_INVALID"


async def test_a_wait_for_participants_is_told_who_waits_at_the_other_server(
    both: tuple[Connection, Connection], name: str
) -> None:
    here, there = both
    agent = await registered(here.agents, here.bus, "coder")
    await join(here.threads, name, agent)
    async with Peer(there.bus).wait(name, include_participants=True) as frames:

        async def until_told(waiting: bool) -> None:
            while True:
                told = (await frames.until("participants")).participants.participants
                if [each.waiting for each in told if each.agent == agent.name] == [waiting]:
                    return

        await until_told(False)
        async with open_wait(agent, name):
            await until_told(True)
        await until_told(False)


async def test_an_agent_of_which_only_the_store_knows_is_waiting_at_another_server(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path / "bus.db") as store:
        presence = build(store, Settings()).presence
        presence.add_remote_waits("coder", 1)
        assert presence.get("coder", PRESENCE_LAPSED) == PRESENCE_WAITING
        assert presence.get("coder", PRESENCE_OFFLINE) == PRESENCE_OFFLINE
        assert presence.get("another", PRESENCE_LAPSED) == PRESENCE_LAPSED
        presence.add_remote_waits("coder", -1)
        assert presence.get("coder", PRESENCE_LAPSED) == PRESENCE_LAPSED
