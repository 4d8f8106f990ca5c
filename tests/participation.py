"""Joining and leaving threads, and the participants that a thread has."""

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
    """Returns all participants of the thread by name."""
    request = ListParticipantsRequest(thread=thread, page_size=1_000)
    answer = await threads.ListParticipants(request, wait_for_ready=wait_for_ready)
    assert answer.next_page_token == ""
    names = [participant.agent for participant in answer.participants]
    assert names == sorted(set(names))
    return {participant.agent: participant for participant in answer.participants}


async def position(threads: ThreadStub, thread: str, peer: Peer) -> tuple[int, int]:
    """Returns a participant's delivered_seq and read_seq."""
    found = (await participants(threads, thread))[peer.name]
    return found.delivered_seq, found.read_seq


async def join(threads: ThreadStub, thread: str, peer: Peer, **fields: Any) -> JoinThreadResponse:
    """Join a thread; `fields` are of JoinThreadRequest."""
    request = JoinThreadRequest(thread=thread, **fields)
    return await threads.JoinThread(request, metadata=peer.metadata)


async def leave(threads: ThreadStub, thread: str, peer: Peer) -> None:
    """Leave a thread."""
    await threads.LeaveThread(LeaveThreadRequest(thread=thread), metadata=peer.metadata)


async def report_read(bus: BusStub, peer: Peer, thread: str, seq: int) -> None:
    """Report in a heartbeat that the peer has read a thread up to a seq."""
    beat = HeartbeatRequest(read_cursors=[Cursor(thread=thread, after_seq=seq)])
    await bus.Heartbeat(beat, metadata=peer.metadata)
