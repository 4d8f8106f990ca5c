"""Checkpoints of presence and positions, and what another server learns from them."""

import pytest

from tests.callers import register
from tests.conftest import StartServer
from tests.connections import connected
from tests.locks import locked
from tests.participation import join, position, report_read
from tests.peers import Peer
from tests.polling import until, until_known
from tests.presence import beat, until_state
from tests.serving import ThreadStub
from tests.statements import commits_tried
from threadbus.v1.agent_pb2 import PRESENCE_AWAITING_HUMAN

HASTY = ("--checkpoint-interval", "0.05", "--fallback-interval", "0.1")

pytestmark = pytest.mark.slow


@pytest.mark.sqlite
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
