"""Checks a server's responses against the model."""

import itertools
from collections.abc import Sequence

from google.protobuf.message import Message as AnyMessage
from hypothesis.stateful import RuleBasedStateMachine

from tests.model.blocking_bus import BlockingBus
from tests.model.follower import Follower
from tests.model.history import ANONYMOUS, OPERATOR, Refusal, invalid
from tests.model.model import Model
from tests.model.moves import Place
from threadbus.v1.agent_pb2 import Participant
from threadbus.v1.bus_service_pb2 import (
    ListMessagesRequest,
    PostMessageRequest,
    PostMessageResponse,
    WaitMessagesRequest,
    WaitMessagesResponse,
)
from threadbus.v1.message_pb2 import Cursor
from threadbus.v1.thread_service_pb2 import GetThreadRequest, GetThreadResponse

Answer = AnyMessage | Refusal

_numbers = itertools.count()


class Checked(RuleBasedStateMachine):
    """A bus and its model, which must return the same."""

    def __init__(self, bus: BlockingBus) -> None:
        super().__init__()
        self.bus = bus
        self.model = Model(f"use{next(_numbers)}")
        self.sent: list[tuple[PostMessageRequest, str]] = []
        self.followers: list[Follower] = []
        #: Agents whose waits were cut off: the server may count them as open for a moment longer.
        self.parted: set[str] = set()
        #: How often a thread has lost its oldest entries.
        self.shortened = 0
        #: Presence is predictable: since the server started, no calls were concurrent.
        self.certain = True

    def ask(self, request: AnyMessage, caller: str) -> Answer:
        """Make a call, whose response must be the model's; open waits must receive its effects."""
        answer = self.bus.ask(request, caller)
        expected = self.model.answer(request, caller, answer)
        assert answer == expected
        self.settle()
        return answer

    def post_one(self, request: PostMessageRequest, caller: str) -> None:
        """Post a message; the recipients in the response must be as they were before it."""
        request.include_recipients = True
        before = self.model.copy()
        answer = self.bus.ask(request, caller)
        assert answer == self.model.answer(request, caller, answer)
        if isinstance(answer, PostMessageResponse):
            self.check_recipients(answer.recipients, request, caller, before)
        self.settle()

    def check_recipients(
        self,
        recipients: Sequence[Participant],
        request: PostMessageRequest,
        caller: str,
        before: Model,
    ) -> None:
        """Check the recipients of a post against the model."""
        message, history = self.model.message(request, caller), self.model.threads[request.thread]
        waiting = {f.caller for f in self.followers if f.waits_for(message, history)}
        first = [n for n in dict.fromkeys([*message.mentions, message.handoff_to]) if n]
        others = [*sorted(waiting - {ANONYMOUS}), *sorted(history.members)]
        names = [n for n in dict.fromkeys([*first, *others]) if n != message.sender]
        told = [recipient.agent for recipient in recipients]
        assert [n for n in told if n not in self.parted] == [
            n for n in names if n not in self.parted
        ]
        before.presence[caller].calls()
        for found in recipients:
            if found.agent in history.members:
                expected = self.model.participant(found.agent, history, found)
                assert expected.delivered_seq <= found.delivered_seq <= history.head
                expected.delivered_seq = found.delivered_seq  # it may just have been delivered
                assert found == expected
            if found.agent not in self.parted:
                assert found.waiting == (found.agent in waiting)
            self.check_presence(found, before)

    def check_participant(self, found: Participant, thread: str) -> None:
        """Check a participant against the model: its waits and its presence."""
        if found.agent not in self.parted:
            count = sum(f.caller == found.agent and f.waits_on(thread) for f in self.followers)
            assert (found.waiting, found.wait_count) == (count > 0, count)
        self.check_presence(found, self.model)

    def check_presence(self, found: Participant, model: Model) -> None:
        """Check an agent's presence against the model. An operator's began before the model."""
        if self.certain and found.agent not in (*self.parted, OPERATOR):
            waits = any(f.caller == found.agent for f in self.followers)
            assert found.presence == model.presence[found.agent].state(waits=waits)

    def record_wait(
        self,
        request: WaitMessagesRequest,
        caller: str,
        frames: Sequence[WaitMessagesResponse] | Refusal,
    ) -> None:
        """Record in the model that a wait was opened, what it delivered, and that it ended."""
        self.model.presence[caller].calls()
        if frames not in (invalid("threads"), invalid("filter.addressed_to_me")):
            self.model.presence[caller].waits([cursor.thread for cursor in request.threads])
        for frame in () if isinstance(frames, Refusal) else frames:
            if frame.HasField("messages"):
                history = self.model.histories[frame.messages.cursor.epoch]
                self.model.delivered(caller, history, frame.messages.messages)

    def cursor(self, place: Cursor | Place) -> Cursor:
        return place.cursor(self.model) if isinstance(place, Place) else place

    def settle(self, *, closed_meanwhile: bool = False, at_once: bool = False) -> None:
        for follower in [f for f in self.followers if not f.ended]:
            follower.settle(self.model, closed_meanwhile=closed_meanwhile, at_once=at_once)
        self.followers = [follower for follower in self.followers if not follower.ended]

    def log_equals(self, model: Model, name: str) -> bool:
        """Returns whether the stored thread equals the model's."""
        request = ListMessagesRequest(thread=name, limit=1_000)
        answer = self.bus.ask(request, ANONYMOUS)
        return answer == model.answer(request, ANONYMOUS, answer)

    def first_seq(self, name: str) -> int:
        """Returns the seq of the oldest entry of a thread."""
        answer = self.bus.ask(GetThreadRequest(thread=name), ANONYMOUS)
        assert isinstance(answer, GetThreadResponse)
        return answer.thread.first_seq
