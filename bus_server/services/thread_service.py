"""ThreadService: threads and their participants."""

import base64
import struct

from bus_server.auth import Caller, require_scope
from bus_server.bus import Bus
from bus_server.errors import ValidationFailed
from bus_server.services import validation
from bus_server.services.pages import take_page
from bus_server.store import JoinThread, LeaveThread, SetThreadState, ThreadPageKey, UpdateThread
from threadbus.limits import MAX_FILTER_VALUES, MAX_STAGE_BYTES, MAX_TOPIC_BYTES
from threadbus.v1 import thread_service_pb2 as pb
from threadbus.v1.message_pb2 import Cursor, Message
from threadbus.v1.thread_pb2 import (
    SYNC_MODE_OFF,
    THREAD_STATE_CLOSED,
    THREAD_STATE_OPEN,
    THREAD_STATE_UNSPECIFIED,
    SyncMode,
    Thread,
    ThreadState,
)

#: Maximum bytes of context, and number of participants, in the response to JoinThread. One message
#: of context is always allowed.
CONTEXT_BYTES = 1024 * 1024
JOIN_PARTICIPANTS = 100
#: The fields that UpdateThread can set.
_SETTINGS = ("topic", "stage", "labels", "sync_mode")


class ThreadService:
    """The servicer of threadbus.v1.ThreadService. Methods raise BusError as the proto says."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def CreateThread(
        self, request: pb.CreateThreadRequest, caller: Caller
    ) -> pb.CreateThreadResponse:
        require_scope(caller, "post")
        thread = Thread(
            name=validation.thread_name("thread", request.thread),
            topic=validation.text("topic", request.topic, MAX_TOPIC_BYTES),
            labels=validation.labels("labels", request.labels),
            sync_mode=_sync_mode(request.sync_mode),
            creator=caller.name,
        )
        return pb.CreateThreadResponse(thread=await self._bus.create_thread(thread))

    async def GetThread(self, request: pb.GetThreadRequest, caller: Caller) -> pb.GetThreadResponse:
        require_scope(caller, "read")
        name = validation.thread_name("thread", request.thread)
        return pb.GetThreadResponse(thread=await self._bus.thread(name))

    async def ListThreads(
        self, request: pb.ListThreadsRequest, caller: Caller
    ) -> pb.ListThreadsResponse:
        require_scope(caller, "read")
        validation.at_most("states", request.states, MAX_FILTER_VALUES)
        states = {
            validation.enum(f"states[{at}]", state, ThreadState)
            for at, state in enumerate(request.states)
        } or {THREAD_STATE_OPEN, THREAD_STATE_CLOSED}
        if THREAD_STATE_UNSPECIFIED in states:
            states = set(ThreadState.values())
        if request.participant:
            validation.agent_name("participant", request.participant)
        size = validation.page_size("page_size", request.page_size)
        keyed = await self._bus.list_threads(
            states=sorted(states),
            prefix=validation.text("prefix", request.prefix, 128),
            participant=request.participant,
            limit=size + 1,
            after=_key(request.page_token),
        )
        threads = take_page([thread for thread, _ in keyed], size)
        response = pb.ListThreadsResponse(threads=threads)
        if len(keyed) > len(threads):
            response.next_page_token = _page_token(keyed[len(threads) - 1][1])
        return response

    async def JoinThread(
        self, request: pb.JoinThreadRequest, caller: Caller
    ) -> pb.JoinThreadResponse:
        require_scope(caller, "read")
        if request.create:
            require_scope(caller, "post")
        start = validation.enum("start", request.start, pb.JoinStart)
        joined, entrance = await self._bus.join_thread(
            JoinThread(
                Thread(
                    name=validation.thread_name("thread", request.thread),
                    topic=validation.text("topic", request.topic, MAX_TOPIC_BYTES),
                    creator=caller.name,
                ),
                create=request.create,
                agent=caller.own_name or None,
                from_first=start == pb.JOIN_START_FIRST,
                context_limit=min(validation.number("context_limit", request.context_limit), 100),
                context_bytes=CONTEXT_BYTES,
                participant_limit=JOIN_PARTICIPANTS,
            )
        )
        thread = entrance.thread
        return pb.JoinThreadResponse(
            thread=thread,
            created=joined.created,
            similar=joined.similar,
            cursor=Cursor(thread=thread.name, after_seq=joined.after_seq, epoch=thread.epoch),
            context=entrance.context,
            participants=entrance.participants,
        )

    async def LeaveThread(
        self, request: pb.LeaveThreadRequest, caller: Caller
    ) -> pb.LeaveThreadResponse:
        require_scope(caller, "read")
        name = validation.thread_name("thread", request.thread)
        await self._bus.leave_thread(LeaveThread(name, caller.own_name))
        return pb.LeaveThreadResponse()

    async def ListParticipants(
        self, request: pb.ListParticipantsRequest, caller: Caller
    ) -> pb.ListParticipantsResponse:
        require_scope(caller, "read")
        name = validation.thread_name("thread", request.thread)
        size = validation.page_size("page_size", request.page_size)
        if request.page_token:
            validation.agent_name("page_token", request.page_token)
        found = await self._bus.participants(name, after=request.page_token, limit=size + 1)
        more = len(found) > size
        return pb.ListParticipantsResponse(
            participants=found[:size], next_page_token=found[size - 1].agent if more else ""
        )

    async def UpdateThread(
        self, request: pb.UpdateThreadRequest, caller: Caller
    ) -> pb.UpdateThreadResponse:
        require_scope(caller, "post")
        name = validation.thread_name("thread", request.thread)
        mask = validation.update_mask("update_mask", request.update_mask, _SETTINGS)
        settings = Thread(
            topic=validation.text("topic", request.topic, MAX_TOPIC_BYTES),
            stage=validation.text("stage", request.stage, MAX_STAGE_BYTES),
            labels=validation.labels("labels", request.labels),
            sync_mode=_sync_mode(request.sync_mode),
        )
        entry = Message(sender=caller.name, sender_kind=caller.kind)
        change = UpdateThread(name, entry, settings, mask)
        return pb.UpdateThreadResponse(thread=await self._bus.change_thread(change))

    async def SetThreadState(
        self, request: pb.SetThreadStateRequest, caller: Caller
    ) -> pb.SetThreadStateResponse:
        require_scope(caller, "post")
        name = validation.thread_name("thread", request.thread)
        state = ThreadState.ValueType(
            validation.enum("state", request.state, ThreadState, unset=False)
        )
        entry = Message(sender=caller.name, sender_kind=caller.kind)
        thread = await self._bus.change_thread(SetThreadState(name, state, entry))
        return pb.SetThreadStateResponse(thread=thread)

    async def DeleteThread(
        self, request: pb.DeleteThreadRequest, caller: Caller
    ) -> pb.DeleteThreadResponse:
        require_scope(caller, "post")
        await self._bus.delete_thread(validation.thread_name("thread", request.thread))
        return pb.DeleteThreadResponse()


def _sync_mode(value: int) -> SyncMode.ValueType:
    return SyncMode.ValueType(validation.enum("sync_mode", value, SyncMode) or SYNC_MODE_OFF)


def _page_token(key: ThreadPageKey) -> str:
    return base64.urlsafe_b64encode(struct.pack(">qq", *key)).decode()


def _key(page_token: str) -> ThreadPageKey | None:
    """Returns the key in a page token; None without a token. Raises ValidationFailed."""
    if not page_token:
        return None
    try:
        return ThreadPageKey(*struct.unpack(">qq", base64.urlsafe_b64decode(page_token)))
    except (ValueError, struct.error):
        reason = "not valid at this server: list again from the first page"
        raise ValidationFailed(("page_token", reason)) from None


SERVICE = pb.DESCRIPTOR.services_by_name["ThreadService"]
