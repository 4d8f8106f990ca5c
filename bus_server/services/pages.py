"""Pages of lists, limited in items and in bytes, so that every client can receive them."""

from collections.abc import Iterable
from itertools import islice
from typing import TypeVar

from google.protobuf.message import Message

from bus_server.history import PAGE_BYTES

M = TypeVar("M", bound=Message)


def take_page(found: Iterable[M], most: int) -> list[M]:
    """Returns the first items: at most `most`, and at most 3 MiB unless the first one is larger.

    Consumes at most one item more of `found` than it returns.
    """
    page: list[M] = []
    size = 0
    for item in islice(found, most):
        size += item.ByteSize()
        if size > PAGE_BYTES and page:
            break
        page.append(item)
    return page
