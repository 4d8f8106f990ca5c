"""A small conversation, and what must be true of it at a server on a restored backup."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import grpc

from tests.callers import Caller, register
from tests.peers import Peer
from tests.presence import beat
from tests.requests import ask, states
from tests.serving import ServerProcess
from tests.wait_frames import messages_in
from threadbus.v1.agent_service_pb2_grpc import AgentServiceStub
from threadbus.v1.bus_service_pb2_grpc import BusServiceStub
from threadbus.v1.message_pb2 import Cursor
from threadbus.v1.thread_service_pb2 import CreateThreadRequest
from threadbus.v1.thread_service_pb2_grpc import ThreadServiceStub


@dataclass(frozen=True, slots=True)
class Conversation:
    """Of two agents, in the thread t: four messages. Bob has read the first, and owes a reply."""

    ann: Caller
    bob: Caller
    epoch: str


async def hold(server: ServerProcess) -> Conversation:
    """Let two agents talk at a server that knows neither."""
    async with grpc.aio.insecure_channel(server.address) as channel:
        bus, agents = BusServiceStub(channel), AgentServiceStub(channel)
        created = await ThreadServiceStub(channel).CreateThread(CreateThreadRequest(thread="t"))
        epoch = created.thread.epoch
        ann, bob = [Peer(bus, await register(agents, name)) for name in ("ann", "bob")]
        await ann.post("t", "one")
        assert await ask(ann, "t", "bob") == 2
        await ann.post("t", "three", request_id="the-third")
        assert bob.caller and ann.caller
        read = Cursor(thread="t", after_seq=1, epoch=epoch)
        await beat(bus, bob.caller, read_cursors=[read])
        await bob.post("t", "four")  # stores what he has read
        return Conversation(ann.caller, bob.caller, epoch)


async def go_on(server: ServerProcess, past: Conversation) -> None:
    """Post what is not in the backup."""
    async with _peers(server, past) as (ann, _):
        assert (await ann.post("t", "after the backup")).seq == 5


async def check(server: ServerProcess, past: Conversation, *, new_history: bool) -> None:
    """Check that all goes on where the backup was made."""
    async with _peers(server, past) as (ann, bob):
        ((unread,),) = [(await beat(bob.bus, past.bob)).unread]
        assert (unread.thread, unread.read_seq, unread.head_seq) == ("t", 1, 4)
        assert unread.open_request_count == 1
        assert await states(ann, "t") == {(2, "bob"): "OPEN"}
        repeated = await ann.post("t", "three", request_id="the-third")
        assert (repeated.seq, repeated.deduplicated) == (3, True)
        assert (repeated.epoch != past.epoch) is new_history
        # Who has read less than what was restored misses nothing, and gets nothing twice.
        assert await _resync(ann, past.epoch, 2) == (2 if new_history else None)
        # Who has read what is lost goes on behind the last message that is left.
        read = 5 if new_history else 4
        assert await _resync(ann, past.epoch, read) == (4 if new_history else None)
        async with ann.wait(Cursor(thread="t", after_seq=read, epoch=past.epoch)) as frames:
            await frames.until("caught_up")
            await bob.post("t", "new")
            ((message,),) = [await frames.messages(1)]
            assert (message.seq, message.content) == (5, "new")


async def _resync(peer: Peer, epoch: str, after: int) -> int | None:
    """Wait from a cursor, and check that it gets all that follows.

    Returns the seq of the resync, or None if there was none.
    """
    async with peer.wait(Cursor(thread="t", after_seq=after, epoch=epoch), max_wait=0) as frames:
        found = await frames.rest()
    seqs = [message.seq for message in messages_in(found)]
    resyncs = [
        frame.resync.position.cursor.after_seq for frame in found if frame.HasField("resync")
    ]
    assert seqs == list(range(min(resyncs, default=after) + 1, 5))
    return min(resyncs, default=None)


@contextlib.asynccontextmanager
async def _peers(server: ServerProcess, past: Conversation) -> AsyncIterator[tuple[Peer, Peer]]:
    async with grpc.aio.insecure_channel(server.address) as channel:
        bus = BusServiceStub(channel)
        yield Peer(bus, past.ann), Peer(bus, past.bob)
