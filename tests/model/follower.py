"""An open wait while others act, checked against the model."""

import copy
from collections.abc import Sequence

from tests.model.blocking_bus import BlockingBus
from tests.model.frames import expected_frames
from tests.model.history import ANONYMOUS, History, Refusal, no_thread
from tests.model.model import Model
from threadbus.v1.bus_service_pb2 import (
    WaitEnding,
    WaitMessagesRequest,
    WaitMessagesResponse,
    WaitResync,
)
from threadbus.v1.message_pb2 import Cursor, Message
from threadbus.v1.thread_pb2 import THREAD_STATE_OPEN


class Follower:
    """A wait that opens at the request's cursors, and reopens at those of its frames."""

    def __init__(
        self, bus: BlockingBus, model: Model, request: WaitMessagesRequest, caller: str
    ) -> None:
        self._bus = bus
        self._request = request
        self.caller = caller
        self._begins = {cursor.thread: cursor.after_seq for cursor in request.threads}
        self._lives = {cursor.thread: cursor.epoch for cursor in request.threads}
        #: The oldest entry of each thread that was kept when the wait first opened, and the last
        #: that may have been removed before it was delivered.
        self._firsts = {name: model.threads[name].first for name in self._lives}
        self._skipped = dict.fromkeys(self._lives, 0)
        self._received: dict[str, list[Message]] = {name: [] for name in self._lives}
        self._checked = dict.fromkeys(self._lives, 0)  # how many of the received messages
        self._may_have_ended = False
        self.ended = False
        self.open(model)

    def open(self, model: Model) -> None:
        """Open the wait from the request's cursors; the first frames must be the model's."""
        self._frames = self._bus.wait(self._request, self.caller)
        self._caught_up: set[str] = set()
        started, *others = expected_frames(model, self._request, self.caller)
        assert next(self._frames) == started
        for frame in others:
            if isinstance(frame, WaitMessagesResponse) and frame.HasField("resync"):
                assert next(self._frames) == frame
                self._skip(frame.resync)
        model.presence[self.caller].calls()
        model.presence[self.caller].waits(list(self._lives))

    def waits_for(self, message: Message, history: History) -> bool:
        """Returns whether it is open on a thread, with a filter that matches the message."""
        here = self._lives.get(message.thread) == history.thread.epoch
        return here and history.wants(self._request.filter, self.caller, message)

    def waits_on(self, thread: str) -> bool:
        return thread in self._lives

    def close(self) -> None:
        self._frames.close()

    def settle(
        self, model: Model, *, closed_meanwhile: bool = False, at_once: bool = False
    ) -> None:
        """Receive all that must have been sent by now, by the model.

        `closed_meanwhile`: all of its threads may have been closed for a moment, and the wait may
        have ended with that. `at_once`: messages may have been sent before others edited them.
        """
        self._may_have_ended |= closed_meanwhile
        histories = {name: model.histories[life] for name, life in self._lives.items()}
        gone = [name for name, life in histories.items() if model.threads.get(name) is not life]
        closed = all(h.thread.state != THREAD_STATE_OPEN for h in histories.values())
        while not self.ended and (gone or closed or self._lacks(histories)):
            frame = self._next(model)
            if isinstance(frame, Refusal):
                assert frame in [no_thread(name) for name in gone]
                self.ended = True
            elif frame is not None:
                assert closed or self._may_have_ended
                assert frame.reason == WaitEnding.REASON_THREADS_CLOSED
                self.ended = True
        for name, history in histories.items():
            received, wanted = self._received[name], self._wanted(history)
            new = slice(self._checked[name], len(received))
            assert _told(received[new], at_once) == _told(wanted[new], at_once)
            self._checked[name] = len(received)
            whole = len(received) == len(wanted)
            assert self.ended or whole
            assert whole or gone or self._may_have_ended

    def drained(self, model: Model) -> None:
        """The server drains: the wait must end with that reason, and the cursors to resume from."""
        ending = self._next(model)
        assert isinstance(ending, WaitEnding)
        if self._may_have_ended and ending.reason == WaitEnding.REASON_THREADS_CLOSED:
            self.ended = True
            return
        assert ending.reason == WaitEnding.REASON_DRAINING
        assert 0 < ending.retry_delay.ToMilliseconds() <= 1_000
        heads = (model.threads[name] for name in self._lives)
        assert list(ending.threads) == [head.position(self._end(head)) for head in heads]

    def session_ended(self, model: Model) -> None:
        """Its agent ended its session: the wait must end with that reason."""
        end = self._next(model)
        assert isinstance(end, WaitEnding)
        assert end.reason == WaitEnding.REASON_SESSION_ENDED or self._may_have_ended
        self.ended = True

    def broken(self, model: Model) -> None:
        """The server was killed: the wait must fail with gRPC's own error."""
        end = self._next(model)
        if self._may_have_ended and isinstance(end, WaitEnding):
            assert end.reason == WaitEnding.REASON_THREADS_CLOSED
            self.ended = True
        else:
            assert end == Refusal("UNAVAILABLE", "", {}, [])

    def _next(self, model: Model) -> WaitEnding | Refusal | None:
        """Take one frame; returns what ends the wait."""
        frame = next(self._frames)
        if isinstance(frame, Refusal):
            return frame
        match frame.WhichOneof("frame"):
            case "messages":
                cursor = frame.messages.cursor
                messages = frame.messages.messages
                assert messages
                assert cursor.after_seq >= messages[-1].seq
                self._received[cursor.thread] += messages
                model.delivered(self.caller, model.histories[cursor.epoch], messages)
                self._move(cursor)
            case "resync":  # what was posted last was removed before it was delivered
                position = frame.resync.position
                head = model.histories[position.cursor.epoch].head
                assert frame.resync.reason == WaitResync.REASON_COMPACTED
                assert frame.resync.requested.after_seq < position.cursor.after_seq
                assert position.cursor.after_seq == position.first_seq - 1 <= head
                self._skip(frame.resync)
            case "caught_up":
                cursor = frame.caught_up.cursor
                assert cursor.thread not in self._caught_up
                self._caught_up.add(cursor.thread)
                self._move(cursor)
            case "keepalive":
                for position in frame.keepalive.threads:
                    self._move(position.cursor)
            case "ending":
                for position in frame.ending.threads:
                    self._move(position.cursor)
                assert not list(self._frames)  # the server has ended the wait
                return frame.ending
            case unexpected:
                raise AssertionError(f"a frame {unexpected} on an open wait: {frame}")
        return None

    def _skip(self, resync: WaitResync) -> None:
        """Go on behind what was removed."""
        self._move(resync.position.cursor)
        self._skipped[resync.requested.thread] = resync.position.cursor.after_seq

    def _move(self, cursor: Cursor) -> None:
        """Resume from here; a cursor never goes back."""
        place = next(place for place in self._request.threads if place.thread == cursor.thread)
        assert cursor.epoch == place.epoch
        assert cursor.after_seq >= place.after_seq
        place.CopyFrom(cursor)

    def _wanted(self, history: History) -> list[Message]:
        name, filter = history.thread.name, self._request.filter
        received = {message.seq for message in self._received[name]}
        return [
            message
            for message in history.wanted(
                filter, self.caller, self._begins[name], history.head, self._firsts[name]
            )
            if message.seq > self._skipped[name] or message.seq in received
        ]

    def _end(self, history: History) -> Cursor:
        """Returns the cursor at the head, with the first of others that the filter hides."""
        shown = {message.seq for message in self._wanted(history)}
        end = history.at(history.head)
        name = history.thread.name
        for message in reversed(history.log[max(self._begins[name], self._skipped[name]) :]):
            own = message.sender == self.caller != ANONYMOUS
            if message.seq not in shown and not own:
                end.hidden_seq = message.seq
        return end

    def _lacks(self, histories: dict[str, History]) -> bool:
        return len(self._caught_up) < len(histories) or any(
            len(self._received[name]) < len(self._wanted(history))
            for name, history in histories.items()
        )


def _told(messages: Sequence[Message], at_once: bool) -> Sequence[Message]:
    """Returns messages without the fields that were not certain when they were sent."""
    if not at_once:
        return messages
    told = copy.deepcopy(messages)
    for message in told:
        message.ClearField("edit_seq")
    return told
