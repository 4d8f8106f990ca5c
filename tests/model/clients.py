"""Clients that act on a server, drawn by Hypothesis; each answer must be the model's."""

import itertools

from google.protobuf.message import Message as AnyMessage
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    multiple,
    precondition,
    rule,
)

from tests.model.blocking_bus import BlockingBus
from tests.model.follower import Follower
from tests.model.history import ANONYMOUS, Refusal
from tests.model.model import Model
from tests.model.moves import (
    AGENTS,
    THREADS,
    Place,
    Post,
    SetState,
    callers,
    places,
    posts,
    rarely,
    states,
    threads,
)
from threadbus.v1.agent_pb2 import AGENT_KIND_AGENT
from threadbus.v1.bus_service_pb2 import (
    HeartbeatRequest,
    ListMessagesRequest,
    PostMessageRequest,
)
from threadbus.v1.message_pb2 import Cursor
from threadbus.v1.thread_pb2 import ThreadState
from threadbus.v1.thread_service_pb2 import (
    CreateThreadRequest,
    DeleteThreadRequest,
    JoinStart,
    JoinThreadRequest,
    JoinThreadResponse,
)

Answer = AnyMessage | Refusal

_numbers = itertools.count()


class Clients(RuleBasedStateMachine):
    """Several clients that act on a few threads; each answer must be the model's."""

    cursors = Bundle[Cursor]("cursors")

    def __init__(self, bus: BlockingBus) -> None:
        super().__init__()
        self.bus = bus
        self.model = Model(f"use{next(_numbers)}")
        self.sent: list[tuple[PostMessageRequest, str]] = []
        self.followers: list[Follower] = []

    @initialize(target=cursors)
    def begin(self) -> MultipleResults[Cursor]:
        for agent in map(self.model.agent, AGENTS):
            self.bus.register(agent)
            self.model.agents[agent] = AGENT_KIND_AGENT
        for name in map(self.model.name, THREADS):
            self.ask(CreateThreadRequest(thread=name), ANONYMOUS)
        return multiple(*(history.at(0) for history in self.model.threads.values()))

    # ── What clients do ─────────────────────────────────────────────────────────────────────────

    @rule(thread=threads, posts=st.lists(st.tuples(callers, posts), min_size=1, max_size=8))
    def post(self, thread: str, posts: list[tuple[str, Post]]) -> None:
        for caller, post in posts:
            request = post.request(self.model, self.model.name(thread))
            self.sent.append((request, self.model.agent(caller)))
            self.ask(*self.sent[-1])

    @precondition(lambda self: self.sent)
    @rule(
        ago=st.integers(0, 20),
        content=st.sampled_from(["", "", "", "z"]),
        expected=st.sampled_from([None, None, 0]),
    )
    def retry(self, ago: int, content: str, expected: int | None) -> None:
        """Post again what was posted before, or something like it."""
        earlier, caller = self.sent[-1 - ago % len(self.sent)]
        request = PostMessageRequest()
        request.CopyFrom(earlier)
        request.content = content or earlier.content
        if expected is not None:
            request.expected_last_seq = expected
        self.ask(request, caller)

    @rule(caller=callers, thread=threads, delete=rarely(False, st.just(True)))
    def create_or_delete(self, caller: str, thread: str, delete: bool) -> None:
        request = (DeleteThreadRequest if delete else CreateThreadRequest)(
            thread=self.model.name(thread)
        )
        self.ask(request, self.model.agent(caller))

    @rule(caller=callers, thread=threads, state=states)
    def set_state(self, caller: str, thread: str, state: ThreadState.ValueType) -> None:
        request = SetState(state).request(self.model, self.model.name(thread))
        self.ask(request, self.model.agent(caller))

    @rule(
        target=cursors,
        caller=callers,
        thread=threads,
        create=st.booleans(),
        start=st.sampled_from(JoinStart.values()),
        context_limit=st.sampled_from([0, 3, 100]),
    )
    def join(
        self,
        caller: str,
        thread: str,
        create: bool,
        start: JoinStart.ValueType,
        context_limit: int,
    ) -> Cursor:
        name = self.model.name(thread)
        request = JoinThreadRequest(
            thread=name, create=create, start=start, context_limit=context_limit
        )
        answer = self.ask(request, self.model.agent(caller))
        # What later rules may draw must not depend on how calls made at once came out.
        return answer.cursor if isinstance(answer, JoinThreadResponse) else Cursor(thread=name)

    @rule(caller=callers, read=st.lists(cursors | places, min_size=1, max_size=2))
    def heartbeat(self, caller: str, read: list[Cursor | Place]) -> None:
        cursors = [self.cursor(place) for place in read]
        if len({cursor.thread for cursor in cursors}) == len(cursors):
            self.ask(HeartbeatRequest(read_cursors=cursors), self.model.agent(caller))

    # ── Against the model ───────────────────────────────────────────────────────────────────────

    def ask(self, request: AnyMessage, caller: str) -> Answer:
        """Make a call, which must answer what the model says; the waits must learn of it."""
        answer = self.bus.ask(request, caller)
        expected = self.model.answer(request, caller, answer)
        assert answer == expected
        self.settle()
        return answer

    def cursor(self, place: Cursor | Place) -> Cursor:
        return place.cursor(self.model) if isinstance(place, Place) else place

    def settle(self, *, closed_meanwhile: bool = False) -> None:
        for follower in self.followers:
            follower.settle(self.model, closed_meanwhile=closed_meanwhile)
        self.followers = [follower for follower in self.followers if not follower.ended]

    def log_is(self, model: Model, name: str) -> bool:
        """Whether the log read back is the model's."""
        request = ListMessagesRequest(thread=name, limit=1_000)
        answer = self.bus.ask(request, ANONYMOUS)
        return answer == model.answer(request, ANONYMOUS, answer)
