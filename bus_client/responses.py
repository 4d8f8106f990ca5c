"""Checks of responses against the contract. A violation raises ProtocolError.

A server may be faulty or may not be ThreadBus, and a proxy may change what it sends. So the SDK
checks every seq, thread name, cursor and duration here before it relies on it.
"""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.duration_pb2 import Duration

from bus_client.errors import ProtocolError
from bus_client.read_position import ReadPosition
from threadbus.limits import MAX_WAIT_THREADS, SEQ_LIMIT
from threadbus.names import TOKEN
from threadbus.v1.bus_service_pb2 import (
    ListMessagesRequest,
    ListMessagesResponse,
    MessageBatch,
    ParticipantUpdate,
    PostMessageResponse,
    PostMessagesRequest,
    PostMessagesResponse,
    WaitKeepalive,
    WaitMessagesRequest,
    WaitMessagesResponse,
    WaitResync,
    WaitStarted,
)
from threadbus.v1.message_pb2 import Cursor, Message, MessageFilter
from threadbus.v1.thread_pb2 import Thread, ThreadPosition
from threadbus.v1.thread_service_pb2 import JoinThreadResponse

#: The largest seq that the contract allows.
_MAX_SEQ = SEQ_LIMIT - 1
#: The number of participants in an update that another one may continue.
_FULL_UPDATE = 1_000
#: The longest pause that a server can ask for, in seconds.
_MAX_RETRY_DELAY = 60.0


def bounded_seconds(duration: Duration, *, least: float, most: float, default: float) -> float:
    """Returns a duration in seconds within `least` and `most`; `default` if it is not positive."""
    # Not ToTimedelta(), which raises OverflowError for some durations that can be sent.
    number = duration.seconds + duration.nanos / 1e9
    return min(max(number, least), most) if number > 0 else default


def retry_delay(duration: Duration) -> float:
    """Returns the pause before a retry that a server asks for, in seconds: 0 to 60."""
    return bounded_seconds(duration, least=0.0, most=_MAX_RETRY_DELAY, default=0.0)


def checked_token(token: str) -> str:
    """Returns a token from the server. Raises ProtocolError unless its form is valid."""
    if not TOKEN.fullmatch(token):
        raise ProtocolError("The server sent an invalid token. The old one is kept.")
    return token


def checked_join(response: JoinThreadResponse, thread: str) -> JoinThreadResponse:
    """Returns the response to JoinThread for `thread`.

    Raises:
        ProtocolError: The response is for another thread, or its cursor or context is not valid.
    """
    if response.HasField("thread"):
        checked_thread(response.thread, thread)
    _check_cursor(response.cursor, thread)
    _ascending(response.context, thread, after=0, upto=response.cursor.after_seq)
    return response


def joined_position(joined: JoinThreadResponse, agent: str) -> ReadPosition:
    """Returns how far `agent` has read the thread that it joined, by a checked response."""
    epoch, read = joined.cursor.epoch, joined.cursor.after_seq
    passed = max((p.passed_over for p in joined.participants if p.agent == agent), default=0)
    return ReadPosition(epoch, read, max(read, min(passed, _MAX_SEQ)))


def checked_thread(thread: Thread, name: str) -> Thread:
    """Returns the thread. Raises ProtocolError unless its name is `name` and its seqs are valid."""
    if thread.name != name:
        raise ProtocolError(f"The server sent thread {thread.name!r} instead of {name!r}.")
    head = thread.head_seq
    if not (0 <= head <= _MAX_SEQ and 0 <= thread.first_seq <= head + 1):
        raise ProtocolError(
            f"The server sent impossible seqs for thread {name!r}: {thread.first_seq} to {head}."
        )
    return thread


def checked_message(message: Message, thread: str, seq: int) -> Message:
    """Returns the message. Raises ProtocolError unless it is the one at `seq` of `thread`."""
    if (message.thread, message.seq) != (thread, seq):
        raise ProtocolError(
            f"The server sent {message.thread!r} #{message.seq} instead of {thread!r} #{seq}."
        )
    return message


def checked_post(response: PostMessageResponse, thread: str) -> PostMessageResponse:
    """Returns the response to a post. Raises ProtocolError unless it has a seq in `thread`."""
    if response.thread not in ("", thread):
        raise ProtocolError(f"The server posted to {response.thread!r}, not to {thread!r}.")
    if not 1 <= response.seq <= _MAX_SEQ:
        raise ProtocolError(f"The server sent an impossible seq for a post: {response.seq}.")
    return response


def checked_results(
    response: PostMessagesResponse, batch: PostMessagesRequest
) -> PostMessagesResponse:
    """Returns the response to a batch. Raises ProtocolError unless each post has a valid result."""
    if len(response.results) != len(batch.posts):
        raise ProtocolError(
            f"The server sent {len(response.results)} results for {len(batch.posts)} posts."
        )
    for result, post in zip(response.results, batch.posts, strict=True):
        if result.HasField("response"):
            checked_post(result.response, post.thread)
        elif not result.status.code:
            raise ProtocolError("The server sent a result with neither a response nor an error.")
    return response


def checked_page(
    page: ListMessagesResponse, request: ListMessagesRequest, epoch: str
) -> ListMessagesResponse:
    """Returns a page of messages.

    Args:
        page: The response to `request`.
        request: The request. Its limit must be 1–1,000, so that the server does not lower it.
        epoch: The epoch of the previous page; empty for the first page.

    Raises:
        ProtocolError: The page has messages that were not requested or are out of order, lacks some
            although the request has no filter, is of another epoch, or does not lead to the next
            page.
    """
    messages = page.messages
    before = request.before_seq or _MAX_SEQ + 1
    _ascending(messages, request.thread, after=request.after_seq, upto=before - 1)
    if len(messages) > request.limit:
        raise ProtocolError(
            f"The server sent {len(messages)} messages; the limit was {request.limit}."
        )
    if epoch and page.epoch != epoch:
        raise ProtocolError("The server sent pages of two histories of one thread.")
    first = messages[0].seq if messages else before
    last = messages[-1].seq if messages else request.after_seq
    if page.has_more:
        if request.newest:
            moved = request.after_seq < page.next_before_seq <= min(first, before - 1)
        else:
            moved = max(request.after_seq + 1, last) <= page.next_after_seq < before - 1
        if not moved:
            raise ProtocolError("The server sent a page that does not lead to the next one.")
    if not filters(request.filter):
        _check_complete(page, request)
    return page


def _check_complete(page: ListMessagesResponse, request: ListMessagesRequest) -> None:
    """Raises ProtocolError if a page without a filter lacks messages."""
    low = max(request.after_seq + 1, page.first_seq)
    high = min(request.before_seq or _MAX_SEQ + 1, page.head_seq + 1) - 1
    if page.has_more and request.newest:
        low = page.next_before_seq
    elif page.has_more:
        high = page.next_after_seq
    if [message.seq for message in page.messages] != list(
        range(low, high + 1)[: request.limit + 1]
    ):
        raise ProtocolError(
            f"The server left out messages of {request.thread!r} between #{low} and #{high}."
        )


class WaitPosition:
    """The position of one wait on one thread, over all streams of the wait.

    It checks each frame, and removes messages that were delivered before, whatever a server sends
    after a reconnect. Participants then come again: it adds the names of those that have left.

    Attributes:
        cursor: Where to resume the wait. It comes from the server, but only a resync moves it back.
    """

    def __init__(self, cursor: Cursor, *, filtered: bool) -> None:
        """`filtered`: Whether the wait has a filter, so that it does not get all messages."""
        self.cursor = Cursor()
        self.cursor.CopyFrom(cursor)
        self._filtered = filtered
        self._participants: set[str] = set()
        #: Those that the current stream has not sent again, until it has sent all.
        self._unconfirmed: set[str] = set()

    def resume(self, request: WaitMessagesRequest) -> None:
        """Set the cursor of the request with which the wait is resumed."""
        request.threads[0].CopyFrom(self.cursor)

    def advance(self, frame: WaitMessagesResponse) -> bool:
        """Move the cursor past `frame`, and remove repeated messages from the frame.

        Returns whether the cursor moved forward; False for a resync to another history.

        Raises:
            ProtocolError: The frame breaks the contract: do not use it. The cursor is unchanged.
        """
        before = self.cursor
        match frame.WhichOneof("frame"):
            case "started":  # its cursors may be invalid: see `resync`
                self._unconfirmed = self._participants.copy()
            case "messages":
                self._advance_past(frame.messages)
            case "caught_up":
                self._advance_to(frame.caught_up)
            case "keepalive":
                self._advance_to(*frame.keepalive.threads)
            case "ending":
                self._advance_to(*frame.ending.threads)
            case "resync":
                self._resync(frame.resync)
                return frame.resync.reason == WaitResync.REASON_COMPACTED
            case "participants":
                self._update_participants(frame.participants)
        return self.cursor.after_seq > before.after_seq

    def _advance_past(self, batch: MessageBatch) -> None:
        self._check(batch.cursor)
        thread, here, upto = self.cursor.thread, self.cursor.after_seq, batch.cursor.after_seq
        last, repeats = here, False
        for message in batch.messages:
            seq = message.seq
            if message.thread != thread:
                raise _of_another_thread(message, thread)
            if 1 <= seq <= here:
                repeats = True
                continue
            if not last < seq <= upto:
                raise _misplaced(message, last, upto)
            if seq > last + 1:
                self._check_gap(last, seq)
            last = seq
        self._check_gap(last, upto + 1)
        if repeats:
            fresh = [message for message in batch.messages if message.seq > here]
            del batch.messages[:]
            batch.messages.extend(fresh)
        self._move(batch.cursor)

    def _advance_to(self, *positions: ThreadPosition) -> None:
        for position in positions:
            self._check(position.cursor)
            self._check_gap(self.cursor.after_seq, position.cursor.after_seq + 1)
        for position in positions:
            self._move(position.cursor)

    def _resync(self, resync: WaitResync) -> None:
        cursor = resync.position.cursor
        _check_cursor(cursor, self.cursor.thread)
        if resync.reason == WaitResync.REASON_COMPACTED:
            self._check_compacted(resync)
        self.cursor = Cursor()
        self.cursor.CopyFrom(cursor)

    def _check_compacted(self, resync: WaitResync) -> None:
        """Raises ProtocolError unless it goes from where the wait is to the oldest entry kept."""
        requested, position, here = resync.requested, resync.position, self.cursor
        self._check(requested)
        self._check(position.cursor)
        before, after = requested.after_seq, position.cursor.after_seq
        # A filter may have moved the wait further than any frame has said.
        begins = before >= here.after_seq if self._filtered else before == here.after_seq
        ends = after == position.first_seq - 1 and after <= position.head_seq
        same_epoch = requested.epoch in ("", position.cursor.epoch)
        if not (begins and before < after and ends and same_epoch) or position.cursor.hidden_seq:
            raise ProtocolError(
                f"The server skipped messages {before + 1} to {after} of thread {here.thread!r}, "
                f"but the wait was after {here.after_seq}, and it keeps those from "
                f"{position.first_seq} to {position.head_seq}."
            )

    def _update_participants(self, update: ParticipantUpdate) -> None:
        if update.thread != self.cursor.thread:
            raise ProtocolError(
                f"The server sent participants of {update.thread!r} for {self.cursor.thread!r}."
            )
        sent = {participant.agent for participant in update.participants}
        self._unconfirmed -= sent
        self._unconfirmed.difference_update(update.left)
        if len(update.participants) < _FULL_UPDATE and self._unconfirmed:
            update.left.extend(sorted(self._unconfirmed))
            self._unconfirmed.clear()
        self._participants |= sent
        self._participants.difference_update(update.left)

    def _check(self, cursor: Cursor) -> None:
        _check_cursor(cursor, self.cursor.thread)
        if self.cursor.epoch and cursor.epoch != self.cursor.epoch:
            raise ProtocolError(
                f"The server went from epoch {self.cursor.epoch!r} of thread {cursor.thread!r} to "
                f"{cursor.epoch!r} without a resync."
            )

    def _check_gap(self, last: int, following: int) -> None:
        """Raises ProtocolError if messages between the two seqs are missing.

        Those that are not kept any more are skipped with a resync.
        """
        if not self._filtered and following > last + 1:
            raise ProtocolError(
                f"The server left out messages of thread {self.cursor.thread!r} after #{last}."
            )

    def _move(self, cursor: Cursor) -> None:
        """Adopt a frame's checked cursor. If it is behind the wait's, replace it in the frame."""
        if cursor.after_seq < self.cursor.after_seq:
            cursor.CopyFrom(self.cursor)
        else:
            self.cursor = Cursor()
            self.cursor.CopyFrom(cursor)


class WaitPositions:
    """The positions of one wait in several threads, over all streams of the wait.

    With all_my_threads, those that the server has sent. It then starts in other threads at the
    agent's read position, so of more than 1,000 the first ones are sent again when it is resumed.
    """

    def __init__(self, request: WaitMessagesRequest) -> None:
        self._filtered = filters(request.filter)
        self._all = request.all_my_threads
        #: By thread; the one that moved last comes last.
        self._positions: dict[str, WaitPosition] = {}
        for cursor in request.threads:
            self._add(cursor)

    def resume(self, request: WaitMessagesRequest) -> None:
        """Set the cursors of the request with which the wait is resumed."""
        latest = list(self._positions.values())[-MAX_WAIT_THREADS:]
        del request.threads[:]
        request.threads.extend(position.cursor for position in latest)

    def advance(self, frame: WaitMessagesResponse) -> bool:
        """Move the cursors past `frame`, and remove repeated messages from the frame.

        Returns whether any moved forward, or a thread was added or removed.

        Raises ProtocolError as WaitPosition.advance() does.
        """
        match frame.WhichOneof("frame"):
            case "started":
                for place in frame.started.threads:
                    part = WaitMessagesResponse(started=WaitStarted(threads=[place]))
                    self._of(place.cursor).advance(part)
            case "messages":
                return self._of(frame.messages.cursor).advance(frame)
            case "resync" if self._was_delivered(frame.resync):
                frame.ClearField("resync")
            case "resync":
                return self._of(frame.resync.position.cursor).advance(frame)
            case "participants" if not self._all:
                return self._of(Cursor(thread=frame.participants.thread)).advance(frame)
            case "caught_up" if not frame.caught_up.HasField("cursor"):
                return False
            case "caught_up":
                return self._of(frame.caught_up.cursor).advance(frame)
            case "keepalive" | "ending" as kind:
                moved = False
                for place in getattr(frame, kind).threads:
                    part = WaitMessagesResponse(keepalive=WaitKeepalive(threads=[place]))
                    moved |= self._of(place.cursor).advance(part)
                    place.CopyFrom(part.keepalive.threads[0])
                return moved
            case "thread_added":
                cursor = frame.thread_added.cursor
                _check_cursor(cursor, cursor.thread)
                known = self._positions.pop(cursor.thread, None)
                start = WaitStarted(threads=[frame.thread_added])
                self._add(cursor).advance(WaitMessagesResponse(started=start))
                return known is None
            case "thread_removed":
                return self._positions.pop(frame.thread_removed.thread, None) is not None
        return False

    def _was_delivered(self, resync: WaitResync) -> bool:
        """Returns whether the wait has got all that a resync in all_my_threads says is removed.

        In threads whose cursors were not sent, the server started before the wait's, or where only
        the server knows. Then it corrects what the resync says, or takes note of it.
        """
        if not self._all or resync.reason != WaitResync.REASON_COMPACTED:
            return False
        known = self._positions.get(resync.requested.thread)
        if known is None:
            _check_cursor(resync.requested, resync.position.cursor.thread)
            self._add(resync.requested, filtered=True)
            return False
        here = known.cursor
        earlier = len(self._positions) > MAX_WAIT_THREADS and resync.requested.epoch == here.epoch
        if not earlier or resync.requested.after_seq >= here.after_seq:
            return False
        resync.requested.CopyFrom(here)
        return resync.position.cursor.after_seq <= here.after_seq

    def _of(self, cursor: Cursor) -> WaitPosition:
        position = self._positions.pop(cursor.thread, None)
        if position is None:
            if not self._all:
                raise ProtocolError(
                    f"The server sent thread {cursor.thread!r}, which was not requested."
                )
            # Where the server started is not known: it is taken to have left out nothing.
            return self._add(Cursor(thread=cursor.thread, epoch=cursor.epoch), filtered=True)
        self._positions[cursor.thread] = position
        return position

    def _add(self, cursor: Cursor, *, filtered: bool | None = None) -> WaitPosition:
        filtered = self._filtered if filtered is None else filtered
        position = self._positions[cursor.thread] = WaitPosition(cursor, filtered=filtered)
        return position


def hides(wanted: MessageFilter) -> bool:
    """Returns whether a filter can hide messages of others from the agent."""
    others = MessageFilter()
    others.CopyFrom(wanted)
    others.exclude_own = False
    return others != MessageFilter()


def filters(wanted: MessageFilter) -> bool:
    """Returns whether a filter may leave out messages."""
    return wanted.ByteSize() > 0


def _check_cursor(cursor: Cursor, thread: str) -> None:
    if cursor.thread != thread:
        raise ProtocolError(f"The server sent a cursor of {cursor.thread!r} for {thread!r}.")
    if not 0 <= cursor.after_seq <= _MAX_SEQ:
        raise ProtocolError(f"The server sent a cursor at seq {cursor.after_seq} of {thread!r}.")
    if not 0 <= cursor.hidden_seq <= cursor.after_seq:
        raise ProtocolError(
            f"The server sent a cursor that hides {cursor.hidden_seq} of {thread!r}."
        )


def _ascending(messages: Iterable[Message], thread: str, *, after: int, upto: int) -> None:
    """Raises ProtocolError unless all messages are of `thread`, with ascending seqs in the range.

    Args:
        messages: The messages.
        thread: The name of their thread.
        after, upto: The range: after < seq <= upto.
    """
    last = after
    for message in messages:
        if message.thread != thread:
            raise _of_another_thread(message, thread)
        if not last < message.seq <= upto:
            raise _misplaced(message, last, upto)
        last = message.seq


def _of_another_thread(message: Message, thread: str) -> ProtocolError:
    return ProtocolError(f"The server sent a message of {message.thread!r} for {thread!r}.")


def _misplaced(message: Message, last: int, upto: int) -> ProtocolError:
    return ProtocolError(
        f"The server sent #{message.seq} of {message.thread!r} where only #{last + 1} to #{upto} "
        "is possible."
    )
