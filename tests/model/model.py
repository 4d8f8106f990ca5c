"""A bus in lists and dicts: what the contract says a real one answers."""

from typing import Self, TypeVar

from google.protobuf.message import Message as AnyMessage

from tests.model.history import (
    ANONYMOUS,
    OPERATOR,
    History,
    Refusal,
    body,
    invalid,
    no_thread,
    refusal,
)
from threadbus.v1.agent_pb2 import (
    AGENT_KIND_AGENT,
    AGENT_KIND_ANONYMOUS,
    AGENT_KIND_HUMAN,
    AgentKind,
)
from threadbus.v1.bus_service_pb2 import (
    GetMessageRequest,
    GetMessageResponse,
    HeartbeatRequest,
    HeartbeatResponse,
    ListMessagesRequest,
    ListMessagesResponse,
    PostMessageRequest,
    PostMessageResponse,
)
from threadbus.v1.message_pb2 import (
    MESSAGE_KIND_CHAT,
    MESSAGE_KIND_THREAD,
    PRIORITY_NORMAL,
    Message,
)
from threadbus.v1.thread_pb2 import (
    THREAD_STATE_CLOSED,
    THREAD_STATE_OPEN,
    Thread,
    ThreadState,
)
from threadbus.v1.thread_service_pb2 import (
    JOIN_START_FIRST,
    CreateThreadRequest,
    CreateThreadResponse,
    DeleteThreadRequest,
    DeleteThreadResponse,
    GetThreadRequest,
    GetThreadResponse,
    JoinThreadRequest,
    JoinThreadResponse,
    ListThreadsRequest,
    ListThreadsResponse,
    SetThreadStateRequest,
    SetThreadStateResponse,
)

R = TypeVar("R", bound=AnyMessage)


class Model:
    """What a store holds, and what it answers; each method is named after a call.

    `actual` is what the real server answered. What only a server can decide (times and epochs) is
    taken from there; all the rest is predicted.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix  # of the names of this model's threads and agents
        self.agents: dict[str, AgentKind.ValueType] = {
            ANONYMOUS: AGENT_KIND_ANONYMOUS,
            OPERATOR: AGENT_KIND_HUMAN,
        }
        self.threads: dict[str, History] = {}
        self.histories: dict[str, History] = {}  # by epoch, those of deleted threads too
        self.unsaved: list[tuple[str, str, int]] = []  # epoch, agent, seq: told by heartbeats

    def copy(self) -> Self:
        twin = type(self)(self.prefix)
        twin.agents = dict(self.agents)
        twin.histories = {epoch: history.copy() for epoch, history in self.histories.items()}
        twin.threads = {name: twin.histories[h.thread.epoch] for name, h in self.threads.items()}
        twin.unsaved = list(self.unsaved)
        return twin

    def name(self, thread: str) -> str:
        return f"{self.prefix}-{thread}"

    def agent(self, name: str) -> str:
        return name if name in ("", ANONYMOUS, OPERATOR) else f"{self.prefix}-{name}"

    def answer(self, request: AnyMessage, caller: str, actual: object) -> AnyMessage | Refusal:
        """What a unary call answers."""
        call = getattr(self, type(request).__name__.removesuffix("Request"))
        answer: AnyMessage | Refusal = call(request, caller, actual)
        return answer

    def save_reads(self) -> None:
        """What agents have read is written: when somebody joins, and when the server stops."""
        for epoch, agent, seq in self.unsaved:
            if agent in self.histories[epoch].read:
                self.histories[epoch].raise_read(agent, seq)
        self.unsaved.clear()

    def _create(self, name: str, topic: str, caller: str, actual: Thread) -> History:
        assert actual.epoch not in self.histories, "each history has an epoch of its own"
        thread = Thread(
            name=name,
            epoch=actual.epoch,
            first_seq=1,
            state=THREAD_STATE_OPEN,
            topic=topic,
            creator=caller,
            create_time=actual.create_time,
            update_time=actual.create_time,
        )
        history = History(thread, len(self.histories))
        self.threads[name] = self.histories[actual.epoch] = history
        return history

    def CreateThread(
        self, request: CreateThreadRequest, caller: str, actual: object
    ) -> CreateThreadResponse | Refusal:
        if request.thread in self.threads:
            return refusal("ALREADY_EXISTS", "THREAD_EXISTS", request.thread)
        made = _learned(actual, CreateThreadResponse).thread
        history = self._create(request.thread, request.topic, caller, made)
        return CreateThreadResponse(thread=history.thread)

    def JoinThread(
        self, request: JoinThreadRequest, caller: str, actual: object
    ) -> JoinThreadResponse | Refusal:
        self.save_reads()
        history = self.threads.get(request.thread)
        created = history is None
        if history is None:
            if not request.create:
                return no_thread(request.thread)
            made = _learned(actual, JoinThreadResponse).thread
            history = self._create(request.thread, request.topic, caller, made)
        after = 0 if request.start == JOIN_START_FIRST else history.head
        if caller != ANONYMOUS:
            after = history.read.setdefault(caller, after)
        return JoinThreadResponse(
            thread=history.thread,
            created=created,
            cursor=history.at(after),
            context=history.log[max(0, after - request.context_limit) : after],
        )

    def GetThread(
        self, request: GetThreadRequest, caller: str, actual: object
    ) -> GetThreadResponse | Refusal:
        if request.thread not in self.threads:
            return no_thread(request.thread)
        return GetThreadResponse(thread=self.threads[request.thread].thread)

    def ListThreads(
        self, request: ListThreadsRequest, caller: str, actual: object
    ) -> ListThreadsResponse:
        """All pages in one."""
        states = request.states or [THREAD_STATE_OPEN, THREAD_STATE_CLOSED]
        found = [
            h
            for h in self.threads.values()
            if h.thread.state in states
            and h.thread.name.startswith(request.prefix)
            and (not request.participant or request.participant in h.read)
        ]
        found.sort(key=lambda h: (h.thread.update_time.ToNanoseconds(), h.number), reverse=True)
        return ListThreadsResponse(threads=[h.thread for h in found])

    def SetThreadState(
        self, request: SetThreadStateRequest, caller: str, actual: object
    ) -> SetThreadStateResponse | Refusal:
        history = self.threads.get(request.thread)
        if history is None:
            return no_thread(request.thread)
        if history.thread.state != request.state:
            history.thread.state = request.state
            state = ThreadState.Name(request.state).removeprefix("THREAD_STATE_").lower()
            entry = Message(
                thread=request.thread,
                sender=caller,
                sender_kind=self.agents[caller],
                kind=MESSAGE_KIND_THREAD,
                priority=PRIORITY_NORMAL,
                content=f"{caller} set the thread's state to {state}",
                create_time=_learned(actual, SetThreadStateResponse).thread.update_time,
            )
            history.append(entry)
        return SetThreadStateResponse(thread=history.thread)

    def DeleteThread(
        self, request: DeleteThreadRequest, caller: str, actual: object
    ) -> DeleteThreadResponse | Refusal:
        if self.threads.pop(request.thread, None) is None:
            return no_thread(request.thread)
        return DeleteThreadResponse()

    def PostMessage(
        self, request: PostMessageRequest, caller: str, actual: object
    ) -> PostMessageResponse | Refusal:
        if request.on_behalf_of and caller != OPERATOR:
            return refusal("PERMISSION_DENIED", "ACCESS_DENIED")
        history = self.threads.get(request.thread)
        if history is None:
            return no_thread(request.thread)
        message = self._message(request, caller)
        earlier = history.repeated(message)
        if earlier is not None:
            if body(earlier) != body(message):
                return refusal("ALREADY_EXISTS", "REQUEST_ID_REUSED", seq=earlier.seq)
            return history.posted(earlier, deduplicated=True)
        refused = self._refused(request, history)
        if refused is not None:
            return refused
        self.agents.setdefault(message.sender, message.sender_kind)
        message.create_time.CopyFrom(_learned(actual, PostMessageResponse).create_time)
        history.append(message)
        if message.sender != ANONYMOUS:
            history.raise_read(message.sender, message.based_on_seq)
        for name in _addressed(request):
            history.raise_read(name, 0)
        return history.posted(message, deduplicated=False)

    def _message(self, request: PostMessageRequest, caller: str) -> Message:
        sender = request.on_behalf_of or caller
        return Message(
            thread=request.thread,
            sender=sender,
            sender_kind=self.agents.get(sender, AGENT_KIND_AGENT),
            posted_by=caller if request.on_behalf_of else "",
            kind=MESSAGE_KIND_CHAT,
            content=request.content,
            request_id=request.request_id,
            reply_to=request.reply_to,
            mentions=dict.fromkeys(request.mentions),
            handoff_to=request.handoff_to,
            priority=request.priority or PRIORITY_NORMAL,
            based_on_seq=request.based_on_seq if request.HasField("based_on_seq") else None,
        )

    def _refused(self, request: PostMessageRequest, history: History) -> Refusal | None:
        head, expected = history.head, request.expected_last_seq
        if request.epoch not in ("", history.thread.epoch):
            return history.cursor_invalid()
        if history.thread.state != THREAD_STATE_OPEN:
            return refusal("FAILED_PRECONDITION", "THREAD_CLOSED")
        if request.HasField("expected_last_seq") and expected != head:
            return refusal("ABORTED", "SEQ_CONFLICT", expected=expected, last_seq=head)
        if request.based_on_seq > head:
            return invalid("based_on_seq")
        if request.reply_to > head:
            return history.no_message(request.reply_to)
        missing = sorted(_addressed(request) - self.agents.keys())
        return refusal("NOT_FOUND", "AGENT_NOT_FOUND", *missing) if missing else None

    def GetMessage(
        self, request: GetMessageRequest, caller: str, actual: object
    ) -> GetMessageResponse | Refusal:
        history = self.threads.get(request.thread)
        if history is None:
            return no_thread(request.thread)
        if request.seq > history.head:
            return history.no_message(request.seq)
        return GetMessageResponse(message=history.log[request.seq - 1])

    def ListMessages(
        self, request: ListMessagesRequest, caller: str, actual: object
    ) -> ListMessagesResponse | Refusal:
        if request.filter.addressed_to_me and caller == ANONYMOUS:
            return invalid("filter.addressed_to_me")
        history = self.threads.get(request.thread)
        if history is None:
            return no_thread(request.thread)
        return history.page(request, caller)

    def Heartbeat(
        self, request: HeartbeatRequest, caller: str, actual: object
    ) -> HeartbeatResponse:
        for cursor in request.read_cursors:
            history = self.threads.get(cursor.thread)
            if history is not None and history.holds(cursor):
                self.unsaved.append((history.thread.epoch, caller, cursor.after_seq))
        return HeartbeatResponse()


def _learned(actual: object, response: type[R]) -> R:
    """What the server answered, or nothing if it answered something else."""
    return actual if isinstance(actual, response) else response()


def _addressed(request: PostMessageRequest) -> set[str]:
    return {*request.mentions, request.handoff_to} - {""}
