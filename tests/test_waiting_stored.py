"""Replay from the store: after a restart nothing is cached."""

import pytest

from tests.callers import Caller, register
from tests.conftest import StartServer
from tests.connections import Connection, connected
from tests.ledger import history
from tests.post_stream import post_stream
from tests.presence import state
from tests.serving import ServerProcess
from tests.wait_frames import waiting
from threadbus.v1.bus_service_pb2 import PostMessageRequest, WaitEnding
from threadbus.v1.message_pb2 import Cursor, Message
from threadbus.v1.thread_service_pb2 import JoinThreadRequest

pytestmark = pytest.mark.slow

#: More than two frames hold, and no multiple of what a statement reads.
MANY = 2_060


@pytest.fixture
async def restarted(start_server: StartServer, name: str) -> ServerProcess:
    server = start_server("--durability", "fast")
    async with connected(server.address, name) as client, post_stream(client.bus) as stream:
        posts = [PostMessageRequest(thread=name, content=f"{n}") for n in range(MANY)]
        for first in range(0, MANY, 1_000):
            await stream.post(*posts[first : first + 1_000])
        await stream.post(PostMessageRequest(thread=name, content="the last"))
    assert server.stop() == 0
    server.start()
    return server


async def replayed(client: Connection, *cursors: Cursor, **fields: object) -> list[Message]:
    async with waiting(client.bus, *cursors, max_wait=0, **fields) as frames:  # type: ignore[arg-type]
        return [m for frame in await frames.rest() for m in frame.messages.messages]


async def test_a_replay_returns_every_message_once_in_order_as_listed(
    restarted: ServerProcess, name: str
) -> None:
    async with connected(restarted.address) as client:
        listed = await history(client.bus, name)
        assert [m.seq for m in listed] == list(range(1, MANY + 2))
        assert await replayed(client, Cursor(thread=name)) == listed
        assert await replayed(client, Cursor(thread=name, after_seq=1_234)) == listed[1_234:]


async def test_max_messages_ends_a_replay_at_its_last_message(
    restarted: ServerProcess, name: str
) -> None:
    async with (
        connected(restarted.address) as client,
        waiting(client.bus, Cursor(thread=name, after_seq=7), max_messages=1_005) as frames,
    ):
        rest = await frames.rest()
        seqs = [m.seq for frame in rest for m in frame.messages.messages]
        assert seqs == list(range(8, 1_013))
        ending = rest[-1].ending
        assert ending.reason == WaitEnding.REASON_MAX_MESSAGES
        assert ending.threads[0].cursor.after_seq == 1_012


async def test_replayed_messages_make_their_reader_work_and_count_as_delivered(
    restarted: ServerProcess, name: str
) -> None:
    async with connected(restarted.address) as client:
        agent: Caller = await register(client.agents, name)
        join = JoinThreadRequest(thread=name)
        await client.threads.JoinThread(join, metadata=agent.metadata)
        at = Cursor(thread=name, after_seq=MANY - 2)
        async with waiting(client.bus, at, metadata=agent.metadata) as frames:
            assert [m.seq for m in await frames.messages(3)] == [MANY - 1, MANY, MANY + 1]
            assert await state(client.agents, agent.name) == "WORKING"
