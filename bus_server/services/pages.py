"""Pages of lists: bounded in number, and in bytes so that every client can take them."""

from collections.abc import Sequence
from typing import TypeVar

from google.protobuf.message import Message

from bus_server.history import PAGE_BYTES

M = TypeVar("M", bound=Message)


def fitting(found: Sequence[M], most: int) -> Sequence[M]:
    """The first of these: at most so many, and about 3 MiB."""
    size = 0
    for at, item in enumerate(found[:most]):
        size += item.ByteSize()
        if size > PAGE_BYTES and at:
            return found[:at]
    return found[:most]
