"""Taking part in a thread, and what the thread tells of it."""

from typing import Any

from tests.peers import Peer
from tests.serving import BusStub, ThreadStub
from threadbus.v1.agent_pb2 import Participant
from threadbus.v1.bus_service_pb2 import HeartbeatRequest
from threadbus.v1.message_pb2 import Cursor
from threadbus.v1.thread_service_pb2 import (
    JoinThreadRequest,
    JoinThreadResponse,
    LeaveThreadRequest,
    ListParticipantsRequest,
)


async def participants(
    threads: ThreadStub, thread: str, *, wait_for_ready: bool = False
) -> dict[str, Participant]:
    """Who takes part, by name."""
    request = ListParticipantsRequest(thread=thread, page_size=1_000)
    answer = await threads.ListParticipants(request, wait_for_ready=wait_for_ready)
    assert answer.next_page_token == ""
    names = [participant.agent for participant in answer.participants]
    assert names == sorted(set(names))
    return {participant.agent: participant for participant in answer.participants}


async def position(threads: ThreadStub, thread: str, peer: Peer) -> tuple[int, int]:
    """Up to where a participant was handed messages, and has read them."""
    found = (await participants(threads, thread))[peer.name]
    return found.delivered_seq, found.read_seq


async def join(threads: ThreadStub, thread: str, peer: Peer, **fields: Any) -> JoinThreadResponse:
    """Enter a thread."""
    request = JoinThreadRequest(thread=thread, **fields)
    return await threads.JoinThread(request, metadata=peer.metadata)


async def leave(threads: ThreadStub, thread: str, peer: Peer) -> None:
    """Take part no more."""
    await threads.LeaveThread(LeaveThreadRequest(thread=thread), metadata=peer.metadata)


async def has_read(bus: BusStub, peer: Peer, thread: str, seq: int) -> None:
    """Say that one has read a thread up to a seq."""
    beat = HeartbeatRequest(read_cursors=[Cursor(thread=thread, after_seq=seq)])
    await bus.Heartbeat(beat, metadata=peer.metadata)
