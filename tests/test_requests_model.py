"""Requests under random use, checked against a model in plain lists and dicts."""

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from google.protobuf.message import Message as AnyMessage
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tests.model.blocking_bus import BlockingBus
from tests.model.history import OPERATOR, Refusal
from tests.model.requests import RequestThread, Told
from tests.requests import asking, notices_in
from tests.serving import ServerProcess
from tests.wait_frames import BOUND, seconds
from threadbus.v1.agent_pb2 import PRESENCE_WORKING
from threadbus.v1.agent_service_pb2 import EndSessionRequest
from threadbus.v1.bus_service_pb2 import (
    HeartbeatRequest,
    ListMessagesRequest,
    ListRequestsRequest,
    PostMessageRequest,
    WithdrawRequestRequest,
)
from threadbus.v1.message_pb2 import Message
from threadbus.v1.request_pb2 import Request, RequestState
from threadbus.v1.thread_pb2 import THREAD_STATE_CLOSED, THREAD_STATE_OPEN
from threadbus.v1.thread_service_pb2 import (
    CreateThreadRequest,
    DeleteThreadRequest,
    JoinThreadRequest,
    LeaveThreadRequest,
    SetThreadStateRequest,
)

pytestmark = pytest.mark.asking_server

AGENTS, THREADS = ("ann", "bob", "cat"), ("a", "b")

agents, threads = st.sampled_from(AGENTS), st.sampled_from(THREADS)
#: Seqs relative to a thread's head: 0 is the newest entry, and 1 is after it.
offsets = st.sampled_from([0, 0, 0, -1, -1, -2, -3, -5, 1])

_numbers = itertools.count()


@dataclass(frozen=True, kw_only=True)
class Post:
    """A post. Its seqs are relative to the head of its thread when its batch is sent."""

    sender: str
    thread: str
    asks: Sequence[str]
    reply_to: int | None
    edit_of: int | None
    wakes: int


posts = st.builds(
    Post,
    sender=agents,
    thread=threads,
    asks=st.one_of(st.just(()), st.lists(agents, min_size=1, max_size=3, unique=True)),
    reply_to=st.one_of(st.none(), offsets),
    edit_of=st.one_of(st.none(), st.none(), offsets),
    wakes=st.sampled_from([0, 0, 0, 1, 2, 4]),
)


class Use(RuleBasedStateMachine):
    """Agents ask and answer each other."""

    def __init__(self, bus: BlockingBus) -> None:
        super().__init__()
        self.bus = bus
        self.ours = f"use{next(_numbers)}-"
        self.threads: dict[str, RequestThread] = {}

    def name(self, short: str) -> str:
        """Returns the name of an agent or a thread, which is of this example only."""
        return f"{self.ours}{short}"

    def ask(self, request: AnyMessage, caller: str = OPERATOR) -> Any:
        """Make a call, which must succeed."""
        answer = self.bus.ask(request, caller)
        assert not isinstance(answer, Refusal), answer
        return answer

    def beat(self, agent: str) -> Any:
        """Send a heartbeat. No agent is ever idle, or lapses."""
        beat = HeartbeatRequest(state=PRESENCE_WORKING, lease=seconds(3_600))
        return self.ask(beat, agent)

    @initialize()
    def begin(self) -> None:
        for agent in map(self.name, AGENTS):
            self.bus.register(agent)
            self.beat(agent)
        for thread in map(self.name, THREADS):
            created = self.ask(CreateThreadRequest(thread=thread))
            self.threads[thread] = RequestThread(created.thread.epoch)

    # ── Posts ───────────────────────────────────────────────────────────────────────────────────

    @rule(batch=st.lists(posts, min_size=1, max_size=6))
    def post(self, batch: list[Post]) -> None:
        """Make posts in one batch. Which of them are refused is not predicted."""
        requests = [self._request(each) for each in batch]
        results = self.bus.post_many(requests, OPERATOR)
        for request, result in zip(requests, results, strict=True):
            if not result.status.code:
                thread = self.threads[request.thread]
                thread.post(request)
                assert result.response.seq == len(thread.log)

    def _request(self, post: Post) -> PostMessageRequest:
        thread = self.name(post.thread)
        head = len(self.threads[thread].log)
        asks = [self.name(agent) for agent in post.asks if agent != post.sender]
        edits = post.edit_of is not None
        return PostMessageRequest(
            thread=thread,
            content=f"{post}",
            on_behalf_of=self.name(post.sender),
            expect_reply=asking(*asks) if asks and not edits else None,
            reply_to=0 if post.reply_to is None else max(0, head + post.reply_to),
            edit_of=0 if post.edit_of is None else max(0, head + post.edit_of),
            wakes=0 if edits else post.wakes,  # type: ignore[arg-type]
        )

    @rule(sender=agents, thread=threads, count=st.integers(1, 3))
    def edit_own(self, sender: str, thread: str, count: int) -> None:
        """Edit one's last question, and have those asked reply to the edit, in one batch."""
        thread, sender = self.name(thread), self.name(sender)
        known = self.threads[thread]
        own = [seq for (seq, _), each in known.asked.items() if each.asker == sender]
        if own:
            edit_seq = len(known.log) + 1
            batch = [PostMessageRequest(thread=thread, edit_of=own[-1], on_behalf_of=sender)]
            batch += [
                PostMessageRequest(thread=thread, reply_to=edit_seq, on_behalf_of=self.name(agent))
                for agent in AGENTS[:count]
            ]
            for number, request in enumerate(batch):
                request.content = f"{edit_seq} {number}"
            results = self.bus.post_many(batch, OPERATOR)
            assert [not result.status.code for result in results] == [not known.closed] * len(batch)
            for request in batch if not known.closed else ():
                known.post(request)

    @rule(asker=agents, agent=agents, thread=threads)
    def ask_in_a_hurry(self, asker: str, agent: str, thread: str) -> None:
        """Ask a question that is overdue at once."""
        known = self.threads[self.name(thread)]
        if asker != agent and not known.closed:
            request = PostMessageRequest(
                thread=self.name(thread),
                content="quick!",
                on_behalf_of=self.name(asker),
                expect_reply=asking(self.name(agent), within=0.001),
            )
            posted = self.ask(request)
            known.post(request)
            self.settle({self.name(thread): [("OVERDUE", posted.seq, self.name(agent))]})

    # ── Ends ────────────────────────────────────────────────────────────────────────────────────

    @rule(thread=threads, by=st.sampled_from([*AGENTS, ""]), which=st.integers(0, 20))
    def withdraw(self, thread: str, by: str, which: int) -> None:
        """Withdraw a question, as an agent or as an operator."""
        known, caller = self.threads[self.name(thread)], self.name(by) if by else OPERATOR
        seqs = sorted({seq for seq, _ in known.asked})
        if seqs:
            seq = seqs[which % len(seqs)]
            request = WithdrawRequestRequest(thread=self.name(thread), seq=seq)
            answer = self.bus.ask(request, caller)
            asker = next(each.asker for key, each in known.asked.items() if key[0] == seq)
            if caller not in (asker, OPERATOR):
                assert isinstance(answer, Refusal)
                assert answer.reason == "ACCESS_DENIED"
                return
            assert not isinstance(answer, Refusal)
            known.withdraw(seq)
            wanted = [each for each in known.listed(self.name(thread)) if each.seq == seq]
            assert timeless(answer.requests) == wanted[::-1]  # type: ignore[attr-defined]

    @rule(thread=threads, closed=st.booleans())
    def set_state(self, thread: str, closed: bool) -> None:
        state = THREAD_STATE_CLOSED if closed else THREAD_STATE_OPEN
        self.ask(SetThreadStateRequest(thread=self.name(thread), state=state))
        self.threads[self.name(thread)].set_closed(closed)

    @rule(thread=threads)
    def recreate(self, thread: str) -> None:
        name = self.name(thread)
        self.ask(DeleteThreadRequest(thread=name))
        created = self.ask(CreateThreadRequest(thread=name))
        self.threads[name] = RequestThread(created.thread.epoch)

    @rule(thread=threads, agent=agents, again=st.booleans())
    def leave(self, thread: str, agent: str, again: bool) -> None:
        """Leave a thread, and perhaps join it again."""
        name, agent = self.name(thread), self.name(agent)
        self.ask(LeaveThreadRequest(thread=name), agent)
        self.threads[name].leave(agent)
        if again:
            self.ask(JoinThreadRequest(thread=name), agent)
            self.threads[name].members.add(agent)

    @rule(agent=agents)
    def end_session(self, agent: str) -> None:
        """End the session of an agent, and come back once its askers were told."""
        agent = self.name(agent)
        self.ask(EndSessionRequest(), agent)
        self.settle({name: each.end_session(agent) for name, each in self.threads.items()})
        self.beat(agent)

    def settle(self, expected: dict[str, list[Told]]) -> None:
        """Return once these notices came, by thread, in any order."""
        for thread, told in expected.items():
            known, deadline = self.threads[thread], time.monotonic() + BOUND
            while len(self.log(thread)) < len(known.log) + len(told):
                assert time.monotonic() < deadline, f"{told} did not come"
            found = notices_in(self.log(thread)[len(known.log) :])
            assert sorted(found) == sorted(told)
            for reason, seq, agent in found:
                known.tell(reason, (seq, agent))

    # ── What is told ────────────────────────────────────────────────────────────────────────────

    def log(self, thread: str) -> list[Message]:
        """Returns the entries of a thread."""
        request = ListMessagesRequest(thread=thread, limit=1_000)
        return list(self.ask(request).messages)

    @invariant()
    def notices_and_requests_are_as_in_the_model(self) -> None:
        for thread, known in self.threads.items():
            entries = self.log(thread)
            assert len(entries) == len(known.log)
            assert notices_in(entries) == known.notices
            request = ListRequestsRequest(thread=thread, page_size=1_000)
            assert timeless(self.ask(request).requests) == known.listed(thread)
        for agent in map(self.name, AGENTS):
            for unread in self.beat(agent).unread:
                known = self.threads[unread.thread]
                assert unread.open_request_count == len(known.open_to(agent))

    @rule(
        size=st.integers(1, 3),
        asker=st.sampled_from([*AGENTS, ""]),
        agent=st.sampled_from([*AGENTS, ""]),
        thread=st.sampled_from([*THREADS, ""]),
        states=st.lists(st.sampled_from([1, 2, 3, 4]), max_size=2),
    )
    def page(self, size: int, asker: str, agent: str, thread: str, states: list[int]) -> None:
        """List requests in small pages."""
        if not asker and not agent and not thread:
            agent = "ann"  # else it lists those of other examples, too
        request = ListRequestsRequest(
            asker=self.name(asker) if asker else "",
            agent=self.name(agent) if agent else "",
            thread=self.name(thread) if thread else "",
            states=[RequestState.ValueType(state) for state in states],
            page_size=1_000,
        )
        whole = list(self.ask(request).requests)
        wanted = [
            each
            for name, known in self.threads.items()
            for each in known.listed(name)
            if request.thread in ("", name)
            and request.asker in ("", each.asker)
            and request.agent in ("", each.agent)
            and (not states or each.state in states)
        ]
        assert sorted(map(str, timeless(whole))) == sorted(map(str, wanted))
        request.page_size, found = size, list[Request]()
        while True:
            answer = self.ask(request)
            found += answer.requests
            request.page_token = answer.next_page_token
            if not request.page_token:
                break
            assert len(answer.requests) == size
        assert found == whole


def timeless(requests: Sequence[Request]) -> list[Request]:
    """Returns copies of requests without their times."""
    copies = []
    for request in requests:
        copy = Request()
        copy.CopyFrom(request)
        copy.ClearField("create_time")
        copy.ClearField("due_time")
        copies.append(copy)
    return copies


SETTINGS = settings(
    phases=[Phase.generate, Phase.shrink],
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, chosen_store: None) -> Iterator[ServerProcess]:
    """A server of which no agent lapses."""
    db = tmp_path_factory.mktemp("server") / "bus.db"
    with ServerProcess(db, "--agent-timeout", "3600") as running:
        yield running


@pytest.mark.slow
@pytest.mark.timeout(400)  # a failure is shrunk before it is reported
def test_requests_are_as_in_the_model_whatever_agents_do(server: ServerProcess, soak: bool) -> None:
    examples = 100 if soak else 12
    with BlockingBus(server.address, server.db) as bus:

        class Here(Use):
            def __init__(self) -> None:
                super().__init__(bus)

        run_state_machine_as_test(Here, settings=settings(SETTINGS, max_examples=examples))
