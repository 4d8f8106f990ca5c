"""Scripted servers that behave as no real one can be made to, and check the requests."""

import asyncio
import contextlib
import dataclasses
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import grpc
from google.protobuf.message import Message as AnyMessage

from tests.conformance.asking import newer_notices, newer_state
from tests.conformance.contract import METHODS, UNARY, repeatable
from tests.conformance.inboxes import (
    all_threads,
    false_inbox,
    many_threads,
    removing_in_threads,
    sizeless,
)
from tests.conformance.lying import (
    failing,
    false_answers,
    false_frames,
    garbled,
    leaving_out,
    never_moving,
    odd_intervals,
    repeating,
)
from tests.conformance.proxy import proxy
from tests.conformance.removing import removing, removing_falsely
from tests.newer_server import LAST_SEQ, newer_server
from tests.script import (
    THREAD,
    Failure,
    Script,
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
from threadbus.v1.agent_service_pb2 import RotateTokenResponse
from threadbus.v1.bus_service_pb2 import (
    GetMessageResponse,
    PostMessageRequest,
    PostMessageResponse,
    WaitEnding,
    WaitMessagesRequest,
    WaitMessagesResponse,
    WaitStarted,
)
from threadbus.v1.message_pb2 import Message
from threadbus.v1.thread_pb2 import Thread, ThreadPosition
from threadbus.v1.thread_service_pb2 import GetThreadResponse, JoinThreadResponse

Server = Callable[[], AbstractAsyncContextManager[str]]

#: That of the case `traceparent-retries`.
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

_INTERVAL = 0.5  # seconds between two frames
_BREAK = Failure(grpc.StatusCode.UNAVAILABLE)
_DELAY = 0.4  # seconds; a requested retry_delay
_EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
_BUSY = Failure(grpc.StatusCode.UNAVAILABLE, "STORE_BUSY", retry_delay=_DELAY)
_LIMITED = Failure(_EXHAUSTED, "RATE_LIMITED", {"limit": "60"}, retry_delay=_DELAY)
_LONG_LIMITED = dataclasses.replace(_LIMITED, retry_delay=30.0)
_DAMAGED = Failure(grpc.StatusCode.UNAVAILABLE, "STORE_FAILED")
_BUG = Failure(grpc.StatusCode.INTERNAL, "INTERNAL", metadata={"incident": "7"})


@contextlib.asynccontextmanager
async def _newer() -> AsyncIterator[str]:
    async with newer_server() as server:
        yield server.address
    asked = [(cursor.after_seq, cursor.epoch) for cursor in server.asked]
    went_on = (LAST_SEQ - 1, "tomorrow")
    assert asked == [(0, ""), went_on, went_on], f"it asked from {asked}"


@contextlib.asynccontextmanager
async def _silent() -> AsyncIterator[str]:
    """Sends frames in time for a while, then nothing more."""
    async with scripted() as script:
        pauses = [asyncio.Event() for _ in range(4)]
        frames = [step for pause in pauses for step in (pause, keepalive(1))]
        first = [started(keepalive=_INTERVAL), batch(1), *frames, asyncio.Event()]
        script.answer("WaitMessages", *first)
        script.answer("WaitMessages", *last_batch(2))
        loop, last = asyncio.get_running_loop(), [0.0]

        async def beat() -> None:
            while not script.asked(WaitMessagesRequest):  # noqa: ASYNC110 - no event says so
                await asyncio.sleep(0.01)
            for pause in pauses:
                await asyncio.sleep(_INTERVAL)
                pause.set()
                last[0] = loop.time()

        beating = asyncio.create_task(beat())
        try:
            yield script.address
        finally:
            beating.cancel()
    assert asked_from(script) == [0, 1], f"it asked from {asked_from(script)}"
    waited = _times(script, WaitMessagesRequest)[1] - last[0]
    assert 2 * _INTERVAL < waited < 5, f"it came again {waited:.2f} s after the last frame"


@contextlib.asynccontextmanager
async def _breaking() -> AsyncIterator[str]:
    """Breaks each wait after another kind of frame."""
    far = WaitStarted(threads=[ThreadPosition(cursor=cursor(900))])
    far.keepalive_interval.FromSeconds(45)
    drained = ending(WaitEnding.REASON_DRAINING, upto=9, retry_delay=_DELAY)
    async with scripted() as script:
        script.answer("WaitMessages", WaitMessagesResponse(started=far), _BREAK)
        script.answer("WaitMessages", started(), caught_up(3), _BREAK)
        script.answer("WaitMessages", started(), keepalive(5), _BREAK)
        script.answer("WaitMessages", started(), batch(6, 7, upto=8), _BREAK)
        script.answer("WaitMessages", started(), drained)
        script.answer("WaitMessages", _BUSY)
        script.answer("WaitMessages", _DAMAGED)
        script.answer("WaitMessages", _BUG)
        script.answer("WaitMessages", *last_batch(10))
        yield script.address
    asked = asked_from(script)
    assert asked == [0, 0, 3, 5, 8, 9, 9, 9, 9], f"it asked from {asked}"
    times = _times(script, WaitMessagesRequest)
    pauses = [after - before for before, after in itertools.pairwise(times)]
    shortest = [0.02, 0.02, 0.02, 0.02, _DELAY, _DELAY, 0.02, 0.02]
    early = [pause < least for pause, least in zip(pauses, shortest, strict=True)]
    assert not any(early), f"it came again after {pauses}"


@contextlib.asynccontextmanager
async def _refusing() -> AsyncIterator[str]:
    """Refuses the first post twice with UNAVAILABLE, and the second with INTERNAL."""
    async with scripted() as script:
        script.answer("PostMessage", _BUSY)
        script.answer("PostMessage", _DAMAGED)
        script.answer("PostMessage", PostMessageResponse(seq=1))
        script.answer("PostMessage", _BUG)
        yield script.address
    posts = script.asked(PostMessageRequest)
    assert [post.content for post in posts] == ["one", "one", "one", "two"]
    assert posts[0].request_id == posts[1].request_id == posts[2].request_id != ""
    first, second, *_ = _times(script, PostMessageRequest)
    assert second - first >= _DELAY, f"it came again after {second - first:.2f} s"


@contextlib.asynccontextmanager
async def _limiting() -> AsyncIterator[str]:
    """Refuses posts with RATE_LIMITED: the second for longer than its client waits.

    The response to the third is lost before that.
    """
    async with scripted() as script:
        script.answer("PostMessage", _LIMITED)
        script.answer("PostMessage", PostMessageResponse(thread=THREAD, seq=1))
        script.answer("PostMessage", _LONG_LIMITED)
        script.answer("PostMessage", _BREAK)
        script.answer("PostMessage", _LONG_LIMITED)
        yield script.address
    posts = script.asked(PostMessageRequest)
    assert [post.content for post in posts] == ["one", "one", "two", "three", "three"]
    assert posts[0].request_id == posts[1].request_id != ""
    first, again, second, third, _ = _times(script, PostMessageRequest)
    assert again - first >= _DELAY, f"it came again after {again - first:.2f} s"
    assert third - second < 4, "the error did not come at once"


@contextlib.asynccontextmanager
async def _traced() -> AsyncIterator[str]:
    """Loses the response to the first attempt of the first post, and refuses the second."""
    async with scripted() as script:
        script.answer("PostMessage", _BREAK)
        script.answer("PostMessage", _DAMAGED)
        script.answer("PostMessage", PostMessageResponse(thread=THREAD, seq=1))
        script.answer("PostMessage", PostMessageResponse(thread=THREAD, seq=2))
        yield script.address
    traces = script.traceparents(PostMessageRequest)
    assert traces == [TRACEPARENT] * 3 + [""], f"it sent {traces}"


@contextlib.asynccontextmanager
async def _losing() -> AsyncIterator[str]:
    """Loses the response to every other call of a method, beginning with the first."""
    answers: dict[str, AnyMessage] = {
        "GetMessage": GetMessageResponse(message=Message(thread=THREAD, seq=1)),
        "GetThread": GetThreadResponse(thread=Thread(name=THREAD)),
        "JoinThread": JoinThreadResponse(cursor=cursor(0)),
        "PostMessage": PostMessageResponse(thread=THREAD, seq=1),
        "RotateToken": RotateTokenResponse(token="t" * 32),
    }
    async with scripted() as script:
        for name in UNARY:
            for _ in range(4):  # the Python clients call GetServerInfo on their own, too
                script.answer(name, _BREAK)
                script.answer(name, answers.get(name) or METHODS[name].response_type())
        yield script.address
    asked = Counter(type(request) for _, request in script.requests)
    for name in UNARY:
        rpc = METHODS[name]
        count = asked[rpc.request_type]
        if repeatable(rpc):
            assert count > 0 == count % 2, f"{name} was called {count} times, not again each time"
        else:
            assert count == 1, f"{name} was called {count} times, though it is not repeatable"


@contextlib.asynccontextmanager
async def _losing_post() -> AsyncIterator[str]:
    """Loses the response to a post, which must have no request_id."""
    async with scripted() as script:
        script.answer("PostMessage", _BREAK)
        script.answer("PostMessage", PostMessageResponse(seq=1))
        yield script.address
    posts = script.asked(PostMessageRequest)
    assert [post.request_id for post in posts] == [""], "it was posted again"


def _times(script: Script, kind: type) -> list[float]:
    return [time for time, request in script.requests if isinstance(request, kind)]


#: The scripted servers by name; each yields its address. Most have one thread, `scripted`.
SCRIPTS: dict[str, Server] = {
    "newer": _newer,
    "silent": _silent,
    "breaking": _breaking,
    "refusing": _refusing,
    "limiting": _limiting,
    "traced": _traced,
    "losing": _losing,
    "losing post": _losing_post,
    "repeating": repeating,
    "false frames": false_frames,
    "leaving out": leaving_out,
    "false answers": false_answers,
    "garbled": garbled,
    "never moving": never_moving,
    "odd intervals": odd_intervals,
    "failing": failing,
    "removing": removing,
    "removing falsely": removing_falsely,
    "proxy": proxy,
    "all threads": all_threads,
    "many threads": many_threads,
    "removing in threads": removing_in_threads,
    "false inbox": false_inbox,
    "sizeless": sizeless,
    "newer notices": newer_notices,
    "newer state": newer_state,
}
