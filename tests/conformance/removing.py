"""Scripted servers that remove the oldest entries of a thread, and tell it to the waits."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import grpc

from tests.script import (
    Failure,
    Script,
    asked_from,
    batch,
    cursor,
    last_batch,
    scripted,
    started,
)
from threadbus.v1.bus_service_pb2 import WaitMessagesResponse, WaitResync
from threadbus.v1.message_pb2 import Cursor
from threadbus.v1.thread_pb2 import ThreadPosition

_BREAK = Failure(grpc.StatusCode.UNAVAILABLE)
_HEAD = 20


def compacted(requested: Cursor, position: Cursor, first_seq: int = 0) -> WaitMessagesResponse:
    """Return the resync of a wait that continues at `position`.

    `first_seq`: the oldest entry kept; 0: the one after the position.
    """
    first_seq = first_seq or position.after_seq + 1
    at = ThreadPosition(cursor=position, head_seq=max(_HEAD, first_seq), first_seq=first_seq)
    reason = WaitResync.REASON_COMPACTED
    resync = WaitResync(reason=reason, requested=requested, position=at)
    return WaitMessagesResponse(resync=resync)


_ELSEWHERE = "elsewhere"
_LATER = "epoch-2"

#: Each comes in a wait at seq 2 without a filter, which must end with an error.
_FALSE = [
    compacted(cursor(2), cursor(1)),
    compacted(cursor(2), cursor(2)),
    compacted(cursor(2), cursor(6), 8),
    compacted(cursor(2), cursor(8), 8),
    compacted(cursor(0), cursor(7)),
    compacted(cursor(3), cursor(7)),
    compacted(cursor(7), cursor(7)),
    compacted(cursor(-1), cursor(7)),
    compacted(cursor(2), cursor(-1)),
    compacted(cursor(2), cursor(2**53)),
    compacted(cursor(2, epoch=_LATER), cursor(7)),
    compacted(cursor(2), cursor(7, epoch=_LATER)),
    compacted(cursor(2, epoch=_LATER), cursor(7, epoch=_LATER)),
    compacted(Cursor(thread=_ELSEWHERE, after_seq=2, epoch="epoch-1"), cursor(7)),
    compacted(cursor(2), Cursor(thread=_ELSEWHERE, after_seq=7, epoch="epoch-1")),
    WaitMessagesResponse(resync=WaitResync(reason=WaitResync.REASON_COMPACTED)),
]
#: The same in a wait with a filter, which may have passed more than it has sent.
_FALSE_FILTERED = [
    compacted(cursor(1), cursor(7)),
    compacted(cursor(8), cursor(7)),
]


def _begin(script: Script, *frames: WaitMessagesResponse | Failure | asyncio.Event) -> None:
    script.answer("WaitMessages", started(), batch(1, 2), *frames)


@contextlib.asynccontextmanager
async def removing() -> AsyncIterator[str]:
    """Removes entries that open waits have not got yet, then breaks one of the waits."""
    async with scripted() as script:
        _begin(script, compacted(cursor(2), cursor(7)), batch(8), asyncio.Event())
        script.answer("WaitMessages", *last_batch(8, 9))
        _begin(script, compacted(cursor(2), cursor(7)), batch(8), _BREAK)
        script.answer("WaitMessages", *last_batch(9))
        # A filter hid 3 to 5.
        _begin(script, compacted(cursor(5), cursor(7)), _BREAK)
        script.answer("WaitMessages", *last_batch(8))
        yield script.address
    asked = asked_from(script)
    assert asked == [0, 7, 0, 8, 0, 7], f"it asked from {asked}"


@contextlib.asynccontextmanager
async def removing_falsely() -> AsyncIterator[str]:
    """Sends each wait a resync that does not go from where the wait is to the oldest entry."""
    frames = _FALSE + _FALSE_FILTERED
    async with scripted() as script:
        for frame in frames:
            _begin(script, frame, asyncio.Event())
        yield script.address
    asked = asked_from(script)
    assert asked == [0] * len(frames), f"it asked from {asked}"
