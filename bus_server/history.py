"""Reads a page of a thread, skipping messages that a filter does not match."""

from collections.abc import Sequence
from dataclasses import dataclass

from bus_server.errors import CursorInvalid, ThreadNotFound
from bus_server.filter import Filter
from bus_server.store import Head
from bus_server.store.interface import Store
from bus_server.trim import Trim

#: Limits of a page: its bytes of messages; the rows read at a time if they must be parsed; and the
#: rows and bytes scanned in total, after which the page ends.
PAGE_BYTES = 3 * 1024 * 1024
PAGE_ROWS = 250
PAGE_SCAN = 10_000
PAGE_SCAN_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Page:
    """Messages of a thread in ascending order, and where to continue in either direction."""

    bodies: Sequence[bytes]  # each a serialised Message
    #: Seq of the last message returned; 0 if there is none.
    last_seq: int
    head: Head
    #: The `after` of the next page when reading forward, and the `before` of the next one when
    #: reading backward.
    next_after: int
    next_before: int
    #: Whether the range may hold more messages, in the direction of reading.
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
    trim: Trim | None = None,
    max_bytes: int = 0,
) -> Page:
    """Returns a page of a thread: messages with after < seq < before that a filter matches.

    Args:
        after, before: exclusive bounds; `before` 0: no upper bound.
        limit: the maximum number of messages. There may be fewer, or none, although the range has
            more: a page ends at the other limits, too.
        newest: whether to return the newest messages of the range, instead of the oldest.
        epoch: the epoch of `after` and `before`; empty: not checked.
        wanted: the filter.
        trim: how to shorten the messages; None: not at all.
        max_bytes: the maximum bytes of the messages, if there are several; 0: no limit.

    Raises:
        ThreadNotFound: the thread does not exist, or was deleted during the call.
        CursorInvalid: `epoch` is not the thread's, or `after` is past its head.
        StoreFailed, StoreBusy, StoreBug: the store cannot be read.
    """
    rows = limit if wanted.everything and trim is None else PAGE_ROWS
    part = await store.excerpt(thread, after, before, rows, PAGE_BYTES, newest)
    head = part.head
    other = epoch not in ("", head.epoch)
    if other or after > head.seq:
        raise CursorInvalid(head, past_head=not other)
    last = min(before - 1, head.seq) if before else head.seq
    low, high = max(after, head.first_seq - 1), last + 1  # what is not read yet: low < seq < high
    bodies: list[bytes] = []
    size = scanned = scanned_bytes = last_seq = 0
    while part.rows:
        if part.head.thread_id != head.thread_id:
            raise ThreadNotFound([thread])  # deleted and created again since the first read
        if part.head.epoch != head.epoch:
            raise CursorInvalid(part.head, past_head=False)
        left = limit - len(bodies)
        indices = await wanted.select(store, head.thread_id, part.rows)
        indices = indices[-left:] if newest else indices[:left]
        found = [part.rows[index][1] for index in indices]
        if trim is not None:
            found = trim.of(found)
        spent = False
        if max_bytes:
            fitting = _fitting(found[::-1] if newest else found, max_bytes, size)
            spent = fitting < len(found) or size + sum(map(len, found)) >= max_bytes
            first, end = (len(found) - fitting, None) if newest else (0, fitting)
            indices, found = indices[first:end], found[first:end]
        # A full page ends at its last message: the rows beyond it count as not read.
        seen = indices if spent or len(indices) == left else range(len(part.rows))
        if newest:
            bodies, high = found + bodies, part.start + seen[0] if seen else high
        else:
            bodies, low = bodies + found, part.start + seen[-1] if seen else low
        if indices:
            last_seq = max(last_seq, part.start + indices[-1])
        size += sum(map(len, found))
        scanned += len(part.rows)
        scanned_bytes += sum(len(body) for _, body in part.rows)
        # One more message of the maximum size must still fit into a response of 4 MiB.
        full = spent or len(bodies) == limit or size > PAGE_BYTES // 4
        full = full or scanned >= PAGE_SCAN or scanned_bytes >= PAGE_SCAN_BYTES
        if full or high - low <= 1:
            break
        part = await store.excerpt(thread, low, high, rows, PAGE_BYTES - size, newest)
        if not newest and part.head.first_seq > low + 1:
            break  # those between were removed meanwhile: a page has no gap
    if newest:
        return Page(bodies, last_seq, head, last, high, more=high - low > 1)
    return Page(bodies, last_seq, head, low, after + 1, more=high - low > 1)


def _fitting(found: Sequence[bytes], max_bytes: int, size: int) -> int:
    """Returns how many of these messages fit into a page that has `size` bytes of others.

    The first message of a page always does.
    """
    for count, body in enumerate(found):
        size += len(body)
        if size > max_bytes and size > len(body):
            return count
    return len(found)
