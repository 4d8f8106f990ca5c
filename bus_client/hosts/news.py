"""What an agent has not read, and was not notified of: looked up without changing what others see.

ListMessages would count as a delivery to the agent, and a wait that observes delivers in its own
order, oldest first. So the newest messages are looked at one by one, with GetMessage.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from bus_client.calls import Calls
from bus_client.errors import MessageNotFound, ThreadNotFound
from bus_client.hosts.notified import Positions
from bus_client.responses import checked_message
from threadbus.limits import SEQ_LIMIT
from threadbus.names import AGENT, THREAD
from threadbus.v1.bus_service_pb2 import GetMessageRequest, ListRequestsRequest, ThreadUnread
from threadbus.v1.message_pb2 import WAKE_ADDRESSED, WAKE_ALL, WAKE_UNSPECIFIED, Message
from threadbus.v1.request_pb2 import REQUEST_STATE_OPEN
from threadbus.v1.thread_pb2 import THREAD_STATE_UNSPECIFIED, Thread
from threadbus.v1.thread_service_pb2 import ListThreadsRequest

MAX_THREADS = 1_000  # on the first page of an agent's threads
_MOST_UNREAD = 100  # that a server tells of
_MOST_MESSAGES = 400  # that are looked at, over all threads
_MOST_OF_THREAD, _LEAST_OF_THREAD = 20, 2  # the newest of a thread that are looked at
_MOST_REQUESTS = 1_000
_LONGEST_EPOCH = 100  # characters: a longer one is not the server's


@dataclass(frozen=True, slots=True)
class Entry:
    """A message that wakes the agent.

    Attributes:
        seq, sender: Its seq and sender.
        addressed: Whether it mentions the agent, hands off to it, or replies to it.
        asks: Whether it asks the agent for a reply, and that request is open.
    """

    seq: int
    sender: str
    addressed: bool
    asks: bool = False


@dataclass(frozen=True, slots=True)
class News:
    """The messages of a thread that an agent is notified of.

    Attributes:
        thread, epoch: The thread.
        head: The seq up to which the agent has been notified then.
        entries: The messages, newest first.
        complete: Whether there are no more.
        removed: Whether there were older ones, which are not kept any more.
    """

    thread: str
    epoch: str
    head: int
    entries: Sequence[Entry]
    complete: bool
    removed: bool = False

    def after(self, notified: Positions) -> News | None:
        """Returns what is left of it after what the agent was notified of; None if nothing is."""
        epoch, seq = notified.get(self.thread, ("", 0))
        if epoch != self.epoch:
            return self
        if seq >= self.head:
            return None
        return replace(self, entries=[entry for entry in self.entries if entry.seq > seq])

    @property
    def empty(self) -> bool:
        """Whether there is nothing to tell: what has come does not wake the agent."""
        return self.complete and not self.entries


async def heads(calls: Calls, agent: str) -> dict[str, tuple[str, int]]:
    """Returns epoch and head of the threads of an agent, at most 1,000 that were active last.

    Raises BusError.
    """
    found = await _threads(calls, agent)
    return {name: (each.epoch, each.head_seq) for name, each in found.items()}


async def _threads(calls: Calls, agent: str) -> dict[str, Thread]:
    """Returns the threads of an agent by name, at most 1,000 that were active last."""
    request = ListThreadsRequest(
        participant=agent, page_size=MAX_THREADS, states=[THREAD_STATE_UNSPECIFIED]
    )
    response = await calls.call(calls.threads.ListThreads, request)
    return {
        each.name: each
        for each in response.threads[:MAX_THREADS]
        if THREAD.fullmatch(each.name)
        and 0 <= each.first_seq <= each.head_seq + 1 <= SEQ_LIMIT
        and 0 < len(each.epoch) <= _LONGEST_EPOCH
    }


async def unread_news(
    calls: Calls, unread: Iterable[ThreadUnread], notified: Positions, wanted: Collection[str]
) -> list[News]:
    """Returns what the agent is to be notified of, the threads in the order of `unread`.

    Threads without such messages, whose position moves, are in it, too. Names and numbers are
    checked: the server may be faulty.

    Args:
        unread: Of the agent's heartbeat.
        notified: What it was notified of before.
        wanted: Only these threads. Empty = all.

    Raises:
        BusError: A call failed.
    """
    unread = [each for each in unread if _valid(each) and (not wanted or each.thread in wanted)]
    if not unread:
        return []
    current = await _threads(calls, calls.agent)
    starts: list[tuple[ThreadUnread, Thread, int]] = []
    for each in unread[:_MOST_UNREAD]:
        thread = current.get(each.thread)
        if thread is None:
            continue
        notified_epoch, seq = notified.get(each.thread, ("", 0))
        start = max(each.read_seq, seq) if notified_epoch == thread.epoch else each.read_seq
        if start < each.head_seq:
            starts.append((each, thread, start))
    most = _MOST_MESSAGES // max(len(starts), 1)
    most = max(_LEAST_OF_THREAD, min(most, _MOST_OF_THREAD))
    found = await asyncio.gather(
        *(_news(calls, each, thread, start, most) for each, thread, start in starts)
    )
    return await _without_closed_requests(calls, found)


def _valid(unread: ThreadUnread) -> bool:
    seqs = 0 <= unread.read_seq < unread.head_seq < SEQ_LIMIT
    return seqs and THREAD.fullmatch(unread.thread) is not None


async def _news(calls: Calls, unread: ThreadUnread, at: Thread, start: int, most: int) -> News:
    """Returns the news after `start`, of the newest `most` messages of a thread."""
    removed, start = start < at.first_seq - 1, max(start, at.first_seq - 1)
    first = max(start, unread.head_seq - most)
    seqs = range(unread.head_seq, first, -1)
    found = await asyncio.gather(*(_message(calls, unread.thread, seq) for seq in seqs))
    messages = [message for message in found if message is not None]
    answered = {message.reply_to for message in messages} - {0}
    found = await asyncio.gather(*(_message(calls, unread.thread, seq) for seq in answered))
    authors = {message.seq: message.sender for message in found if message is not None}
    entries = []
    for message in messages:
        addressed = (
            calls.agent in message.mentions
            or message.handoff_to == calls.agent
            or authors.get(message.reply_to) == calls.agent
        )
        wakes = message.wakes in (WAKE_UNSPECIFIED, WAKE_ALL) or (
            message.wakes == WAKE_ADDRESSED and addressed
        )
        if wakes and message.sender != calls.agent and AGENT.fullmatch(message.sender):
            asks = calls.agent in message.expect_reply.agents
            entries.append(Entry(message.seq, message.sender, addressed, asks))
    complete = first <= start
    return News(unread.thread, at.epoch, unread.head_seq, entries, complete, removed)


async def _message(calls: Calls, thread: str, seq: int) -> Message | None:
    """Returns a message without its content; None if it or the thread is gone. Raises BusError."""
    request = GetMessageRequest(
        thread=thread, seq=seq, omit_attachment_data=True, max_content_bytes=1
    )
    try:
        response = await calls.call(calls.bus.GetMessage, request)
    except (MessageNotFound, ThreadNotFound):
        return None
    return checked_message(response.message, thread, seq)


async def _without_closed_requests(calls: Calls, found: Sequence[News]) -> list[News]:
    """Returns the news; `asks` is no longer set in entries whose request is not open."""
    if not any(entry.asks for news in found for entry in news.entries):
        return list(found)
    request = ListRequestsRequest(
        agent=calls.agent, states=[REQUEST_STATE_OPEN], page_size=_MOST_REQUESTS
    )
    response = await calls.call(calls.bus.ListRequests, request)
    still_open = {(each.thread, each.epoch, each.seq) for each in response.requests}
    return [
        replace(
            news,
            entries=[
                replace(
                    entry,
                    asks=entry.asks and (news.thread, news.epoch, entry.seq) in still_open,
                )
                for entry in news.entries
            ],
        )
        for news in found
    ]
