"""Servers on one file: each tells the truth about the agents that wait at another one."""

import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path

import pytest

from bus_server.server import build
from bus_server.settings import Settings
from tests.callers import operator
from tests.connections import Connection, connected
from tests.open_wait import open_waits, wait_request
from tests.own_bus import opened
from tests.participation import join, participants
from tests.peek import peek
from tests.peers import Peer, registered
from tests.polling import until, until_known
from tests.presence import seen, state, until_state
from tests.refusals import refused
from tests.serving import AdminStub, ServerProcess
from tests.statements import statements
from tests.wait_frames import Frames
from threadbus.v1.admin_service_pb2 import ListWaitsRequest, Wait
from threadbus.v1.admin_service_pb2_grpc import AdminServiceStub
from threadbus.v1.agent_pb2 import PRESENCE_LAPSED, PRESENCE_OFFLINE, PRESENCE_WAITING, Participant
from threadbus.v1.agent_service_pb2 import EndSessionRequest, UnregisterAgentRequest
from threadbus.v1.bus_service_pb2 import WaitEnding
from threadbus.v1.message_pb2 import PRIORITY_URGENT, MessageFilter

Servers = tuple[ServerProcess, ServerProcess]

#: So that agents lapse within a second, and no test needs the fallback.
HASTY = (
    *("--checkpoint-interval", "0.05", "--heartbeat-interval", "0.5", "--agent-timeout", "1"),
    *("--fallback-interval", "3600"),
)


@contextlib.contextmanager
def pair(db: Path, *flags: str) -> Iterator[Servers]:
    """Two servers on one file."""
    with ServerProcess(db, *flags) as here, ServerProcess(db, *flags) as there:
        yield here, there


@pytest.fixture(scope="module")
def servers(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Servers]:
    """Two servers on one file, for this module."""
    with pair(tmp_path_factory.mktemp("servers") / "bus.db", *HASTY) as both:
        yield both


@pytest.fixture
async def both(servers: Servers, name: str) -> AsyncIterator[tuple[Connection, Connection]]:
    """Connections to both servers. There is a thread with the test's name."""
    async with connected(servers[0].address, name) as here, connected(servers[1].address) as there:
        yield here, there


def admin(client: Connection) -> AdminStub:
    return AdminServiceStub(client.channel)


async def waits(client: Connection, server: ServerProcess, **fields: str) -> list[Wait]:
    """Returns the waits that a server lists."""
    request = ListWaitsRequest(page_size=1_000, **fields)
    answer = await admin(client).ListWaits(request, metadata=operator(server).metadata)
    assert not answer.next_page_token
    return list(answer.waits)


async def has_waits(client: Connection, server: ServerProcess, count: int, thread: str) -> bool:
    return len(await waits(client, server, thread=thread)) == count


async def until_waiting(client: Connection, thread: str, agent: str, count: int = 1) -> None:
    """Return once a participant has this many waits open."""

    async def has() -> bool:
        found = (await participants(client.threads, thread))[agent]
        assert found.waiting == (found.wait_count > 0)
        return found.wait_count == count

    await until_known(has)


def stored(db: Path, table: str) -> int:
    """Returns the number of rows of a table."""
    ((count,),) = peek(db, f"SELECT count(*) FROM {table}")  # noqa: S608
    return int(count)


@contextlib.asynccontextmanager
async def open_wait(peer: Peer, thread: str) -> AsyncIterator[Frames]:
    """A wait that has caught up."""
    async with peer.wait(thread) as frames:
        await frames.until("caught_up")
        yield frames


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


async def test_a_server_that_comes_later_learns_of_older_waits_and_leaves_nothing(
    tmp_path: Path, name: str
) -> None:
    db = tmp_path / "bus.db"
    with ServerProcess(db, *HASTY) as first:
        async with connected(first.address, name) as here:
            agent = await registered(here.agents, here.bus, "coder")
            await join(here.threads, name, agent)
            async with open_wait(agent, name):
                await until(lambda: stored(db, "server") == 1)
                await until_state(here.agents, agent.name, "WAITING")
                assert stored(db, "wait") == 0
                with ServerProcess(db, *HASTY) as second:
                    async with connected(second.address) as there:
                        await until_waiting(there, name, agent.name)
                        assert (stored(db, "server"), stored(db, "wait")) == (2, 1)
                    assert second.stop() == 0
                # It is alone again, and need not tell anyone.
                await until(lambda: (stored(db, "server"), stored(db, "wait")) == (1, 0))
        assert first.stop() == 0
        assert (stored(db, "server"), first.problems) == (0, [])


async def test_an_agent_of_which_only_the_store_knows_is_waiting_at_another_server(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path / "bus.db") as store:
        presence = build(store, Settings()).presence
        presence.set_remote_waits("coder", 1)
        assert presence.get("coder", PRESENCE_LAPSED) == PRESENCE_WAITING
        assert presence.get("coder", PRESENCE_OFFLINE) == PRESENCE_OFFLINE
        assert presence.get("another", PRESENCE_LAPSED) == PRESENCE_LAPSED
        presence.set_remote_waits("coder", 0)
        assert presence.get("coder", PRESENCE_LAPSED) == PRESENCE_LAPSED


@pytest.mark.slow
@pytest.mark.sqlite
async def test_a_server_that_is_alone_writes_nothing_for_waits(tmp_path: Path, name: str) -> None:
    with ServerProcess(tmp_path / "bus.db", *HASTY, "--log-level", "debug") as server:
        async with connected(server.address, name) as client:
            agent = await registered(client.agents, client.bus, "coder")
            for metadata in (agent.metadata, ()):
                requests = [wait_request([name])] * 20
                async with open_waits(client.bus, requests, metadata=metadata):
                    pass
            await until_state(client.agents, agent.name, "LAPSED")  # and a checkpoint said so
            await until(lambda: any("INSERT INTO presence" in each for each in statements(server)))
        assert server.stop() == 0
        assert [each for each in statements(server) if "INTO wait " in each] == []


@pytest.mark.slow
@pytest.mark.sqlite
async def test_a_checkpoint_writes_presence_and_waits_in_one_transaction(
    tmp_path: Path, name: str
) -> None:
    with pair(tmp_path / "bus.db", *HASTY, "--log-level", "debug") as (here, there):
        async with connected(here.address, name) as client, connected(there.address) as other:
            agent = await registered(client.agents, client.bus, "coder")
            await join(client.threads, name, agent)
            async with open_wait(agent, name):
                await until_waiting(other, name, agent.name)
        (number, *_) = [
            number for number, each in enumerate(statements(here)) if "INTO wait " in each
        ]
        before = statements(here)[:number]
        begun = max(at for at, each in enumerate(before) if each == "BEGIN IMMEDIATE")
        assert any("INTO presence " in each for each in before[begun:])


@pytest.mark.slow
async def test_the_waits_of_a_killed_server_expire(tmp_path: Path, name: str) -> None:
    db = tmp_path / "bus.db"
    with pair(db, *HASTY, "--server-lease", "1") as (here, there):
        async with connected(here.address, name) as client, connected(there.address) as other:
            agent = await registered(client.agents, client.bus, "coder")
            await join(client.threads, name, agent)
            async with open_wait(agent, name):
                await until_waiting(other, name, agent.name)
                here.kill()
            await until_waiting(other, name, agent.name, 0)
            await until_state(other.agents, agent.name, "LAPSED")
            await until(lambda: (stored(db, "server"), stored(db, "wait")) == (1, 0))
        # The next one takes no notice of the dead one.
        with ServerProcess(db, *HASTY, "--server-lease", "1") as third:
            async with connected(third.address, name) as client:
                agent = Peer(client.bus, agent.caller)
                async with open_wait(agent, name), connected(there.address) as other:
                    await until_waiting(other, name, agent.name)


@pytest.mark.slow
async def test_a_server_that_was_stopped_for_longer_than_its_lease_is_believed_again(
    tmp_path: Path, name: str
) -> None:
    db = tmp_path / "bus.db"
    with pair(db, *HASTY, "--server-lease", "1") as (here, there):
        async with connected(here.address, name) as client, connected(there.address) as other:
            agents = [await registered(client.agents, client.bus, "coder") for _ in range(2)]
            for agent in agents:
                await join(client.threads, name, agent)
            async with open_wait(agents[0], name):
                await until_waiting(other, name, agents[0].name)
                here.signal(signal.SIGSTOP)
                try:
                    await until(lambda: (stored(db, "server"), stored(db, "wait")) == (1, 0))
                    await until_waiting(other, name, agents[0].name, 0)
                finally:
                    here.signal(signal.SIGCONT)
                await until_waiting(other, name, agents[0].name)
                # And it has not forgotten the other one.
                async with open_wait(Peer(other.bus, agents[1].caller), name):
                    await until_waiting(client, name, agents[1].name)


@pytest.mark.slow
async def test_servers_that_do_nothing_stay_alive(tmp_path: Path, name: str) -> None:
    db = tmp_path / "bus.db"
    with pair(db, *HASTY, "--server-lease", "1") as (here, there):
        async with connected(here.address, name) as client, connected(there.address) as other:
            agent = await registered(client.agents, client.bus, "coder")
            await join(client.threads, name, agent)
            async with open_wait(agent, name):
                await until_waiting(other, name, agent.name)
                renewed = set[tuple[int, ...]]()

                async def four_times() -> bool:
                    """Returns whether each has renewed its lease four times, which takes 1.3 s."""
                    found = (await participants(other.threads, name))[agent.name]
                    assert found.waiting
                    renewed.add(
                        tuple(
                            time
                            for (time,) in peek(db, "SELECT renew_time FROM server ORDER BY name")
                        )
                    )
                    return all(len(set(times)) > 4 for times in zip(*renewed, strict=True))

                await until_known(four_times)


@pytest.mark.slow
async def test_thousands_of_waits_are_shown(tmp_path: Path, name: str) -> None:
    db = tmp_path / "bus.db"
    with pair(db, *HASTY, "--max-streams", "3000") as (here, there):
        async with connected(here.address, name) as client, connected(there.address) as other:
            agent = await registered(client.agents, client.bus, "coder")
            await join(client.threads, name, agent)
            requests = [wait_request([name])] * 2_500
            async with open_waits(client.bus, requests, metadata=agent.metadata):
                await until_waiting(other, name, agent.name, 2_500)
                assert stored(db, "wait") == 2_500
            await until_waiting(other, name, agent.name, 0)
            await until(lambda: stored(db, "wait") == 0)


@pytest.mark.slow
async def test_without_the_fallback_a_server_takes_no_notice_of_others(
    tmp_path: Path, name: str
) -> None:
    db, alone = tmp_path / "bus.db", (*HASTY, "--fallback-interval", "0")
    with ServerProcess(db, *alone) as here, ServerProcess(db, *alone):
        async with connected(here.address, name) as client:
            agent = await registered(client.agents, client.bus, "coder")
            async with open_wait(agent, name):
                await until_state(client.agents, agent.name, "WAITING")
            assert (stored(db, "server"), stored(db, "wait")) == (0, 0)
