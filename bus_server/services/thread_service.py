"""ThreadService: create, find, enter, close, delete."""

import base64
import struct

from bus_server.auth import Caller, need
from bus_server.bus import Bus
from bus_server.errors import ValidationFailed
from bus_server.services import validation as valid
from bus_server.services.pages import fitting
from bus_server.store import JoinThread, Place, SetThreadState
from threadbus.v1 import thread_service_pb2 as pb
from threadbus.v1.message_pb2 import Cursor, Message
from threadbus.v1.thread_pb2 import (
    THREAD_STATE_CLOSED,
    THREAD_STATE_OPEN,
    THREAD_STATE_UNSPECIFIED,
    Thread,
    ThreadState,
)

TOPIC_BYTES = 1_024
CONTEXT_BYTES = 1024 * 1024


class ThreadService:
    """The servicer of threadbus.v1.ThreadService."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def CreateThread(
        self, request: pb.CreateThreadRequest, caller: Caller
    ) -> pb.CreateThreadResponse:
        need(caller, "post")
        thread = Thread(
            name=valid.thread_name("thread", request.thread),
            topic=valid.text("topic", request.topic, TOPIC_BYTES),
            labels=valid.labels("labels", request.labels),
            creator=caller.name,
        )
        return pb.CreateThreadResponse(thread=await self._bus.create_thread(thread))

    async def GetThread(self, request: pb.GetThreadRequest, caller: Caller) -> pb.GetThreadResponse:
        need(caller, "read")
        name = valid.thread_name("thread", request.thread)
        return pb.GetThreadResponse(thread=await self._bus.thread(name))

    async def ListThreads(
        self, request: pb.ListThreadsRequest, caller: Caller
    ) -> pb.ListThreadsResponse:
        need(caller, "read")
        if len(request.states) > 100:
            raise ValidationFailed(("states", "at most 100"))
        states = {
            valid.enum(f"states[{at}]", state, ThreadState)
            for at, state in enumerate(request.states)
        } or {THREAD_STATE_OPEN, THREAD_STATE_CLOSED}
        if THREAD_STATE_UNSPECIFIED in states:
            states = set(ThreadState.values())
        if request.participant:
            valid.agent_name("participant", request.participant)
        size = valid.limit("page_size", request.page_size, default=100, most=1_000)
        placed = await self._bus.list_threads(
            states=sorted(states),
            prefix=valid.text("prefix", request.prefix, 128),
            participant=request.participant,
            limit=size + 1,
            after=_place(request.page_token),
        )
        threads = fitting([thread for thread, _ in placed], size)
        response = pb.ListThreadsResponse(threads=threads)
        if len(placed) > len(threads):
            response.next_page_token = _page_token(placed[len(threads) - 1][1])
        return response

    async def JoinThread(
        self, request: pb.JoinThreadRequest, caller: Caller
    ) -> pb.JoinThreadResponse:
        need(caller, "read")
        if request.create:
            need(caller, "post")
        start = valid.enum("start", request.start, pb.JoinStart)
        joined = await self._bus.join_thread(
            JoinThread(
                Thread(
                    name=valid.thread_name("thread", request.thread),
                    topic=valid.text("topic", request.topic, TOPIC_BYTES),
                    creator=caller.name,
                ),
                create=request.create,
                agent=caller.own_name or None,
                from_first=start == pb.JOIN_START_FIRST,
                context_limit=min(valid.number("context_limit", request.context_limit), 100),
                context_bytes=CONTEXT_BYTES,
            )
        )
        thread = joined.thread
        return pb.JoinThreadResponse(
            thread=thread,
            created=joined.created,
            cursor=Cursor(thread=thread.name, after_seq=joined.after_seq, epoch=thread.epoch),
            context=joined.context,
        )

    async def SetThreadState(
        self, request: pb.SetThreadStateRequest, caller: Caller
    ) -> pb.SetThreadStateResponse:
        need(caller, "post")
        name = valid.thread_name("thread", request.thread)
        state = ThreadState.ValueType(valid.enum("state", request.state, ThreadState, unset=False))
        entry = Message(sender=caller.name, sender_kind=caller.kind)
        thread = await self._bus.set_thread_state(SetThreadState(name, state, entry))
        return pb.SetThreadStateResponse(thread=thread)

    async def DeleteThread(
        self, request: pb.DeleteThreadRequest, caller: Caller
    ) -> pb.DeleteThreadResponse:
        need(caller, "post")
        await self._bus.delete_thread(valid.thread_name("thread", request.thread))
        return pb.DeleteThreadResponse()


def _page_token(place: Place) -> str:
    return base64.urlsafe_b64encode(struct.pack(">qqq", *place)).decode()


def _place(page_token: str) -> Place | None:
    if not page_token:
        return None
    try:
        return Place(*struct.unpack(">qqq", base64.urlsafe_b64decode(page_token)))
    except (ValueError, struct.error):
        raise ValidationFailed(("page_token", "not one that this server gave")) from None


SERVICE = pb.DESCRIPTOR.services_by_name["ThreadService"]
