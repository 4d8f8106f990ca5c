"""Clients that act on a server, drawn by Hypothesis; each response must be the model's."""

from google.protobuf.field_mask_pb2 import FieldMask
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    initialize,
    multiple,
    precondition,
    rule,
)

from tests import blocking
from tests.model.checked import Checked
from tests.model.history import ANONYMOUS, OPERATOR
from tests.model.moves import (
    AGENTS,
    THREADS,
    Move,
    Place,
    Post,
    callers,
    changes,
    names,
    places,
    posts,
    states,
    threads,
)
from tests.model.retention import EVERYTHING, SHORT
from threadbus.v1.agent_pb2 import (
    AGENT_KIND_AGENT,
    PRESENCE_AWAITING_HUMAN,
    PRESENCE_IDLE,
    PRESENCE_UNSPECIFIED,
    PRESENCE_WAITING,
    PRESENCE_WORKING,
    Presence,
)
from threadbus.v1.agent_service_pb2 import EndSessionRequest
from threadbus.v1.bus_service_pb2 import (
    GetMessageRequest,
    HeartbeatRequest,
    ListMessagesRequest,
    PostMessageRequest,
)
from threadbus.v1.message_pb2 import MESSAGE_KIND_CHAT, WAKE_UNSPECIFIED, Cursor, MessageFilter
from threadbus.v1.thread_pb2 import THREAD_STATE_OPEN, Retention, Thread, ThreadState
from threadbus.v1.thread_service_pb2 import (
    JOIN_START_FIRST,
    CreateThreadRequest,
    GetThreadRequest,
    JoinStart,
    JoinThreadRequest,
    JoinThreadResponse,
    LeaveThreadRequest,
    ListParticipantsRequest,
    ListParticipantsResponse,
    ListThreadsRequest,
    ListThreadsResponse,
    SetThreadStateRequest,
    UpdateThreadRequest,
)

SETTABLE = (PRESENCE_WAITING, PRESENCE_WORKING, PRESENCE_IDLE, PRESENCE_AWAITING_HUMAN)


class Clients(Checked):
    """Several clients that act on a few threads; each response must be the model's."""

    cursors = Bundle[Cursor]("cursors")

    @initialize(target=cursors)
    def begin(self) -> MultipleResults[Cursor]:
        for agent in map(self.model.agent, AGENTS):
            self.bus.register(agent)
            self.model.agents[agent] = AGENT_KIND_AGENT
            self.model.presence[agent].calls()
        for name in map(self.model.name, THREADS):
            self.ask(CreateThreadRequest(thread=name), ANONYMOUS)
        return multiple(*(history.at(0) for history in self.model.threads.values()))

    # ── Actions of clients ─────────────────────────────────────────────────────────────────────

    @rule(thread=threads, posts=st.lists(st.tuples(callers, posts), min_size=1, max_size=8))
    def post(self, thread: str, posts: list[tuple[str, Post]]) -> None:
        for caller, post in posts:
            request = post.request(self.model, self.model.name(thread))
            self.sent.append((request, self.model.agent(caller)))
            self.post_one(*self.sent[-1])

    @rule(
        thread=threads,
        senders=st.lists(st.tuples(callers, names | st.just("")), min_size=1, max_size=4),
    )
    def talk(self, thread: str, senders: list[tuple[str, str]]) -> None:
        """Post a message that is mostly accepted."""
        name = self.model.name(thread)
        for sender, mention in senders:
            known = mention and self.model.agent(mention) in self.model.agents
            history = self.model.threads.get(name)
            request = PostMessageRequest(
                thread=name,
                content="talk",
                expected_last_seq=history.head if history else None,
                mentions=[self.model.agent(mention)] if known else (),
            )
            self.post_one(request, self.model.agent(sender))

    @rule(thread=threads, ago=st.integers(0, 5), edit=posts)
    def edit(self, thread: str, ago: int, edit: Post) -> None:
        """Edit a message as its sender, or as an operator on the sender's behalf."""
        history = self.model.threads.get(self.model.name(thread))
        chat = [m for m in history.log if m.kind == MESSAGE_KIND_CHAT] if history else []
        if history and chat:
            edited = chat[-1 - ago % len(chat)]
            request = edit.request(self.model, history.thread.name)
            request.edit_of, request.wakes = edited.seq, WAKE_UNSPECIFIED
            request.on_behalf_of = edited.sender if edited.posted_by else ""
            self.sent.append((request, edited.posted_by or edited.sender))
            self.post_one(*self.sent[-1])

    @precondition(lambda self: self.sent)
    @rule(
        ago=st.integers(0, 20),
        content=st.sampled_from(["", "", "", "z"]),
        expected=st.sampled_from([None, None, 0]),
    )
    def retry(self, ago: int, content: str, expected: int | None) -> None:
        """Retry an earlier post, or one that differs a little."""
        earlier, caller = self.sent[-1 - ago % len(self.sent)]
        request = PostMessageRequest()
        request.CopyFrom(earlier)
        request.content = content or earlier.content
        if expected is not None:
            request.expected_last_seq = expected
        self.post_one(request, caller)

    @rule(caller=callers, thread=threads, change=changes, again=st.booleans())
    def change(self, caller: str, thread: str, change: Move, again: bool) -> None:
        """Change a thread as a whole; a deleted or closed one is mostly soon back or open again."""
        name = self.model.name(thread)
        self.ask(change.request(self.model, name), self.model.agent(caller))
        if again and name not in self.model.threads:
            self.ask(CreateThreadRequest(thread=name), ANONYMOUS)
        elif again:
            request = SetThreadStateRequest(thread=name, state=THREAD_STATE_OPEN)
            self.ask(request, self.model.agent(caller))

    @precondition(lambda self: self.shortened < 5)
    @rule(thread=threads, short=st.sampled_from(SHORT))
    def shorten(self, thread: str, short: tuple[Retention, int]) -> None:
        """Let a thread lose its oldest entries for a while, in which others post to it."""
        name = self.model.name(thread)
        if name in self.model.threads:
            self.shortened += 1
            self.retain(name, *short)
            sent = [each for each in self.sent if each[0].thread == name and not each[0].reply_to]
            for request, caller in sent[-5:]:  # a reply may be to what is gone, or not yet
                self.post_one(request, caller)
                self.ask(ListMessagesRequest(thread=name, limit=100), caller)
            self.retain_everything(name)
            self.read_kept(name)

    def retain(self, name: str, retention: Retention, keeps: int) -> None:
        """Let a thread lose its oldest entries from now on. `keeps`: how many it keeps."""
        mask = FieldMask(paths=["retention"])
        update = UpdateThreadRequest(thread=name, retention=retention, update_mask=mask)
        answer = self.bus.ask(update, OPERATOR)
        assert answer == self.model.answer(update, OPERATOR, answer)
        self.model.threads[name].keeps = keeps
        self.settle()

    def retain_everything(self, name: str) -> None:
        """Wait until a thread has lost its oldest entries, and let it lose no more."""
        history = self.model.threads[name]
        assert history.keeps is not None
        first = max(history.first, history.head - history.keeps + 1)
        blocking.until(lambda: self.first_seq(name) == first)
        history.thread.first_seq, history.keeps = first, None
        self.ask(GetThreadRequest(thread=name), ANONYMOUS)
        mask = FieldMask(paths=["retention"])
        self.ask(UpdateThreadRequest(thread=name, retention=EVERYTHING, update_mask=mask), OPERATOR)

    def read_kept(self, name: str) -> None:
        """Read what a thread has kept, and what it has not, and retry posts of both."""
        gone = max(1, self.model.threads[name].first - 1)
        self.ask(GetMessageRequest(thread=name, seq=gone), ANONYMOUS)
        self.ask(JoinThreadRequest(thread=name, start=JOIN_START_FIRST), ANONYMOUS)
        mine = MessageFilter(addressed_to_me=True)
        for agent in map(self.model.agent, AGENTS):
            self.ask(ListMessagesRequest(thread=name, limit=100, filter=mine), agent)
            self.ask(HeartbeatRequest(), agent)
        for request, caller in self.sent[-20:]:
            if request.thread == name and request.request_id:
                self.post_one(request, caller)

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
        # What later rules may draw must not depend on the outcomes of concurrent calls.
        return answer.cursor if isinstance(answer, JoinThreadResponse) else Cursor(thread=name)

    @rule(caller=callers, thread=threads)
    def leave(self, caller: str, thread: str) -> None:
        self.ask(LeaveThreadRequest(thread=self.model.name(thread)), self.model.agent(caller))

    @rule(
        caller=callers,
        state=st.sampled_from([PRESENCE_UNSPECIFIED, PRESENCE_UNSPECIFIED, *SETTABLE]),
        read=st.lists(cursors | places, min_size=1, max_size=2),
    )
    def heartbeat(self, caller: str, state: Presence.ValueType, read: list[Cursor | Place]) -> None:
        cursors = [self.cursor(place) for place in read]
        if len({cursor.thread for cursor in cursors}) == len(cursors):
            request = HeartbeatRequest(state=state, read_cursors=cursors)
            self.ask(request, self.model.agent(caller))

    @rule(caller=callers, thread=threads, comes_back=st.booleans())
    def end_session(self, caller: str, thread: str, comes_back: bool) -> None:
        """End the agent's session, which ends its open waits."""
        caller = self.model.agent(caller)
        answer = self.bus.ask(EndSessionRequest(), caller)
        assert answer == self.model.answer(EndSessionRequest(), caller, answer)
        for follower in self.followers:
            if follower.caller == caller != ANONYMOUS:
                follower.session_ended(self.model)
        self.settle()
        if comes_back:
            self.ask(GetThreadRequest(thread=self.model.name(thread)), caller)

    @rule(caller=callers, thread=threads, page_size=st.integers(1, 3))
    def participants(self, caller: str, thread: str, page_size: int) -> None:
        """List the participants, with their positions and presence."""
        caller, name = self.model.agent(caller), self.model.name(thread)
        request = ListParticipantsRequest(thread=name, page_size=page_size)
        answer = self.bus.ask(request, caller)
        whole = ListParticipantsResponse()
        while isinstance(answer, ListParticipantsResponse):
            whole.participants.extend(answer.participants)
            if not answer.next_page_token:
                answer = whole
                break
            request.page_token = answer.next_page_token
            answer = self.bus.ask(request, caller)
        assert answer == self.model.answer(request, caller, answer)
        for found in whole.participants:
            self.check_participant(found, name)

    @rule(
        participant=names | st.just(""),
        states=st.lists(states, unique=True),
        page_size=st.integers(1, 3),
    )
    def list_threads(
        self, participant: str, states: list[ThreadState.ValueType], page_size: int
    ) -> None:
        request = ListThreadsRequest(
            prefix=self.model.name(""),
            participant=self.model.agent(participant),
            states=states,
            page_size=page_size,
        )
        listed: list[Thread] = []
        while True:
            page = self.bus.ask(request, ANONYMOUS)
            assert isinstance(page, ListThreadsResponse)
            listed += page.threads
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        assert listed == list(self.model.ListThreads(request, ANONYMOUS, None).threads)
