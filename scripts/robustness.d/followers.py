"""Readers that follow a thread to its end, and resume after each break where they were."""

import asyncio
import contextlib
from pathlib import Path

import grpc
from history import Follower

from bus_client import BusClient, BusError
from tests.connections import Connection
from threadbus.v1.bus_service_pb2 import WaitMessagesRequest, WaitResync
from threadbus.v1.message_pb2 import Cursor

#: How a wait may end when its server is killed, or stops for a while.
_LOST = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
#: Seconds before a wait that ended is opened again.
_PAUSE = 0.02


async def follow_raw(server: Connection, follower: Follower) -> None:
    """Follow with WaitMessages at one server, from the last cursor, until cancelled."""
    cursor = Cursor(thread=follower.thread)
    while True:
        try:
            async for frame in server.bus.WaitMessages(WaitMessagesRequest(threads=[cursor])):
                match frame.WhichOneof("frame"):
                    case "started":
                        follower.waits += 1
                    case "messages":
                        follower.received += [
                            (message.seq, message.content) for message in frame.messages.messages
                        ]
                        cursor = frame.messages.cursor
                    case "caught_up":
                        cursor = frame.caught_up.cursor
                    case "keepalive" if frame.keepalive.threads:
                        cursor = frame.keepalive.threads[0].cursor
                    case "ending":
                        cursor = frame.ending.threads[0].cursor
                    case "resync":
                        cursor = frame.resync.position.cursor
                        reason = WaitResync.Reason.Name(frame.resync.reason)
                        follower.problems.append(f"got a resync to {cursor.after_seq}: {reason}")
        except grpc.aio.AioRpcError as error:
            if error.code() not in _LOST:
                follower.problems.append(f"the wait ended with {error.code()}: {error.details()}")
        await asyncio.sleep(_PAUSE)


async def follow_by_sdk(address: str, home: Path, follower: Follower) -> None:
    """Follow with the SDK, until cancelled."""
    client = BusClient(address, agent="follower", credentials=home / "credentials.json")
    try:
        async with client as bus:
            thread = await bus.join(follower.thread, start="first")
            async with contextlib.aclosing(thread.follow(include_own=True)) as messages:
                async for message in messages:
                    follower.received.append((message.seq, message.content))
    except BusError as error:
        follower.problems.append(f"follow() ended with {error!r}")
