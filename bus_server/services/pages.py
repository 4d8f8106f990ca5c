"""Pages of lists: bounded in number, and in bytes so that every client can take them."""

from collections.abc import Iterable
from itertools import islice
from typing import TypeVar

from google.protobuf.message import Message

from bus_server.history import PAGE_BYTES

M = TypeVar("M", bound=Message)


def take_page(found: Iterable[M], most: int) -> list[M]:
    """The first of these: at most so many, and about 3 MiB. What is left over is hardly made."""
    page: list[M] = []
    size = 0
    for item in islice(found, most):
        size += item.ByteSize()
        if size > PAGE_BYTES and page:
            break
        page.append(item)
    return page
