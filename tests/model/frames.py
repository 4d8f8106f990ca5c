"""The model's frames for a wait that delivers what is stored and ends (max_wait 0s)."""

from collections.abc import Sequence

from google.protobuf.duration_pb2 import Duration

from tests.model.history import ANONYMOUS, History, Refusal, invalid, no_thread
from tests.model.model import Model
from threadbus.v1.bus_service_pb2 import (
    MessageBatch,
    WaitEnding,
    WaitMessagesRequest,
    WaitMessagesResponse,
    WaitResync,
    WaitStarted,
)
from threadbus.v1.message_pb2 import Cursor, Message
from threadbus.v1.thread_pb2 import THREAD_STATE_OPEN, ThreadPosition

KEEPALIVE = Duration(seconds=45)


def expected_frames(
    model: Model, request: WaitMessagesRequest, caller: str
) -> list[WaitMessagesResponse] | Refusal:
    """Returns the frames of the wait. Messages are few and small: no frame is split."""
    names = [cursor.thread for cursor in request.threads]
    if len(set(names)) < len(names) or not names:
        return invalid("threads")
    if request.filter.addressed_to_me and caller == ANONYMOUS:
        return invalid("filter.addressed_to_me")
    missing = [name for name in names if name not in model.threads]
    if missing:
        return no_thread(*missing)
    places = [_Place(model.threads[cursor.thread], cursor) for cursor in request.threads]
    frames = [
        WaitMessagesResponse(
            started=WaitStarted(
                threads=[place.started for place in places], keepalive_interval=KEEPALIVE
            )
        )
    ]
    for place in places:
        if place.resync:
            resync = WaitResync(reason=place.resync, position=place.told, requested=place.requested)
            frames.append(WaitMessagesResponse(resync=resync))
    delivered = counted = 0
    for place in places:
        left = request.max_messages - delivered if request.max_messages else place.history.head
        history = place.history
        messages = history.wanted(request.filter, caller, place.after, history.head)[:left]
        delivered += len(messages)
        counted += sum(request.count_all or history.wakes(each, caller) for each in messages)
        full = 0 < request.max_messages <= delivered
        # When max_messages is reached, the entries behind it are not examined.
        place.advance(messages[-1].seq if full and messages else history.head, messages, caller)
        if messages:
            batch = MessageBatch(cursor=place.told.cursor, messages=messages)
            frames.append(WaitMessagesResponse(messages=batch))
        if place.after == history.head:
            frames.append(WaitMessagesResponse(caught_up=place.told))
        if full:
            break
    ending = WaitEnding(
        reason=_reason(request, delivered, counted, places),
        threads=[place.told for place in places],
    )
    return [*frames, WaitMessagesResponse(ending=ending)]


def _reason(
    request: WaitMessagesRequest, delivered: int, counted: int, places: Sequence["_Place"]
) -> WaitEnding.Reason.ValueType:
    if 0 < request.max_messages <= delivered:
        return WaitEnding.REASON_MAX_MESSAGES
    if 0 < request.min_messages <= counted:
        return WaitEnding.REASON_MIN_MESSAGES
    if all(place.history.thread.state != THREAD_STATE_OPEN for place in places):
        return WaitEnding.REASON_THREADS_CLOSED
    return WaitEnding.REASON_MAX_WAIT


class _Place:
    """The position of the wait in one thread."""

    def __init__(self, history: History, requested: Cursor) -> None:
        self.history = history
        self.requested = requested
        self.resync: WaitResync.Reason.ValueType | None = None
        if requested.epoch not in ("", history.thread.epoch):
            self.resync = WaitResync.REASON_EPOCH_CHANGED
        elif requested.after_seq > history.head:
            self.resync = WaitResync.REASON_CURSOR_AHEAD
        elif requested.after_seq < history.first - 1:
            self.resync = WaitResync.REASON_COMPACTED
        self.after = history.first - 1 if self.resync else requested.after_seq
        self.hidden = 0 if self.resync else requested.hidden_seq

    def advance(self, upto: int, shown: Sequence[Message], caller: str) -> None:
        """Move past these messages, and those of others that the filter hides."""
        seqs = {message.seq for message in shown}
        hidden = [
            message.seq
            for message in self.history.log[self.after : upto]
            if message.seq not in seqs and (caller == ANONYMOUS or message.sender != caller)
        ]
        self.hidden = self.hidden or next(iter(hidden), 0)
        self.after = upto

    @property
    def started(self) -> ThreadPosition:
        """The requested position if it gets a resync frame, which is still to come."""
        return self.history.position(self.requested) if self.resync else self.told

    @property
    def told(self) -> ThreadPosition:
        cursor = self.history.at(self.after)
        cursor.hidden_seq = self.hidden
        return self.history.position(cursor)
