"""The model's responses about threads and their participants."""

from tests.model.history import ANONYMOUS, History, Refusal, no_thread, refusal
from tests.model.memory import Memory, response_or_empty
from tests.model.retention import kept
from threadbus.v1.agent_pb2 import AGENT_KIND_HUMAN
from threadbus.v1.message_pb2 import MESSAGE_KIND_THREAD, PRIORITY_NORMAL, WAKE_NOBODY, Message
from threadbus.v1.thread_pb2 import (
    SYNC_MODE_OFF,
    THREAD_STATE_CLOSED,
    THREAD_STATE_OPEN,
    SyncMode,
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
    LeaveThreadRequest,
    LeaveThreadResponse,
    ListParticipantsRequest,
    ListParticipantsResponse,
    ListThreadsRequest,
    ListThreadsResponse,
    SetThreadStateRequest,
    SetThreadStateResponse,
    UpdateThreadRequest,
    UpdateThreadResponse,
)


class ThreadAnswers(Memory):
    """ThreadService; see Model."""

    def CreateThread(
        self, request: CreateThreadRequest, caller: str, actual: object
    ) -> CreateThreadResponse | Refusal:
        if request.thread in self.threads:
            return refusal("ALREADY_EXISTS", "THREAD_EXISTS", request.thread)
        made = response_or_empty(actual, CreateThreadResponse).thread
        history = self.create(request.thread, request.topic, caller, made)
        return CreateThreadResponse(thread=history.thread)

    def JoinThread(
        self, request: JoinThreadRequest, caller: str, actual: object
    ) -> JoinThreadResponse | Refusal:
        self.save_position(caller, request.thread)
        history = self.threads.get(request.thread)
        created = history is None
        joined = response_or_empty(actual, JoinThreadResponse)
        if history is None:
            if not request.create:
                return no_thread(request.thread)
            history = self.create(request.thread, request.topic, caller, joined.thread)
        after = history.first - 1 if request.start == JOIN_START_FIRST else history.head
        if caller in history.members and history.members[caller].read >= 0:
            after = history.members[caller].read
        elif caller != ANONYMOUS:
            own = next((p.join_time for p in joined.participants if p.agent == caller), None)
            assert own is not None, "the caller takes part, too"
            history.participate(caller, own, read=after)
        return JoinThreadResponse(
            thread=history.thread,
            created=created,
            cursor=history.at(after),
            context=history.log[max(history.first - 1, after - request.context_limit) : after],
            participants=self.participants(history, joined.participants),
        )

    def LeaveThread(
        self, request: LeaveThreadRequest, caller: str, actual: object
    ) -> LeaveThreadResponse | Refusal:
        history = self.threads.get(request.thread)
        if history is None:
            return no_thread(request.thread)
        history.members.pop(caller, None)
        self.unsaved.pop((caller, request.thread), None)
        return LeaveThreadResponse()

    def ListParticipants(
        self, request: ListParticipantsRequest, caller: str, actual: object
    ) -> ListParticipantsResponse | Refusal:
        """Returns all pages in one."""
        history = self.threads.get(request.thread)
        if history is None:
            return no_thread(request.thread)
        found = response_or_empty(actual, ListParticipantsResponse).participants
        return ListParticipantsResponse(participants=self.participants(history, found))

    def GetThread(
        self, request: GetThreadRequest, caller: str, actual: object
    ) -> GetThreadResponse | Refusal:
        if request.thread not in self.threads:
            return no_thread(request.thread)
        return GetThreadResponse(thread=self.threads[request.thread].thread)

    def ListThreads(
        self, request: ListThreadsRequest, caller: str, actual: object
    ) -> ListThreadsResponse:
        """Returns all pages in one."""
        states = request.states or [THREAD_STATE_OPEN, THREAD_STATE_CLOSED]
        found = [
            h
            for h in self.threads.values()
            if h.thread.state in states
            and h.thread.name.startswith(request.prefix)
            and (not request.participant or request.participant in h.members)
        ]
        found.sort(key=lambda h: (h.thread.update_time.ToNanoseconds(), h.number), reverse=True)
        return ListThreadsResponse(threads=[h.thread for h in found])

    def SetThreadState(
        self, request: SetThreadStateRequest, caller: str, actual: object
    ) -> SetThreadStateResponse | Refusal:
        history = self.threads.get(request.thread)
        if history is None:
            return no_thread(request.thread)
        if not self._may_change(history, caller):
            return refusal("PERMISSION_DENIED", "ACCESS_DENIED")
        if history.thread.state != request.state:
            history.thread.state = request.state
            state = ThreadState.Name(request.state).removeprefix("THREAD_STATE_").lower()
            changed = response_or_empty(actual, SetThreadStateResponse).thread
            self._record(history, f"state to {state}", caller, changed)
        return SetThreadStateResponse(thread=history.thread)

    def UpdateThread(
        self, request: UpdateThreadRequest, caller: str, actual: object
    ) -> UpdateThreadResponse | Refusal:
        history = self.threads.get(request.thread)
        if history is None:
            return no_thread(request.thread)
        thread, mask, changes = history.thread, request.update_mask.paths, []
        stage = list(mask) == ["stage"] and caller in history.members
        if not stage and not self._may_change(history, caller):
            return refusal("PERMISSION_DENIED", "ACCESS_DENIED")
        for field in ("topic", "stage"):
            value = getattr(request, field)
            if field in mask and value != getattr(thread, field):
                setattr(thread, field, value)
                changes.append(f"{field} to “{value}”" if value else f"{field} to none")
        if "labels" in mask and request.labels != thread.labels:
            thread.labels.clear()
            thread.labels.update(request.labels)
            labels = ", ".join(f"{key}={value}" for key, value in sorted(thread.labels.items()))
            changes.append(f"labels to {labels or 'none'}")
        mode = request.sync_mode or SYNC_MODE_OFF
        if "sync_mode" in mask and mode != thread.sync_mode:
            thread.sync_mode = mode
            name = SyncMode.Name(mode).removeprefix("SYNC_MODE_").lower()
            changes.append(f"sync_mode to {name}")
        if "retention" in mask and request.retention != thread.retention:
            thread.retention.CopyFrom(request.retention)
            changes.append(f"retention to {kept(request.retention)}")
        if changes:
            changed = response_or_empty(actual, UpdateThreadResponse).thread
            self._record(history, " and ".join(changes), caller, changed)
        return UpdateThreadResponse(thread=thread)

    def _record(self, history: History, change: str, caller: str, actual: Thread) -> None:
        """Returns the entry that records a change."""
        content = f"{caller} set the thread's {change}"
        entry = Message(
            thread=history.thread.name,
            sender=caller,
            sender_kind=self.agents[caller],
            kind=MESSAGE_KIND_THREAD,
            priority=PRIORITY_NORMAL,
            wakes=WAKE_NOBODY,
            content=content,
            content_size=len(content.encode()),
            create_time=actual.update_time,
        )
        history.append(entry)
        self.appended(history, entry)

    def DeleteThread(
        self, request: DeleteThreadRequest, caller: str, actual: object
    ) -> DeleteThreadResponse | Refusal:
        history = self.threads.get(request.thread)
        if history is None:
            return no_thread(request.thread)
        if not self._may_change(history, caller):
            return refusal("PERMISSION_DENIED", "ACCESS_DENIED")
        del self.threads[request.thread]
        return DeleteThreadResponse()

    def _may_change(self, history: History, caller: str) -> bool:
        """Returns whether a caller may change all of a thread."""
        creator = history.thread.creator
        return creator in (caller, ANONYMOUS) or self.agents[caller] == AGENT_KIND_HUMAN
