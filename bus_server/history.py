"""Reading a page of a thread, whatever a filter leaves out of it."""

from collections.abc import Sequence
from dataclasses import dataclass

from bus_server.errors import CursorInvalid, ThreadNotFound
from bus_server.filter import Filter
from bus_server.store import Head
from bus_server.store.interface import Store
from threadbus.v1.message_pb2 import Message

#: A page of a thread: bytes of messages, rows a filter reads at a time, and how many rows and bytes
#: it passes over at most.
PAGE_BYTES = 3 * 1024 * 1024
PAGE_ROWS = 250
PAGE_SCAN = 10_000
PAGE_SCAN_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Page:
    """Messages of a thread, ascending, and from where to read on in either direction."""

    messages: Sequence[Message]
    head: Head
    next_after: int
    next_before: int
    more: bool


async def read_page(
    store: Store,
    thread: str,
    *,
    after: int,
    before: int,
    limit: int,
    newest: bool,
    epoch: str,
    wanted: Filter,
) -> Page:
    """Read a page of a thread: up to `limit` of its wanted messages in after < seq < before.

    Raises ThreadNotFound, and CursorInvalid for another epoch or an `after` past the head.
    """
    rows = limit if wanted.everything else PAGE_ROWS
    part = await store.page(thread, after, before, rows, PAGE_BYTES, newest)
    head = part.head
    other = epoch not in ("", head.epoch)
    if other or after > head.seq:
        raise CursorInvalid(head_seq=head.seq, epoch=head.epoch, past_head=not other)
    last = min(before - 1, head.seq) if before else head.seq
    low, high = after, last + 1  # what is not read yet: low < seq < high
    messages: list[Message] = []
    size = scanned = scanned_bytes = 0
    while part.messages:
        if part.head.thread_id != head.thread_id:
            raise ThreadNotFound([thread])  # deleted and made anew meanwhile
        left = limit - len(messages)
        found = list(await wanted.select(store, head.thread_id, part.messages))
        found = found[-left:] if newest else found[:left]
        # When the page is full, what lies beyond its last message was not looked at.
        seen = found if len(found) == left else part.messages
        if newest:
            messages, high = found + messages, seen[0].seq
        else:
            messages, low = messages + found, seen[-1].seq
        size += sum(message.ByteSize() for message in found)
        scanned += len(part.messages)
        scanned_bytes += sum(message.ByteSize() for message in part.messages)
        # One more message of the largest kind must still fit into an answer of 4 MiB.
        full = len(messages) == limit or size > PAGE_BYTES // 4
        full = full or scanned >= PAGE_SCAN or scanned_bytes >= PAGE_SCAN_BYTES
        if full or high - low <= 1:
            break
        part = await store.page(thread, low, high, rows, PAGE_BYTES - size, newest)
    if newest:
        return Page(messages, head, last, high, more=high - low > 1)
    return Page(messages, head, low, after + 1, more=high - low > 1)
