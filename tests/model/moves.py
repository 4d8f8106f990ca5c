"""What a client can do to a thread, drawn by Hypothesis; seqs are relative to the thread's head."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask
from hypothesis import strategies as st

from tests.model.model import Model
from threadbus.v1.bus_service_pb2 import PostMessageRequest
from threadbus.v1.message_pb2 import Cursor, MessageFilter
from threadbus.v1.thread_pb2 import SyncMode, ThreadState
from threadbus.v1.thread_service_pb2 import (
    CreateThreadRequest,
    DeleteThreadRequest,
    SetThreadStateRequest,
    UpdateThreadRequest,
)

Request = (
    PostMessageRequest
    | CreateThreadRequest
    | DeleteThreadRequest
    | SetThreadStateRequest
    | UpdateThreadRequest
)

#: ann and bob are registered, eve is not until an operator posts on her behalf.
AGENTS = ("ann", "bob")
THREADS = ("a", "b")

callers = st.sampled_from([*AGENTS, "anonymous", "operator"])
names = st.sampled_from([*AGENTS, "eve"])
threads = st.sampled_from(THREADS)
states = st.sampled_from([ThreadState.ValueType(number) for number in (1, 1, 1, 2, 3)])
#: Seqs relative to a thread's head: -20 is before the first, 1 is after the head.
offsets = st.sampled_from([0, -1, -2, -3, -5, -20, 1])
#: Which epoch a request names: none, the thread's, or an ended one.
epochs = st.sampled_from(["", "now", "old"])


def seq(model: Model, thread: str, offset: int) -> int:
    """Returns the seq at this distance from the thread's head."""
    history = model.threads.get(thread)
    return max(0, (history.head if history else 0) + offset)


def epoch(model: Model, thread: str, which: str) -> str:
    """Returns a thread's epoch, or an ended one."""
    history = model.threads.get(thread)
    if which == "now" and history is not None:
        return history.thread.epoch
    return "an epoch of old" if which == "old" else ""


@dataclass(frozen=True, kw_only=True)
class Post:
    content: str
    request_id: str
    expected: int | None
    based_on: int | None
    reply_to: int | None
    edit_of: int | None
    mentions: Sequence[str]
    handoff_to: str
    priority: int
    wakes: int
    epoch: str
    on_behalf_of: str

    def request(self, model: Model, thread: str) -> PostMessageRequest:
        def at(offset: int | None) -> int | None:
            return None if offset is None else seq(model, thread, offset)

        return PostMessageRequest(
            thread=thread,
            content=self.content,
            request_id=self.request_id,
            expected_last_seq=at(self.expected),
            based_on_seq=at(self.based_on),
            reply_to=at(self.reply_to) or 0,
            edit_of=at(self.edit_of) or 0,
            mentions=[model.agent(name) for name in self.mentions],
            handoff_to=model.agent(self.handoff_to),
            priority=self.priority,  # type: ignore[arg-type]
            wakes=0 if self.edit_of is not None else self.wakes,  # type: ignore[arg-type]
            epoch=epoch(model, thread, self.epoch),
            on_behalf_of=model.agent(self.on_behalf_of),
        )


@dataclass(frozen=True)
class SetState:
    state: ThreadState.ValueType

    def request(self, model: Model, thread: str) -> SetThreadStateRequest:
        return SetThreadStateRequest(thread=thread, state=self.state)


@dataclass(frozen=True)
class Update:
    fields: Sequence[str]
    topic: str
    stage: str
    labels: Sequence[tuple[str, str]]
    sync_mode: SyncMode.ValueType

    def request(self, model: Model, thread: str) -> UpdateThreadRequest:
        return UpdateThreadRequest(
            thread=thread,
            topic=self.topic,
            stage=self.stage,
            labels=dict(self.labels),
            sync_mode=self.sync_mode,
            update_mask=FieldMask(paths=self.fields),
        )


@dataclass(frozen=True)
class Create:
    def request(self, model: Model, thread: str) -> CreateThreadRequest:
        return CreateThreadRequest(thread=thread, topic="talk")


@dataclass(frozen=True)
class Delete:
    def request(self, model: Model, thread: str) -> DeleteThreadRequest:
        return DeleteThreadRequest(thread=thread)


Move = Post | SetState | Update | Create | Delete


def rarely(common: Any, rare: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Draws mostly from `common`, so that most calls succeed and threads grow."""
    # Not one_of: it counts a strategy given seven times as once.
    return st.sampled_from(range(8)).flatmap(lambda n: rare if n == 7 else st.just(common))


posts = st.builds(
    Post,
    content=st.sampled_from("xy"),
    request_id=st.sampled_from(["", "", "r1", "r2"]),
    expected=st.one_of(st.none(), rarely(0, offsets)),
    based_on=st.one_of(st.none(), rarely(-1, offsets)),
    reply_to=st.one_of(st.none(), rarely(0, offsets)),
    edit_of=st.one_of(st.none(), rarely(None, offsets)),  # mostly another's: see Clients.edit
    mentions=rarely((), st.lists(names, min_size=1, max_size=3).map(tuple)),
    handoff_to=rarely("", names),
    priority=st.sampled_from([0, 0, 1, 3, 4]),
    wakes=st.sampled_from([0, 1, 2, 2, 4]),
    epoch=rarely("", epochs),
    on_behalf_of=rarely("", names),
)
updates = st.builds(
    Update,
    fields=st.lists(
        st.sampled_from(["topic", "stage", "labels", "sync_mode"]), min_size=1, unique=True
    ),
    topic=st.sampled_from(["", "tea"]),
    stage=st.sampled_from(["", "review"]),
    labels=st.sampled_from([(), (("b", "2"), ("a", "1"))]),
    sync_mode=st.sampled_from([SyncMode.ValueType(number) for number in (0, 1, 1, 2)]),
)
_changes: Sequence[st.SearchStrategy[Move]] = [
    *[st.builds(SetState, states)] * 3,
    *[updates] * 3,
    st.builds(Create),
    st.builds(Delete),
]
#: Changes of threads as a whole; they are soon recreated and reopened.
changes = st.sampled_from(range(len(_changes))).flatmap(lambda n: _changes[n])
moves: st.SearchStrategy[Move] = st.sampled_from(range(5)).flatmap(
    lambda n: posts if n < 4 else changes
)


@dataclass(frozen=True, kw_only=True)
class Filter:
    senders: Sequence[str]
    kinds: Sequence[int]
    min_priority: int
    exclude_own: bool
    addressed_to_me: bool

    def wish(self, model: Model) -> MessageFilter:
        return MessageFilter(
            senders=[model.agent(name) for name in self.senders],
            kinds=self.kinds,  # type: ignore[arg-type]
            min_priority=self.min_priority,  # type: ignore[arg-type]
            exclude_own=self.exclude_own,
            addressed_to_me=self.addressed_to_me,
        )


EVERYTHING = Filter(senders=(), kinds=(), min_priority=0, exclude_own=False, addressed_to_me=False)
filters = st.one_of(
    st.just(EVERYTHING),
    st.builds(
        Filter,
        senders=rarely((), st.lists(callers, min_size=1, max_size=2).map(tuple)),
        kinds=rarely((), st.sampled_from([(1,), (3,), (1, 2)])),
        min_priority=st.sampled_from([0, 0, 2, 3]),
        exclude_own=st.booleans(),
        addressed_to_me=rarely(False, st.just(True)),
    ),
)


@dataclass(frozen=True)
class Place:
    """A cursor that came from no frame."""

    thread: str
    offset: int
    epoch: str

    def cursor(self, model: Model) -> Cursor:
        thread = model.name(self.thread)
        return Cursor(
            thread=thread,
            after_seq=seq(model, thread, self.offset),
            epoch=epoch(model, thread, self.epoch),
        )


places = st.builds(Place, threads, offsets, epochs)
