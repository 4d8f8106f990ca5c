"""Servers that violate the contract: clients must not deliver what they send."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from typing import Any

import grpc

from tests.conformance.removing import compacted
from tests.script import (
    THREAD,
    Failure,
    asked_from,
    batch,
    caught_up,
    cursor,
    ending,
    keepalive,
    last_batch,
    scripted,
    started,
)
from threadbus.v1.bus_service_pb2 import (
    GetServerInfoRequest,
    GetServerInfoResponse,
    MessageBatch,
    PostMessageRequest,
    PostMessageResponse,
    WaitEnding,
    WaitKeepalive,
    WaitMessagesRequest,
    WaitMessagesResponse,
    WaitResync,
    WaitStarted,
)
from threadbus.v1.message_pb2 import MESSAGE_KIND_CHAT, Cursor, Message
from threadbus.v1.thread_pb2 import ThreadPosition
from threadbus.v1.thread_service_pb2 import JoinThreadResponse

_BREAK = Failure(grpc.StatusCode.UNAVAILABLE)
_BUG = Failure(grpc.StatusCode.INTERNAL, "INTERNAL")
_DRAINING = WaitEnding.REASON_DRAINING
_ELSEWHERE = Cursor(thread="elsewhere", after_seq=2, epoch="epoch-1")
_ANOTHER_EPOCH = cursor(2, epoch="epoch-2")
_NEGATIVE = cursor(-1)
_TOO_LARGE = cursor(2**53)  # not exact in a double
_FOR_EVER = 10**9  # seconds; longer than any client should wait


class _Garbled(Failure):
    """A failure whose details cannot be parsed."""

    def trailers(self) -> tuple[tuple[str, bytes], ...]:
        return (("grpc-status-details-bin", b"\xff\xff"),)


def _frame(at: Cursor, *, thread: str = THREAD, seq: int = 2) -> WaitMessagesResponse:
    """Return a frame with one message, whose cursor is `at`."""
    message = Message(thread=thread, seq=seq, content="2", kind=MESSAGE_KIND_CHAT)
    return WaitMessagesResponse(messages=MessageBatch(cursor=at, messages=[message]))


def _positions(at: Cursor) -> list[WaitMessagesResponse]:
    """Return a frame of each kind that has a cursor and no message, with this cursor."""
    position = ThreadPosition(cursor=at)
    return [
        WaitMessagesResponse(caught_up=position),
        WaitMessagesResponse(keepalive=WaitKeepalive(threads=[position])),
        WaitMessagesResponse(ending=WaitEnding(reason=_DRAINING, threads=[position])),
    ]


#: One frame for each follow of the case `false-frames`; each must end with an error.
_FALSE_FRAMES = [
    _frame(_ELSEWHERE, thread="elsewhere"),
    _frame(_ELSEWHERE),
    _frame(cursor(2), thread="elsewhere"),
    _frame(_ANOTHER_EPOCH),
    _frame(_NEGATIVE),
    _frame(cursor(2), seq=0),
    _frame(cursor(2), seq=3),
    _frame(_TOO_LARGE, seq=2**53),
    batch(3, 2, upto=3),
    batch(2, 2),
    *_positions(_ELSEWHERE),
    *_positions(_ANOTHER_EPOCH),
    *_positions(_NEGATIVE),
    *_positions(_TOO_LARGE),
]


@contextlib.asynccontextmanager
async def repeating() -> AsyncIterator[str]:
    """Repeats messages, and sends cursors that go back."""
    async with scripted() as script:
        again = [batch(1, 2, 3), batch(1, 2, 3), batch(2, 3, 4, 5), batch(1, 2)]
        script.answer("WaitMessages", started(), *again, _BREAK)
        script.answer("WaitMessages", started(), caught_up(3), _BREAK)
        script.answer("WaitMessages", started(), keepalive(0), ending(_DRAINING, upto=1))
        script.answer("WaitMessages", *last_batch(5, 6))
        yield script.address
    assert asked_from(script) == [0, 5, 5, 5], f"it asked from {asked_from(script)}"


@contextlib.asynccontextmanager
async def false_frames() -> AsyncIterator[str]:
    """Sends each follow a frame of another thread or epoch, or with a number below 0."""
    async with scripted() as script:
        for frame in _FALSE_FRAMES:
            script.answer("WaitMessages", started(), batch(1), frame, asyncio.Event())
        resync = WaitResync(
            reason=WaitResync.REASON_EPOCH_CHANGED,
            requested=cursor(0),
            position=ThreadPosition(cursor=_ELSEWHERE),
        )
        script.answer(
            "WaitMessages", started(), WaitMessagesResponse(resync=resync), asyncio.Event()
        )
        yield script.address
    asked = asked_from(script)
    assert asked == [0] * (len(_FALSE_FRAMES) + 1), f"it asked from {asked}"


@contextlib.asynccontextmanager
async def leaving_out() -> AsyncIterator[str]:
    """Leaves seqs out: removed ones, first with a resync and then without one, then others."""
    kept = ThreadPosition(cursor=cursor(0), head_seq=6, first_seq=5)
    async with scripted() as script:
        some = WaitMessagesResponse(started=WaitStarted(threads=[kept]))
        script.answer("WaitMessages", some, compacted(cursor(0), cursor(4)), *last_batch(5, 6)[1:])
        script.answer("WaitMessages", some, batch(5, 6), asyncio.Event())
        script.answer("WaitMessages", started(), batch(1), batch(3), asyncio.Event())
        script.answer("WaitMessages", started(), batch(1), batch(2, upto=3), asyncio.Event())
        script.answer("WaitMessages", started(), batch(1), caught_up(2), asyncio.Event())
        yield script.address
    assert asked_from(script) == [0] * 5, f"it asked from {asked_from(script)}"


@contextlib.asynccontextmanager
async def false_answers() -> AsyncIterator[str]:
    """Returns a cursor of another thread to a join, no seq to posts, and invalid details."""
    async with scripted() as script:
        script.answer("JoinThread", JoinThreadResponse(cursor=_ELSEWHERE))
        script.answer("PostMessage", PostMessageResponse())
        script.answer("PostMessage", _Garbled(grpc.StatusCode.NOT_FOUND))
        yield script.address
    assert len(script.asked(PostMessageRequest)) == 2


@contextlib.asynccontextmanager
async def never_moving() -> AsyncIterator[str]:
    """Ends each wait without progress, until the last, which has a message."""
    tomorrow = WaitEnding.Reason.ValueType(77)
    async with scripted() as script:
        script.answer("WaitMessages", started(), _BREAK)
        script.answer("WaitMessages", started(), WaitMessagesResponse(keepalive=WaitKeepalive()))
        script.answer("WaitMessages", started(), keepalive(0), _BREAK)
        script.answer("WaitMessages", started(), ending(tomorrow, upto=0, retry_delay=-5.0))
        script.answer("WaitMessages", started(), caught_up(0), _BREAK)
        script.answer("WaitMessages", started(), Failure(grpc.StatusCode.INTERNAL))
        script.answer("WaitMessages", *last_batch(1))
        yield script.address
    pauses = _pauses(script.requests)
    least = [0.025 * 2**failures for failures in range(6)]
    early = [pause < shortest for pause, shortest in zip(pauses, least, strict=True)]
    assert not any(early), f"it came again after {pauses}"


@contextlib.asynccontextmanager
async def odd_intervals() -> AsyncIterator[str]:
    """Grants invalid keepalive intervals, and sends messages after a moment."""
    async with scripted() as script:
        moments: list[asyncio.Event] = []
        for number, seconds in enumerate([None, 0, -3, 1e-9, 10_000 * 365 * 86400], 1):
            granted = WaitStarted()
            if seconds is not None:
                granted.keepalive_interval.FromNanoseconds(int(seconds * 1e9))
            moments.append(asyncio.Event())
            script.answer(
                "WaitMessages",
                WaitMessagesResponse(started=granted),
                moments[-1],
                batch(number),
                _BREAK,
            )
        script.answer("WaitMessages", *last_batch(len(moments) + 1))

        async def tick() -> None:
            for number, moment in enumerate(moments, 1):
                while len(script.asked(WaitMessagesRequest)) < number:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.2)
                moment.set()

        ticking = asyncio.create_task(tick())
        try:
            yield script.address
        finally:
            ticking.cancel()
    assert asked_from(script) == [0, 1, 2, 3, 4, 5], f"it asked from {asked_from(script)}"


@contextlib.asynccontextmanager
async def failing() -> AsyncIterator[str]:
    """Fails each wait from 0 on; requests an endless retry_delay of one from 5 on."""
    failed: list[float] = []
    delayed: list[float] = []
    loop = asyncio.get_running_loop()

    async def wait(request: WaitMessagesRequest, context: Any) -> None:
        await context.write(started())
        if request.threads[0].after_seq < 5:
            failed.append(loop.time())
            await context.abort(grpc.StatusCode.INTERNAL, "a bug", _BUG.trailers())
        delayed.append(loop.time())
        if len(delayed) == 1:
            await context.write(ending(_DRAINING, upto=5, retry_delay=_FOR_EVER))
        else:
            for frame in last_batch(6)[1:]:
                await context.write(frame)

    async with _server_of(wait) as address:
        yield address
    assert len(delayed) == 2
    assert 50 < delayed[1] - delayed[0] < 75, f"it came again after {delayed[1] - delayed[0]:.1f} s"
    assert 50 < failed[-1] - failed[0] < 75, f"it gave up after {failed[-1] - failed[0]:.1f} s"
    assert len(failed) < 90, f"it came {len(failed)} times"


@contextlib.asynccontextmanager
async def garbled() -> AsyncIterator[str]:
    """Sends a name that is not UTF-8, then bytes that cannot be parsed."""
    frames = [batch(2).SerializeToString().replace(b"someone", b"some\xffne"), b"\xff\xff"]
    asked = []

    async def wait(request: WaitMessagesRequest, context: Any) -> None:
        asked.append(request)
        await context.write(started())
        await context.write(batch(1))
        await context.write(frames[len(asked) - 1])
        await asyncio.Event().wait()

    async with _server_of(wait) as address:
        yield address
    assert len(asked) == len(frames), f"it asked {len(asked)} times"


@contextlib.asynccontextmanager
async def _server_of(wait: Any) -> AsyncIterator[str]:
    """Yield the address of a server with this WaitMessages."""

    async def info(_: GetServerInfoRequest, __: Any) -> GetServerInfoResponse:
        return GetServerInfoResponse(agent="anonymous")

    def serialized(frame: WaitMessagesResponse | bytes) -> bytes:
        return frame if isinstance(frame, bytes) else frame.SerializeToString()

    waits: Any = grpc.unary_stream_rpc_method_handler(
        wait, WaitMessagesRequest.FromString, serialized
    )
    infos: Any = grpc.unary_unary_rpc_method_handler(
        info, GetServerInfoRequest.FromString, GetServerInfoResponse.SerializeToString
    )
    methods = {"WaitMessages": waits, "GetServerInfo": infos}
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("threadbus.v1.BusService", methods)]
    )
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield address
    finally:
        await server.stop(None)


def _pauses(requests: list[tuple[float, Any]]) -> list[float]:
    times = [time for time, request in requests if isinstance(request, WaitMessagesRequest)]
    return [after - before for before, after in itertools.pairwise(times)]
