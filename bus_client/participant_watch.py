"""The wait behind ThreadHandle.watch_participants()."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from bus_client.calls import Calls
from bus_client.heartbeats import Heartbeats
from bus_client.stream import wait_frames
from threadbus.v1.bus_service_pb2 import ParticipantUpdate, WaitMessagesRequest
from threadbus.v1.message_pb2 import Cursor, MessageFilter
from threadbus.v1.thread_pb2 import Thread


async def participant_updates(
    thread: Thread, calls: Calls, heartbeats: Heartbeats
) -> AsyncGenerator[ParticipantUpdate]:
    """Yields updates of a thread's participants, as ThreadHandle.watch_participants() does."""
    request = WaitMessagesRequest(
        threads=[Cursor(thread=thread.name, after_seq=thread.head_seq, epoch=thread.epoch)],
        filter=MessageFilter(senders=["none"]),  # a reserved name: no message matches
        include_participants=True,
    )
    async with aclosing(wait_frames(calls, request)) as frames:
        async for frame in frames:
            heartbeats.update_from_frame(frame)
            if frame.HasField("participants"):
                yield frame.participants
