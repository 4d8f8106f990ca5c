"""Requests: the list of them, and the wait for what answers a question."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing, suppress
from functools import partial
from typing import TypeVar

from bus_client.calls import Calls
from bus_client.errors import (
    Draining,
    MessageNotFound,
    StoreBusy,
    TlsFailed,
    Unanswered,
    Unreachable,
)
from bus_client.heartbeats import Heartbeats
from bus_client.read_position import ReadPosition
from bus_client.requests import build, refuse, text
from bus_client.responses import checked_message
from bus_client.retry import backoff
from bus_client.stream import KNOWN_NOTICES, known_kinds, wait_frames
from bus_client.traces import received
from threadbus.v1.bus_service_pb2 import (
    GetMessageRequest,
    ListRequestsRequest,
    MessageBatch,
    PostMessageResponse,
    WaitEnding,
    WaitMessagesRequest,
    WaitResync,
)
from threadbus.v1.message_pb2 import (
    MESSAGE_KIND_EDIT,
    MESSAGE_KIND_NOTICE,
    MESSAGE_KIND_THREAD,
    WAKE_NOBODY,
    Cursor,
    Message,
    Notice,
)
from threadbus.v1.request_pb2 import (
    REQUEST_STATE_ANSWERED,
    REQUEST_STATE_CLOSED,
    REQUEST_STATE_WITHDRAWN,
    Request,
    RequestState,
)

T = TypeVar("T")

_PAUSES = 0.1, 2.0  # seconds between two tries to list requests: at first, and at most

#: What Unanswered says of an agent, by reason.
_TEXTS = {
    "AGENT_IDLE": "{agent} has read it, and is idle without an answer",
    "AGENT_LAPSED": "{agent} has not been seen lately",
    "AGENT_OFFLINE": "{agent} has ended its session",
    "AGENT_LEFT": "{agent} has left the thread",
    "OVERDUE": "{agent} has not answered in time",
    "CLOSED": "the thread was closed, or the message removed, before {agent} answered",
    "WITHDRAWN": "the request to {agent} was withdrawn",
    "SESSION_ENDED": "the session of the agent that asked was ended before {agent} answered",
}


async def listed(
    calls: Calls,
    *,
    asker: str,
    agent: str,
    thread: str,
    states: Iterable[RequestState.ValueType],
) -> AsyncGenerator[Request]:
    """Yields the requests of BusClient.list_requests()."""
    request = build(ListRequestsRequest, asker=asker, agent=agent, thread=thread, states=states)
    async for page in calls.pages(calls.bus.ListRequests, request):
        for found in page.requests:
            yield found


def asked(of: str | Iterable[str]) -> list[str]:
    """Returns the names of the agents that ask() asks. Raises InvalidArgument if there are none."""
    if not isinstance(of, str) and not isinstance(of, Iterable):
        refuse("of", f"must be a name or several, not {type(of).__name__}")
    names = [text("of", name) for name in ([of] if isinstance(of, str) else of)]
    if not names or not all(names):
        refuse("of", "must name an agent, or several")
    return list(dict.fromkeys(names))


class Question:
    """A message that asks agents for a reply, for the ask() that waits for it."""

    def __init__(
        self,
        calls: Calls,
        heartbeats: Heartbeats,
        thread: str,
        posted: PostMessageResponse,
        agents: Iterable[str],
    ) -> None:
        self._calls = calls
        self._heartbeats = heartbeats
        self._thread, self._seq, self._epoch = thread, posted.seq, posted.epoch
        self._agents = frozenset(agents)
        #: Those whose requests may still be open.
        self._open = set(agents)
        #: Why an agent may not answer: the reason of the first notice, by agent.
        self._given_up: dict[str, str] = {}
        #: What a reply may reply to: the message and its edits.
        self._seqs = {posted.seq}
        #: Epoch and seq of what ask() tells: the notices and the reply.
        self._told: list[tuple[str, int]] = []
        #: Whether all that came after the message was told, or of the agent that asks.
        self._alone = True

    async def reply(self, position: ReadPosition | None) -> Message:
        """Returns the first reply.

        Args:
            position: How far the agent that asks had read the thread before, as the server knows.
                None = the server does not know it.

        Raises:
            Unanswered: Each agent was given up.
            MessageNotFound: The question is not in the thread any more; or the reply is not, or it
                is not known whether there was one.
            BusError: As in wait_frames().
        """
        self._heartbeats.resume()
        cursor = Cursor(thread=self._thread, after_seq=self._seq, epoch=self._epoch)
        request = WaitMessagesRequest(threads=[cursor])
        caught_up, ended = False, WaitEnding.REASON_UNSPECIFIED
        async with aclosing(wait_frames(self._calls, request)) as frames:
            async for frame in frames:
                self._heartbeats.update_from_frame(frame)
                ended = frame.ending.reason
                match frame.WhichOneof("frame"):
                    case "started":
                        caught_up = False
                    case "caught_up":
                        caught_up = True
                    case "resync" if frame.resync.reason == WaitResync.REASON_COMPACTED:
                        self._alone = False
                        # The reply may be among what was removed.
                        if (reply := await self._look_up()) is not None:
                            return self._answered(reply, position)
                    case "resync":
                        self._check_kept(frame.resync.position.cursor)
                    case "messages":
                        # First: a reply to a request that was closed before is none.
                        if any(map(self._may_close, frame.messages.messages)):
                            await self._look_for_closed()
                        if (reply := self._look_at(frame.messages)) is not None:
                            return self._answered(reply, position)
                # Before that, a reply may still come after the notices.
                if caught_up and self._given_up.keys() >= self._agents:
                    break
        if not self._given_up.keys() >= self._agents:
            closed = ended == WaitEnding.REASON_THREADS_CLOSED
            for agent in sorted(self._open):
                self._give_up(agent, "CLOSED" if closed else "SESSION_ENDED")
        self._take(position)
        raise self._unanswered()

    def _look_at(self, batch: MessageBatch) -> Message | None:
        """Returns the first reply in a batch; None if there is none. Notes what comes before it."""
        for message in known_kinds(batch.messages):
            here = batch.cursor.epoch, message.seq
            notice = message.notice
            if message.kind == MESSAGE_KIND_EDIT and message.edit_of == self._seq:
                self._seqs.add(message.seq)
            if (
                message.sender in self._open
                and message.reply_to in self._seqs
                and message.wakes != WAKE_NOBODY
            ):
                self._told.append(here)
                return message
            if message.kind != MESSAGE_KIND_NOTICE:
                self._alone = self._alone and message.sender == self._calls.agent
            elif notice.request_seq == self._seq and notice.agent in self._agents:
                self._told.append(here)
                if notice.reason in KNOWN_NOTICES:
                    reason = Notice.Reason.Name(notice.reason)
                    self._give_up(notice.agent, reason.removeprefix("REASON_"))
            elif self._calls.agent in message.mentions:
                self._alone = False
        return None

    def _answered(self, reply: Message, position: ReadPosition | None) -> Message:
        self._take(position)
        received(self._calls.agent, reply)
        return reply

    def _may_close(self, message: Message) -> bool:
        """Returns whether requests may have been closed with an entry of the thread.

        Those of a message that is removed are closed with a notice that they are overdue.
        """
        if message.kind == MESSAGE_KIND_THREAD:
            return True
        notice, ours = message.notice, self._calls.agent in message.mentions
        return ours and (notice.reason, notice.request_seq) == (Notice.REASON_OVERDUE, self._seq)

    async def _look_for_closed(self) -> None:
        """Give up the agents whose requests were closed, also if the thread is open again."""
        for request in await _retried(partial(self._requests, [REQUEST_STATE_CLOSED])):
            self._give_up(request.agent, "CLOSED")

    async def _look_up(self) -> Message | None:
        """Look up what became of the requests, after entries that were not seen were removed.

        Returns the first reply if there is one. Raises MessageNotFound if it was removed, or if
        nothing is known of the requests any more.
        """
        requests = await _retried(partial(self._requests, []))
        for request in requests:
            if request.state in (REQUEST_STATE_CLOSED, REQUEST_STATE_WITHDRAWN):
                closed = request.state == REQUEST_STATE_CLOSED
                self._give_up(request.agent, "CLOSED" if closed else "WITHDRAWN")
        seqs = sorted(each.reply_seq for each in requests if each.state == REQUEST_STATE_ANSWERED)
        for seq in seqs:
            with suppress(MessageNotFound):
                reply = await _retried(partial(self._message, seq))
                self._told.append((self._epoch, seq))
                return reply
        if seqs or not requests:
            gone = f"the reply to message {self._seq}" if seqs else f"message {self._seq}"
            raise MessageNotFound(
                f"{gone[0].upper()}{gone[1:]} of thread {self._thread!r} is not kept any more.",
                code="NOT_FOUND",
                reason="MESSAGE_NOT_FOUND",
            )
        return None

    async def _requests(self, states: Iterable[RequestState.ValueType]) -> list[Request]:
        """Returns the requests of the message that are in one of these states. Empty = any."""
        requests = listed(
            self._calls, asker=self._calls.agent, agent="", thread=self._thread, states=states
        )
        async with aclosing(requests):
            return [request async for request in requests if request.seq == self._seq]

    async def _message(self, seq: int) -> Message:
        request = GetMessageRequest(thread=self._thread, seq=seq)
        response = await self._calls.call(self._calls.bus.GetMessage, request)
        return checked_message(response.message, self._thread, seq)

    def _give_up(self, agent: str, reason: str) -> None:
        if agent in self._open:
            self._given_up.setdefault(agent, reason)
        if reason in ("CLOSED", "WITHDRAWN"):
            self._open.discard(agent)

    def _check_kept(self, position: Cursor) -> None:
        """Raises MessageNotFound if a wait that resumes at a position is before the question."""
        self._alone = False
        if position.after_seq < self._seq:
            raise MessageNotFound(
                f"Message {self._seq} is not in thread {self._thread!r} any more.",
                code="NOT_FOUND",
                reason="MESSAGE_NOT_FOUND",
            )

    def _take(self, position: ReadPosition | None) -> None:
        """Keep follow(), wait() and inbox() of the client from delivering what was told.

        What was told counts as read if all that is before it does.
        """
        taken = self._calls.taken
        for epoch, seq in self._told:
            taken.add(self._thread, epoch, seq)
        if not self._told or not self._alone or position is None:
            return
        epoch, upto = self._told[-1]
        if epoch == position.epoch and taken.read_by(self._thread, position) >= self._seq - 1:
            taken.extend(self._thread, position, upto)
            self._heartbeats.report(self._thread, ReadPosition.at(epoch, upto))

    def _unanswered(self) -> Unanswered:
        agent, reason = list(self._given_up.items())[-1]
        why = "; ".join(_TEXTS[why].format(agent=name) for name, why in self._given_up.items())
        message = f"Message {self._seq} of thread {self._thread!r} has no reply: {why}."
        return Unanswered(message, reason=reason, agent=agent, seq=self._seq)


async def _retried(look: Callable[[], Awaitable[T]]) -> T:
    """Returns what `look` returns, which is repeated while no server can answer."""
    pauses = backoff(*_PAUSES)
    while True:
        try:
            return await look()
        except (Unreachable, Draining, StoreBusy) as error:
            if isinstance(error, TlsFailed):
                raise
        await asyncio.sleep(next(pauses))
