"""Whole threads read with ListMessages, page by page."""

from collections.abc import Iterable
from typing import Any

from tests.serving import BusStub
from threadbus.v1.bus_service_pb2 import ListMessagesRequest, ListMessagesResponse

__all__ = ["read_pages", "seqs"]


async def read_pages(bus: BusStub, thread: str, **fields: Any) -> list[ListMessagesResponse]:
    """Returns all pages, read forward or with `newest` backward, in the thread's order."""
    request = ListMessagesRequest(thread=thread, **fields)
    pages: list[ListMessagesResponse] = []
    while True:
        page = await bus.ListMessages(request)
        pages.append(page)
        if not page.has_more:
            return pages[::-1] if request.newest else pages
        if request.newest:
            assert page.next_before_seq < (request.before_seq or page.head_seq + 1)
            request.before_seq = page.next_before_seq
        else:
            assert page.next_after_seq > request.after_seq
            request.after_seq = page.next_after_seq


def seqs(pages: Iterable[ListMessagesResponse]) -> list[int]:
    """Returns the seqs of the pages' messages."""
    return [message.seq for page in pages for message in page.messages]
