"""Servers that play a part which no real one can be brought to play."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from tests.newer_server import LAST_SEQ, newer_server, serving_waits
from tests.wait_frames import seconds
from threadbus.v1.bus_service_pb2 import (
    MessageBatch,
    WaitEnding,
    WaitMessagesRequest,
    WaitMessagesResponse,
    WaitStarted,
)
from threadbus.v1.message_pb2 import MESSAGE_KIND_CHAT, Cursor, Message

Script = Callable[[], AbstractAsyncContextManager[str]]


@contextlib.asynccontextmanager
async def _newer() -> AsyncIterator[str]:
    async with newer_server() as server:
        yield server.address
    asked = [(cursor.after_seq, cursor.epoch) for cursor in server.asked]
    went_on = (LAST_SEQ - 1, "tomorrow")
    assert asked == [(0, ""), went_on, went_on], f"it asked from {asked}"


@contextlib.asynccontextmanager
async def _silent() -> AsyncIterator[str]:
    """Grants half a second between frames; its first wait brings a message, then nothing more."""
    asked: list[int] = []

    async def wait(request: WaitMessagesRequest, context: Any) -> None:
        asked.append(request.threads[0].after_seq)
        started = WaitStarted(keepalive_interval=seconds(0.5))
        await context.write(WaitMessagesResponse(started=started))
        seq = len(asked)
        cursor = Cursor(thread=request.threads[0].thread, after_seq=seq, epoch="e")
        content = "before" if seq == 1 else "after"
        message = Message(thread=cursor.thread, seq=seq, content=content, kind=MESSAGE_KIND_CHAT)
        batch = MessageBatch(cursor=cursor, messages=[message])
        await context.write(WaitMessagesResponse(messages=batch))
        if seq == 1:
            await asyncio.Event().wait()
        assert asked == [0, 1], "it went on after the last message"
        ending = WaitEnding(reason=WaitEnding.REASON_THREADS_CLOSED)
        await context.write(WaitMessagesResponse(ending=ending))

    async with serving_waits(wait) as address:
        yield address


#: The address of each, by name.
SCRIPTS: dict[str, Script] = {"newer": _newer, "silent": _silent}
