"""Checkpoints of presence and positions, and what another server learns from them."""

import pytest

from tests.callers import register
from tests.conftest import StartServer
from tests.connections import connected
from tests.locks import locked
from tests.participation import join, participants, position, report_read
from tests.peers import Peer
from tests.polling import until, until_known
from tests.presence import beat, state, until_state
from tests.serving import ThreadStub
from tests.statements import commits_tried
from threadbus.v1.agent_pb2 import PRESENCE_AWAITING_HUMAN

HASTY = ("--checkpoint-interval", "0.05", "--fallback-interval", "0.1")

pytestmark = pytest.mark.slow


async def test_state_that_could_not_be_saved_is_saved_once_it_can_be(
    start_server: StartServer, name: str
) -> None:
    server = start_server(*HASTY, "--busy-timeout", "0.1", "--log-level", "debug")
    async with connected(server.address, name) as client:
        agent = Peer(client.bus, await register(client.agents, name))
        assert agent.caller is not None
        await join(client.threads, name, agent)
        await Peer(client.bus).post_all(name, "1", "2")
        with locked(server.db):
            await beat(client.bus, agent.caller, state=PRESENCE_AWAITING_HUMAN, status_text="help")
            await report_read(client.bus, agent, name, 2)
            tried = commits_tried(server)
            await until(lambda: commits_tried(server) > tried + 1)
            assert await position(client.threads, name, agent) == (0, 2)

    # Another server sees what is in the file.
    async with connected(start_server(*HASTY).address) as other:
        await until_state(other.agents, name, "AWAITING_HUMAN")
        await until_known(lambda: _has_read(other.threads, name, agent))


async def _has_read(threads: ThreadStub, thread: str, agent: Peer) -> bool:
    return await position(threads, thread, agent) == (0, 2)


async def test_an_agent_that_only_waits_at_one_server_lapses_for_another_after_its_timeout(
    start_server: StartServer, name: str
) -> None:
    flags = (*HASTY, "--heartbeat-interval", "0.5", "--agent-timeout", "1")
    here, there = start_server(*flags), start_server(*flags)
    async with connected(here.address, name) as client, connected(there.address) as other:
        agent = Peer(client.bus, await register(client.agents, name))
        await join(client.threads, name, agent)
        async with agent.wait(name) as frames:
            await frames.until("caught_up")
            await until_state(other.agents, name, "WAITING")
            assert (await participants(client.threads, name))[name].waiting
            assert not (await participants(other.threads, name))[name].waiting
            await until_state(other.agents, name, "LAPSED")
            assert await state(client.agents, name) == "WAITING"
