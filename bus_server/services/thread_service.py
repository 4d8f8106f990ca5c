"""ThreadService: threads and their participants."""

import base64
import struct
import time
from dataclasses import replace

from bus_server import trace_context
from bus_server.auth import Caller
from bus_server.bus import Bus
from bus_server.errors import BusError, OutcomeUnknown, ThreadNotFound, ValidationFailed
from bus_server.permissions import RULES, Conditions, Who, narrowed, who_may_update
from bus_server.rates import Quota, renewed_quota
from bus_server.services import validation
from bus_server.services.key_formats import refuse_keys, refuse_keys_in_labels
from bus_server.services.pages import take_page
from bus_server.settings import Settings
from bus_server.store import (
    DeleteThread,
    Entrance,
    Joined,
    JoinThread,
    LeaveThread,
    SetThreadState,
    ThreadPageKey,
    UpdateThread,
)
from threadbus.limits import MAX_EPOCH_BYTES, MAX_FILTER_VALUES, MAX_STAGE_BYTES, MAX_TOPIC_BYTES
from threadbus.v1 import thread_service_pb2 as pb
from threadbus.v1.agent_pb2 import AGENT_KIND_HUMAN
from threadbus.v1.message_pb2 import Cursor, Message
from threadbus.v1.thread_pb2 import (
    SYNC_MODE_OFF,
    THREAD_STATE_CLOSED,
    THREAD_STATE_OPEN,
    THREAD_STATE_UNSPECIFIED,
    Retention,
    SyncMode,
    Thread,
    ThreadState,
)

#: Maximum bytes of context, and number of participants, in the response to JoinThread. One message
#: of context is always allowed.
CONTEXT_BYTES = 1024 * 1024
JOIN_PARTICIPANTS = 100
#: The fields that UpdateThread can set.
_SETTINGS = ("topic", "stage", "labels", "sync_mode", "retention")


class ThreadService:
    """The servicer of threadbus.v1.ThreadService. Methods raise BusError as the proto says."""

    def __init__(self, bus: Bus, settings: Settings) -> None:
        self._bus = bus
        self._quota: Quota | None = None
        self.reload(settings)

    def reload(self, settings: Settings) -> None:
        """Use other settings from now on."""
        self._everyone = settings.thread_rights == "everyone"
        self._refuse_secrets = settings.refuse_secrets
        self._quota = renewed_quota(self._quota, "threads", settings.threads_per_caller)

    async def CreateThread(
        self, request: pb.CreateThreadRequest, caller: Caller
    ) -> pb.CreateThreadResponse:
        thread = Thread(
            name=validation.thread_name("thread", request.thread),
            topic=validation.text("topic", request.topic, MAX_TOPIC_BYTES),
            labels=validation.labels("labels", request.labels),
            sync_mode=_sync_mode(request.sync_mode),
            creator=caller.name,
            retention=_retention(request),
        )
        self._check_content(thread)
        quota = None if caller.operator else self._quota
        if quota is not None and not quota.take(caller.name, time.monotonic_ns()):
            raise quota.exceeded(caller.name, time.monotonic_ns())
        try:
            return pb.CreateThreadResponse(thread=await self._bus.create_thread(thread))
        except BusError as error:
            if quota is not None and not isinstance(error, OutcomeUnknown):
                quota.give_back(caller.name)
            raise

    async def GetThread(self, request: pb.GetThreadRequest, caller: Caller) -> pb.GetThreadResponse:
        name = validation.thread_name("thread", request.thread)
        return pb.GetThreadResponse(thread=await self._bus.thread(name))

    async def ListThreads(
        self, request: pb.ListThreadsRequest, caller: Caller
    ) -> pb.ListThreadsResponse:
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
        prefix = validation.text("prefix", request.prefix, 128)
        keyed = await self._bus.list_threads(
            states=sorted(states),
            prefixes=narrowed(prefix, caller.prefixes),
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
        start = validation.enum("start", request.start, pb.JoinStart)
        new = Thread(
            name=validation.thread_name("thread", request.thread),
            topic=validation.text("topic", request.topic, MAX_TOPIC_BYTES),
            creator=caller.name,
        )
        self._check_content(new)
        join = JoinThread(
            new,
            create=request.create,
            agent=caller.own_name or None,
            from_first=start == pb.JOIN_START_FIRST,
            context_limit=min(validation.number("context_limit", request.context_limit), 100),
            context_bytes=CONTEXT_BYTES,
            participant_limit=JOIN_PARTICIPANTS,
        )
        if join.create and self._quota is not None and not caller.operator:
            joined, entrance = await _join_within(self._quota, self._bus, join, caller)
        else:
            joined, entrance = await self._bus.join_thread(join)
        thread = entrance.thread
        return pb.JoinThreadResponse(
            thread=thread,
            created=joined.created,
            similar=[name for name in joined.similar if name.startswith(caller.prefixes or "")],
            cursor=Cursor(thread=thread.name, after_seq=joined.after_seq, epoch=thread.epoch),
            context=entrance.context,
            participants=entrance.participants,
        )

    async def LeaveThread(
        self, request: pb.LeaveThreadRequest, caller: Caller
    ) -> pb.LeaveThreadResponse:
        name = validation.thread_name("thread", request.thread)
        await self._bus.leave_thread(LeaveThread(name, caller.own_name))
        return pb.LeaveThreadResponse()

    async def ListParticipants(
        self, request: pb.ListParticipantsRequest, caller: Caller
    ) -> pb.ListParticipantsResponse:
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
        name = validation.thread_name("thread", request.thread)
        mask = validation.update_mask("update_mask", request.update_mask, _SETTINGS)
        settings = Thread(
            topic=validation.text("topic", request.topic, MAX_TOPIC_BYTES),
            stage=validation.text("stage", request.stage, MAX_STAGE_BYTES),
            labels=validation.labels("labels", request.labels),
            sync_mode=_sync_mode(request.sync_mode),
            retention=_retention(request),
        )
        self._check_content(settings)
        change = UpdateThread(
            name,
            _entry(caller),
            settings,
            mask,
            conditions=self._conditions(caller, request.epoch, who_may_update(mask)),
        )
        return pb.UpdateThreadResponse(thread=await self._bus.change_thread(change))

    async def SetThreadState(
        self, request: pb.SetThreadStateRequest, caller: Caller
    ) -> pb.SetThreadStateResponse:
        name = validation.thread_name("thread", request.thread)
        state = ThreadState.ValueType(
            validation.enum("state", request.state, ThreadState, unset=False)
        )
        entry = _entry(caller)
        who = RULES["ThreadService.SetThreadState"].who
        conditions = self._conditions(caller, request.epoch, who)
        thread = await self._bus.change_thread(
            SetThreadState(name, state, entry, conditions=conditions)
        )
        return pb.SetThreadStateResponse(thread=thread)

    async def DeleteThread(
        self, request: pb.DeleteThreadRequest, caller: Caller
    ) -> pb.DeleteThreadResponse:
        name = validation.thread_name("thread", request.thread)
        who = RULES["ThreadService.DeleteThread"].who
        conditions = self._conditions(caller, request.epoch, who)
        await self._bus.delete_thread(DeleteThread(name, conditions))
        return pb.DeleteThreadResponse()

    def _check_content(self, thread: Thread) -> None:
        """Raises ContentBlocked if a text of a thread contains a key, and those are refused."""
        if self._refuse_secrets:
            refuse_keys("topic", thread.topic)
            refuse_keys("stage", thread.stage)
            refuse_keys_in_labels(thread.labels)

    def _conditions(self, caller: Caller, epoch: str, who: Who) -> Conditions:
        """Returns the conditions of a change that `who` may make. Raises ValidationFailed."""
        return Conditions(
            caller.name,
            AGENT_KIND_HUMAN if caller.operator else caller.kind,
            Who.ANYONE if self._everyone else who,
            validation.text("epoch", epoch, MAX_EPOCH_BYTES),
        )


async def _join_within(
    quota: Quota, bus: Bus, join: JoinThread, caller: Caller
) -> tuple[Joined, Entrance]:
    """As `Bus.join_thread`. Raises QuotaExceeded if a thread would be created beyond a quota.

    A thread that exists is joined, whatever the quota.
    """
    now = time.monotonic_ns()
    if not quota.take(caller.name, now):
        try:
            return await bus.join_thread(replace(join, create=False))
        except ThreadNotFound:
            raise quota.exceeded(caller.name, now) from None
    try:
        joined, entrance = await bus.join_thread(join)
    except BusError as error:
        if not isinstance(error, OutcomeUnknown):
            quota.give_back(caller.name)
        raise
    if not joined.created:
        quota.give_back(caller.name)
    return joined, entrance


def _entry(caller: Caller) -> Message:
    """Returns what a change of a thread by the current call has in its THREAD entry."""
    return Message(
        sender=caller.name, sender_kind=caller.kind, traceparent=trace_context.traceparent.get()
    )


def _sync_mode(value: int) -> SyncMode.ValueType:
    return SyncMode.ValueType(validation.enum("sync_mode", value, SyncMode) or SYNC_MODE_OFF)


def _retention(request: pb.CreateThreadRequest | pb.UpdateThreadRequest) -> Retention | None:
    """Returns the retention that a request has; None: none. Raises ValidationFailed."""
    if not request.HasField("retention"):
        return None
    retention = request.retention
    if retention.HasField("max_age"):
        validation.duration("retention.max_age", retention.max_age)
    validation.number("retention.max_messages", retention.max_messages)
    validation.number("retention.max_bytes", retention.max_bytes)
    return retention


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
