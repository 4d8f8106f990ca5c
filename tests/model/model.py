"""A bus in lists and dicts: the responses that the contract requires of a real one."""

from google.protobuf.duration_pb2 import Duration
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
from tests.model.memory import response_or_empty
from tests.model.threads import ThreadAnswers
from threadbus.v1.agent_pb2 import AGENT_KIND_AGENT, AGENT_KIND_HUMAN, Participant
from threadbus.v1.agent_service_pb2 import EndSessionRequest, EndSessionResponse
from threadbus.v1.bus_service_pb2 import (
    GetMessageRequest,
    GetMessageResponse,
    HeartbeatRequest,
    HeartbeatResponse,
    ListMessagesRequest,
    ListMessagesResponse,
    PostMessageRequest,
    PostMessageResponse,
    ThreadUnread,
)
from threadbus.v1.message_pb2 import (
    MESSAGE_KIND_CHAT,
    MESSAGE_KIND_EDIT,
    PRIORITY_NORMAL,
    WAKE_ALL,
    Message,
)
from threadbus.v1.thread_pb2 import SYNC_MODE_STRICT, THREAD_STATE_OPEN
from threadbus.v1.thread_service_pb2 import (
    GetThreadResponse,
    SetThreadStateResponse,
    UpdateThreadResponse,
)


class Model(ThreadAnswers):
    """The state of a bus, and its responses; each method is named after a call.

    `actual` is the real server's response. What only a server can decide (times, epochs, who waits
    at this moment) is taken from it; all the rest is predicted.
    """

    def answer(self, request: AnyMessage, caller: str, actual: object) -> AnyMessage | Refusal:
        """Returns the response to a unary call."""
        self.presence[caller].calls()
        self._learn(request, actual)
        call = getattr(self, type(request).__name__.removesuffix("Request"))
        answer: AnyMessage | Refusal = call(request, caller, actual)
        return answer

    def _learn(self, request: AnyMessage, actual: object) -> None:
        """Learn from a response what was removed of the thread that a request names."""
        history = self.threads.get(getattr(request, "thread", ""))
        if history is None or history.keeps is None:
            return
        if isinstance(actual, ListMessagesResponse):
            history.learn(actual.first_seq)
        elif isinstance(actual, UpdateThreadResponse | SetThreadStateResponse | GetThreadResponse):
            history.learn(actual.thread.first_seq)
        elif isinstance(actual, Refusal):
            history.learn(int(actual.metadata.get("first_seq", "0")))
            edited = request.edit_of if isinstance(request, PostMessageRequest) else 0
            if edited and actual == history.no_message(edited):
                history.learn(edited + 1)

    def PostMessage(
        self, request: PostMessageRequest, caller: str, actual: object
    ) -> PostMessageResponse | Refusal:
        if request.on_behalf_of and caller != OPERATOR:
            return refusal("PERMISSION_DENIED", "ACCESS_DENIED")
        history = self.threads.get(request.thread)
        if history is None:
            return no_thread(request.thread)
        message = self.message(request, caller)
        earlier = history.repeated(message)
        if earlier is not None and not _repeats(actual):
            history.learn(earlier.seq + 1)  # else it would have been the same post
            earlier = history.repeated(message)
        if earlier is not None and body(earlier) != body(message):
            return refusal("ALREADY_EXISTS", "REQUEST_ID_REUSED", seq=earlier.seq)
        if earlier is None:
            refused = self._refused(request, message, history)
            if refused is not None:
                return refused
            message.create_time.CopyFrom(response_or_empty(actual, PostMessageResponse).create_time)
            if message.edit_of:
                message.wakes = history.wakes_of(message)
            self._store(message, history)
        if not message.posted_by:
            self.presence[message.sender].posts(request.thread)
        posted = history.posted(earlier or message, deduplicated=earlier is not None)
        posted.recipients.extend(response_or_empty(actual, PostMessageResponse).recipients)
        return posted

    def _store(self, message: Message, history: History) -> None:
        self.agents.setdefault(message.sender, message.sender_kind)
        history.append(message)
        if message.edit_of:
            history.edit(message)
        if message.sender != ANONYMOUS:
            history.participate(message.sender, message.create_time, read=message.based_on_seq)
            self.appended(history, message)
        for name in addressed(message):
            history.participate(name, message.create_time)

    def message(self, request: PostMessageRequest, caller: str) -> Message:
        """Returns the message that a post stores."""
        sender = request.on_behalf_of or caller
        return Message(
            thread=request.thread,
            sender=sender,
            sender_kind=self.agents.get(sender, AGENT_KIND_AGENT),
            posted_by=caller if request.on_behalf_of else "",
            kind=MESSAGE_KIND_EDIT if request.edit_of else MESSAGE_KIND_CHAT,
            content=request.content,
            request_id=request.request_id,
            reply_to=request.reply_to,
            edit_of=request.edit_of,
            mentions=dict.fromkeys(request.mentions),
            handoff_to=request.handoff_to,
            priority=request.priority or PRIORITY_NORMAL,
            wakes=request.wakes or WAKE_ALL,
            based_on_seq=request.based_on_seq if request.HasField("based_on_seq") else None,
            content_size=len(request.content.encode()),
        )

    def _refused(
        self, request: PostMessageRequest, message: Message, history: History
    ) -> Refusal | None:
        head, expected = history.head, request.expected_last_seq
        if request.epoch not in ("", history.thread.epoch):
            return history.cursor_invalid()
        if history.thread.state != THREAD_STATE_OPEN:
            return refusal("FAILED_PRECONDITION", "THREAD_CLOSED")
        if not request.HasField("expected_last_seq"):
            strict = history.thread.sync_mode == SYNC_MODE_STRICT
            if strict and message.sender_kind != AGENT_KIND_HUMAN:
                return refusal("FAILED_PRECONDITION", "EXPECTED_SEQ_REQUIRED")
        elif expected != head:
            return refusal("ABORTED", "SEQ_CONFLICT", expected=expected, last_seq=head)
        if request.based_on_seq > head:
            return invalid("based_on_seq")
        if request.reply_to > head:
            return history.no_message(request.reply_to)
        missing = sorted(addressed(message) - self.agents.keys())
        if missing:
            return refusal("NOT_FOUND", "AGENT_NOT_FOUND", *missing)
        return _edit_refused(message, history) if message.edit_of else None

    def GetMessage(
        self, request: GetMessageRequest, caller: str, actual: object
    ) -> GetMessageResponse | Refusal:
        history = self.threads.get(request.thread)
        if history is None:
            return no_thread(request.thread)
        if not history.first <= request.seq <= history.head:
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
        page = history.page(request, caller)
        if isinstance(page, ListMessagesResponse) and page.messages:
            self.raise_position(caller, history, delivered=page.messages[-1].seq)
        return page

    def Heartbeat(
        self, request: HeartbeatRequest, caller: str, actual: object
    ) -> HeartbeatResponse:
        answer = HeartbeatResponse(
            heartbeat_interval=Duration(seconds=40), agent_timeout=Duration(seconds=60)
        )
        if caller == ANONYMOUS:
            return answer
        self.presence[caller].reports(request.state)
        for cursor in request.read_cursors:
            history = self.threads.get(cursor.thread)
            if history and caller in history.members and history.holds(cursor):
                self.raise_position(caller, history, read=cursor.after_seq)
                self.presence[caller].has_read(cursor.thread, cursor.after_seq)
        real = response_or_empty(actual, HeartbeatResponse)
        answer.expire_time.CopyFrom(real.expire_time)
        answer.unread.extend(self._unread(caller))
        if caller == OPERATOR:  # which is in threads of earlier models, too
            ours = self.name("")
            answer.unread.extend(u for u in real.unread if not u.thread.startswith(ours))
        return answer

    def _unread(self, agent: str) -> list[ThreadUnread]:
        """Returns what an agent has not read, newest first."""
        found = []
        for history in self.threads.values():
            if agent in history.members and history.head:
                read = self.participant(agent, history, Participant()).read_seq
                gone = max(read, history.first - 1)
                waking = [m for m in history.log[gone:] if history.wakes(m, agent)]
                if waking:
                    unread = ThreadUnread(
                        thread=history.thread.name,
                        head_seq=history.head,
                        read_seq=read,
                        addressed_count=sum(agent in history.addresses(m) for m in waking),
                    )
                    found.append((history.log[-1].create_time.ToNanoseconds(), unread))
        found.sort(key=lambda each: each[0], reverse=True)
        return [unread for _, unread in found]

    def EndSession(
        self, request: EndSessionRequest, caller: str, actual: object
    ) -> EndSessionResponse:
        self.presence[caller].ends()
        return EndSessionResponse()


def _repeats(actual: object) -> bool:
    """Returns whether a response says that the request_id of a post was used before."""
    if isinstance(actual, Refusal):
        return actual.reason == "REQUEST_ID_REUSED"
    return isinstance(actual, PostMessageResponse) and actual.deduplicated


def _edit_refused(message: Message, history: History) -> Refusal | None:
    if not history.first <= message.edit_of <= history.head:
        return history.no_message(message.edit_of)
    edited = history.log[message.edit_of - 1]
    if edited.sender != message.sender or message.sender == ANONYMOUS:
        return refusal("PERMISSION_DENIED", "ACCESS_DENIED")
    return None if edited.kind == MESSAGE_KIND_CHAT else invalid("edit_of")


def addressed(message: Message) -> set[str]:
    return {*message.mentions, message.handoff_to} - {""}
