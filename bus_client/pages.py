"""Lists and messages that a server returns in pages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol, TypeVar

from bus_client.byte_budget import ByteBudget
from bus_client.errors import ProtocolError
from bus_client.idempotency import UnaryRequest
from bus_client.responses import checked_page
from threadbus.limits import MAX_PAGE_SIZE
from threadbus.v1.bus_service_pb2 import ListMessagesRequest, ListMessagesResponse
from threadbus.v1.message_pb2 import Message


class PagedRequest(UnaryRequest, Protocol):
    """A request for one page of a list."""

    page_token: str


class PagedResponse(Protocol):
    """The response to a PagedRequest."""

    next_page_token: str

    def SerializeToString(self) -> bytes: ...


ListRequest = TypeVar("ListRequest", bound=PagedRequest)
ListResponse = TypeVar("ListResponse", bound=PagedResponse)


async def all_pages(
    call: Callable[[ListRequest], Awaitable[ListResponse]], request: ListRequest
) -> AsyncIterator[ListResponse]:
    """Yields all pages of a list, with one call for each. Sets the page_token of `request`.

    Raises:
        ProtocolError: A page other than the last is empty, equals the previous one, or has the
            next_page_token of an earlier one.
    """
    tokens, before = set[str](), b""
    while True:
        page = await call(request)
        token = page.next_page_token
        page.next_page_token = ""
        entries = page.SerializeToString()
        if token and (token in tokens or entries in (b"", before)):
            raise ProtocolError("The server sent a page that does not lead to the next one.")
        yield page
        if not token:
            return
        tokens.add(token)
        request.page_token, before = token, entries


async def read_messages(
    call: Callable[[ListMessagesRequest], Awaitable[ListMessagesResponse]],
    request: ListMessagesRequest,
    limit: int,
) -> list[Message]:
    """Returns up to `limit` messages, ascending, with one call for each page. Changes `request`.

    Raises:
        ProtocolError: A page is not as it was requested.
    """
    found: list[Message] = []
    budget = ByteBudget(request.max_bytes)
    while len(found) < limit:
        request.limit = min(limit - len(found), MAX_PAGE_SIZE)
        request.max_bytes = budget.left
        page = checked_page(await call(request), request, request.epoch)
        messages = list(page.messages)
        if request.newest:
            fitting = budget.take(reversed(messages))
            found[:0] = messages[len(messages) - fitting :]
            request.before_seq = page.next_before_seq
        else:
            fitting = budget.take(messages)
            found += messages[:fitting]
            request.after_seq = page.next_after_seq
        if budget.spent or not page.has_more:
            break
        request.epoch = page.epoch
    return found
