"""The texts of bus_read and bus_who, which change nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bus_client.cli.listings import first
from bus_client.cli.mcp.tools import ArgumentError
from bus_client.cli.mcp.words import (
    MAX_RESULT,
    MAX_TEXT,
    message_text,
    newest_fitting,
    oldest_fitting,
    people,
    thread_text,
)
from bus_client.cli.removed import removed_text
from bus_client.cli.requests import request_lines, server_time
from bus_client.cli.text import safe

if TYPE_CHECKING:
    from bus_client import BusClient, Participant, ThreadHandle
    from threadbus.v1.bus_service_pb2 import ThreadUnread

_READ_BYTES = 6_000  # of the messages that are read at once: with few exceptions, they fit
_LISTED_TOPIC = 200  # bytes of each topic in a list
_MOST_THREADS, _MOST_REQUESTS, _MOST_PEOPLE = 10, 20, 1_000


async def read(thread: ThreadHandle, given: Mapping[str, Any], *, reader: str) -> str:
    """Returns messages of a thread, or a part of one, as text.

    Args:
        thread: The thread.
        given: The arguments of bus_read.
        reader: The name of the agent that reads.

    Raises:
        ArgumentError: The arguments do not fit together.
        BusError: As ThreadHandle.message() and messages().
    """
    if "seq" in given:
        message = await thread.message(given["seq"], omit_attachment_data=True)
        size, offset = message.content_size, given.get("offset", 0)
        if offset >= size > 0:
            raise ArgumentError(f"offset must be below the size of #{message.seq}, {size:,}.")
        return message_text(message, reader=reader, offset=offset, most=MAX_RESULT - 3_000)
    if "offset" in given:
        raise ArgumentError("offset needs seq: the message to read on.")
    after = given.get("after_seq")
    messages = await thread.messages(
        after_seq=after or 0,
        newest=after is None,
        limit=min(given.get("limit", 20), 100) or 1,
        max_bytes=_READ_BYTES,
        omit_attachment_data=True,
        max_content_bytes=MAX_TEXT,
    )
    notes: list[str] = []
    if after is not None and (not messages or messages[0].seq > after + 1):
        first_kept = (await thread.refresh()).first_seq
        first_kept = min(first_kept, messages[0].seq) if messages else first_kept
        if first_kept > after + 1:
            notes.append(safe(removed_text(thread.name, after, first_kept)))
    if not messages:
        return "\n".join([*notes, f"No messages in {thread.name} after #{after or 0}."])
    texts = [message_text(each, reader=reader) for each in messages]
    if after is None:
        return "\n".join(newest_fitting(texts, MAX_RESULT - 100))
    lines = oldest_fitting(texts, MAX_RESULT - 400)
    newest = messages[len(lines) - 1].seq
    return "\n".join([*notes, *lines, f"Continue with after_seq={newest}."])


async def about_thread(thread: ThreadHandle) -> tuple[list[str], list[Participant]]:
    """Returns the thread and who takes part, as lines, and the participants.

    Raises BusError.
    """
    lines = [thread_text(await thread.refresh())]
    participants = await first(_MOST_PEOPLE, thread.list_participants())
    return [*lines, f"Here: {people(participants)}"], participants


async def about_bus(
    bus: BusClient, thread: str | None, unread: Sequence[ThreadUnread]
) -> list[str]:
    """Returns open requests, unread threads and the latest threads, as lines.

    Args:
        bus: The agent's client.
        thread: The thread whose requests to show. None = all requests to and of the agent.
        unread: The threads with unread messages.

    Raises:
        BusError: A call failed.
    """
    if thread:
        listings = [bus.list_requests(thread=thread)]
    else:
        listings = [bus.list_requests(agent=bus.agent), bus.list_requests(asker=bus.agent)]
    lines: list[str] = []
    if requests := [each for found in listings for each in await first(_MOST_REQUESTS, found)]:
        lines.append("Questions without an answer:")
        lines += [f"  {line}" for line in request_lines(requests, await server_time(bus))]
    lines += [
        f"Unread in {safe(each.thread)}: {_span(each.read_seq + 1, each.head_seq)}, "
        f"{each.addressed_count:,} for you"
        for each in unread[:_MOST_THREADS]
    ]
    if threads := await first(_MOST_THREADS, bus.list_threads()):
        lines.append("Threads, the latest first:")
        lines += [f"  {thread_text(each, most=_LISTED_TOPIC)}" for each in threads]
    return lines


def _span(first: int, last: int) -> str:
    return f"#{first}" if first == last else f"#{first} to #{last}"
