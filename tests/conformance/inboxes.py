"""Scripted servers for waits on all threads of an agent."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import grpc

from tests.conformance.removing import compacted
from tests.script import EPOCH, Failure, Script, batch, scripted, started
from threadbus.v1.bus_service_pb2 import (
    MessageBatch,
    ThreadRemoved,
    WaitEnding,
    WaitKeepalive,
    WaitMessagesRequest,
    WaitMessagesResponse,
    WaitStarted,
)
from threadbus.v1.message_pb2 import MESSAGE_KIND_CHAT, Cursor, Message
from threadbus.v1.thread_pb2 import ThreadPosition

_BREAK = Failure(grpc.StatusCode.UNAVAILABLE)
#: A frame with a field that no version has yet.
_UNKNOWN = b"\xfa\x3e\x01x"
_ENDED = WaitMessagesResponse(ending=WaitEnding(reason=WaitEnding.REASON_SESSION_ENDED))
_CAUGHT_UP = WaitMessagesResponse(caught_up=ThreadPosition())
#: Maximum number of cursors in a request.
_MOST = 1000


def _at(thread: str, seq: int, *, hidden: int = 0, epoch: str = EPOCH) -> Cursor:
    return Cursor(thread=thread, after_seq=seq, epoch=epoch, hidden_seq=hidden)


def _batch(at: Cursor, *seqs: int, thread: str = "") -> WaitMessagesResponse:
    """Return a frame of messages, whose cursor is `at`. `thread`: theirs, if it is another one."""
    messages = [
        Message(thread=thread or at.thread, seq=seq, content=str(seq), kind=MESSAGE_KIND_CHAT)
        for seq in seqs
    ]
    return WaitMessagesResponse(messages=MessageBatch(cursor=at, messages=messages))


def _keepalive(*cursors: Cursor) -> WaitMessagesResponse:
    threads = [ThreadPosition(cursor=at) for at in cursors]
    return WaitMessagesResponse(keepalive=WaitKeepalive(threads=threads))


def _added(at: Cursor) -> WaitMessagesResponse:
    return WaitMessagesResponse(thread_added=ThreadPosition(cursor=at))


def _removed(thread: str) -> WaitMessagesResponse:
    return WaitMessagesResponse(thread_removed=ThreadRemoved(thread=thread))


def _sent(script: Script) -> list[dict[str, tuple[int, int, str]]]:
    """Return the cursors of each wait by thread: after_seq, hidden_seq and epoch."""
    requests = script.asked(WaitMessagesRequest)
    assert all(request.all_my_threads for request in requests)
    return [
        {at.thread: (at.after_seq, at.hidden_seq, at.epoch) for at in request.threads}
        for request in requests
    ]


@contextlib.asynccontextmanager
async def all_threads() -> AsyncIterator[str]:
    """Adds, moves and removes threads, breaks the wait, and repeats messages."""
    async with scripted() as script:
        script.answer(
            "WaitMessages",
            started(),
            _batch(_at("first", 2), 1, 2),
            _added(_at("second", 3)),
            _UNKNOWN,
            _batch(_at("second", 4), 4),
            _added(_at("fourth", 8)),
            _batch(_at("third", 7, hidden=7), 6),
            _CAUGHT_UP,
            _keepalive(_at("first", 4, hidden=3)),
            _removed("third"),
            _removed("never known"),
            _BREAK,
        )
        again = [_at("first", 4, hidden=3), _at("second", 4), _at("fourth", 8)]
        threads = [ThreadPosition(cursor=at) for at in again]
        script.answer(
            "WaitMessages",
            WaitMessagesResponse(started=WaitStarted(threads=threads)),
            _batch(_at("first", 5, hidden=3), 2, 4, 5),
            _batch(_at("second", 5), 4, 5),
            _ENDED,
        )
        yield script.address
    moved = {"first": (4, 3, EPOCH), "second": (4, 0, EPOCH), "fourth": (8, 0, EPOCH)}
    assert _sent(script) == [{}, moved], f"it asked with {_sent(script)}"


@contextlib.asynccontextmanager
async def many_threads() -> AsyncIterator[str]:
    """Moves the cursors of more threads than a request may name."""
    async with scripted() as script:
        cursors = [_at(f"thread-{number}", 3) for number in range(_MOST + 1)]
        script.answer(
            "WaitMessages", started(), _batch(cursors[0], 3), _keepalive(*cursors[1:]), _BREAK
        )
        script.answer(
            "WaitMessages",
            started(),
            compacted(_at("thread-0", 0), _at("thread-0", 2)),  # where the server starts on its own
            _batch(cursors[0], 3),
            _batch(_at("thread-1", 4), 4),
            _ENDED,
        )
        yield script.address
    first, second = _sent(script)
    expected = {at.thread: (3, 0, EPOCH) for at in cursors[1:]}
    assert (first, second) == ({}, expected), f"it asked with {len(second)} cursors"


@contextlib.asynccontextmanager
async def removing_in_threads() -> AsyncIterator[str]:
    """Removes entries in threads of an open wait, and before a thread that is not known yet."""
    async with scripted() as script:
        script.answer(
            "WaitMessages",
            started(),
            _added(_at("first", 1)),
            _batch(_at("first", 2), 2),
            compacted(_at("first", 2), _at("first", 7)),
            _batch(_at("first", 8), 7, 8),
            compacted(_at("second", 3), _at("second", 5)),
            _batch(_at("second", 7), 6),
            # A filter hid 9 and 10.
            compacted(_at("first", 10), _at("first", 11)),
            _BREAK,
        )
        script.answer("WaitMessages", started(), _batch(_at("first", 12), 11, 12), _ENDED)
        yield script.address
    moved = {"first": (11, 0, EPOCH), "second": (7, 0, EPOCH)}
    assert _sent(script) == [{}, moved], f"it asked with {_sent(script)}"


_FALSE_FRAMES = [
    _batch(_at("first", 3), 3, thread="second"),
    _batch(_at("first", 3, epoch="epoch-2"), 3),
    _batch(_at("first", 4), 4, 3),
    _batch(_at("second", 3), 4),
    _keepalive(_at("second", 1), _at("first", -1)),
    _added(_at("second", 2**53)),
    compacted(_at("first", 1), _at("first", 7)),
    compacted(_at("first", 2), _at("first", 1)),
    compacted(_at("first", 2), _at("first", 6), 8),
    compacted(_at("second", 5), _at("second", 5)),
    compacted(_at("second", 2), _at("first", 7)),
]


@contextlib.asynccontextmanager
async def false_inbox() -> AsyncIterator[str]:
    """Sends each inbox a frame that breaks the contract, in one of several threads."""
    async with scripted() as script:
        for frame in _FALSE_FRAMES:
            good = [_added(_at("first", 1)), _batch(_at("first", 2), 2)]
            script.answer("WaitMessages", started(), *good, frame, asyncio.Event())
        yield script.address
    assert _sent(script) == [{}] * len(_FALSE_FRAMES), f"it asked with {_sent(script)}"


@contextlib.asynccontextmanager
async def sizeless() -> AsyncIterator[str]:
    """Does not know the sizes of messages, nor limits of them."""
    async with scripted() as script:
        script.answer("WaitMessages", started(), batch(1), _ENDED)
        yield script.address
