"""Requests: the list of them, and the wait for what answers a question."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing

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
from bus_client.retry import backoff
from bus_client.stream import KNOWN_NOTICES, known_kinds, wait_frames
from bus_client.traces import received
from threadbus.v1.bus_service_pb2 import (
    ListRequestsRequest,
    MessageBatch,
    PostMessageResponse,
    WaitEnding,
    WaitMessagesRequest,
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
from threadbus.v1.request_pb2 import REQUEST_STATE_CLOSED, Request, RequestState

_PAUSES = 0.1, 2.0  # seconds between two tries to list requests: at first, and at most

#: What Unanswered says of an agent, by reason.
_TEXTS = {
    "AGENT_IDLE": "{agent} has read it, and is idle without an answer",
    "AGENT_LAPSED": "{agent} has not been seen lately",
    "AGENT_OFFLINE": "{agent} has ended its session",
    "AGENT_LEFT": "{agent} has left the thread",
    "OVERDUE": "{agent} has not answered in time",
    "CLOSED": "the thread was closed before {agent} answered",
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
            MessageNotFound: The question is not in the thread any more.
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
                    case "resync":
                        self._check_kept(frame.resync.position.cursor)
                    case "messages":
                        # First: a reply to a request that was closed before is none.
                        if any(m.kind == MESSAGE_KIND_THREAD for m in frame.messages.messages):
                            await self._look_for_closed()
                        if (reply := self._look_at(frame.messages)) is not None:
                            self._take(position)
                            received(self._calls.agent, reply)
                            return reply
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

    async def _look_for_closed(self) -> None:
        """Give up the agents whose requests were closed, also if the thread is open again."""
        pauses = backoff(*_PAUSES)
        while True:
            try:
                requests = listed(
                    self._calls,
                    asker=self._calls.agent,
                    agent="",
                    thread=self._thread,
                    states=[REQUEST_STATE_CLOSED],
                )
                async with aclosing(requests):
                    async for request in requests:
                        if request.seq == self._seq:
                            self._give_up(request.agent, "CLOSED")
                return
            except (Unreachable, Draining, StoreBusy) as error:
                if isinstance(error, TlsFailed):
                    raise
            await asyncio.sleep(next(pauses))

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
