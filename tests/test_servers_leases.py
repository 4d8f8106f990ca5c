"""Servers on one store: which of them are alive, and what they leave in the store."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from bus_server.errors import OutcomeUnknown
from bus_server.settings import Settings
from bus_server.store import Command, Commit, CreateThread, SaveServer
from tests.connections import Connection, connected
from tests.open_wait import open_waits, wait_request
from tests.own_bus import following, opened, started, wait_on
from tests.participation import join, participants
from tests.peek import peek
from tests.peers import Peer, registered
from tests.polling import until, until_known
from tests.presence import state, until_state
from tests.server_pairs import HASTY, Servers, open_wait, pair, stored, until_waiting
from tests.serving import ServerProcess
from tests.statements import statements
from threadbus.v1.bus_service_pb2 import WaitMessagesResponse
from threadbus.v1.thread_pb2 import Thread


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


@pytest.mark.usefixtures("chosen_store")
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


@pytest.mark.usefixtures("chosen_store")
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


@pytest.mark.usefixtures("chosen_store")
@pytest.mark.slow
@pytest.mark.sqlite
async def test_a_checkpoint_writes_presence_and_waits_in_one_transaction(
    tmp_path: Path, name: str
) -> None:
    with pair(tmp_path / "bus.db", *HASTY, "--log-level", "debug") as (here, there):
        async with connected(here.address, name) as client, connected(there.address) as other:
            for _ in range(2):  # the first time, the servers may not know each other yet
                before = len(statements(here))
                agent = await registered(client.agents, client.bus, "coder")
                await join(client.threads, name, agent)
                async with open_wait(agent, name):
                    await until_waiting(other, name, agent.name)
        now = statements(here)[before:]
        number = next(number for number, each in enumerate(now) if "INTO wait " in each)
        begun = max(at for at, each in enumerate(now[:number]) if each == "BEGIN IMMEDIATE")
        assert any("INTO presence " in each for each in now[begun:number])


@pytest.mark.usefixtures("chosen_store")
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


@pytest.mark.usefixtures("chosen_store")
@pytest.mark.slow
async def test_an_agent_that_waited_at_a_killed_server_waits_no_longer_than_the_server_is_believed(
    tmp_path: Path, name: str
) -> None:
    db, patient = tmp_path / "bus.db", (*HASTY, "--agent-timeout", "600")
    with (
        ServerProcess(db, *patient, "--server-lease", "0.5") as here,
        ServerProcess(db, *patient, "--server-lease", "3600") as there,
    ):
        async with connected(here.address, name) as client, connected(there.address) as other:
            agent = await registered(client.agents, client.bus, "coder")
            await join(client.threads, name, agent)
            async with open_wait(agent, name):
                await until_waiting(other, name, agent.name)
                here.kill()
            await until_waiting(other, name, agent.name, 0)
            assert await state(other.agents, agent.name) == "IDLE"  # its lease has not ended


async def test_a_server_whose_row_is_gone_writes_its_waits_again(
    servers: Servers, both: tuple[Connection, Connection], name: str
) -> None:
    here, there = both
    agent = await registered(here.agents, here.bus, "coder")
    await join(here.threads, name, agent)
    async with open_wait(agent, name):
        await until_waiting(there, name, agent.name)
        assert stored(servers[0].db, "server") == 2
        peek(servers[0].db, "DELETE FROM wait RETURNING number")
        peek(servers[0].db, "DELETE FROM server RETURNING lease")
        await Peer(there.bus, agent.caller).post(name)  # the other server gets a hint
        await until(lambda: stored(servers[0].db, "server") == 2, within=5)  # before a renewal
        await until(lambda: stored(servers[0].db, "wait") == 1)
        await until_waiting(there, name, agent.name)


@pytest.mark.sqlite
async def test_a_wait_whose_commit_may_have_failed_does_not_stay_in_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path / "bus.db") as store, opened(tmp_path / "bus.db") as other:
        await store.commit([CreateThread(Thread(name="t"))])
        await other.commit([SaveServer("0123456789abcdef", 1 << 40)])
        async with started(store, Settings(hints="off", checkpoint_interval=3600)) as parts:
            await parts.servers.enter()
            commit, caught_up = store.commit, asyncio.Event()

            async def take(frame: WaitMessagesResponse) -> None:
                caught_up.set()

            async def fail(commands: Sequence[Command[Any]]) -> Commit:
                await commit(commands)
                raise OutcomeUnknown("for all that is known")

            async with following(parts.bus, wait_on("t"), take):
                await caught_up.wait()
                monkeypatch.setattr(store, "commit", fail)
                with pytest.raises(OutcomeUnknown):
                    await parts.servers.save()
            monkeypatch.undo()
            numbers, _ = await other.server_waits(parts.servers.name, frozenset())
            assert len(numbers) == 1
            await parts.servers.save()
            assert await other.server_waits(parts.servers.name, frozenset()) == (set(), {})


@pytest.mark.usefixtures("chosen_store")
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


@pytest.mark.usefixtures("chosen_store")
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


@pytest.mark.usefixtures("chosen_store")
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


@pytest.mark.usefixtures("chosen_store")
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
