"""Sends calls with gRPC's client, and records how they ended."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
from calls import PATIENCE, Call
from google.rpc import error_details_pb2, status_pb2

#: The default options of a client: responses must be within its limits.
CHANNEL_OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0))

#: The client's error for a call that ended before its request was written. The server did not send
#: it, and the call is repeated.
NEVER_SENT = ("internal", "Internal error from Core")
_ATTEMPTS = 5


@dataclass(slots=True)
class Ending:
    """The end of a call."""

    code: grpc.StatusCode
    message: str = ""
    #: The reason in its google.rpc details, or empty.
    reason: str = ""
    responses: list[bytes] = field(default_factory=list)
    #: Whether the call did not end although its deadline had passed long before.
    hung: bool = False
    seconds: float = 0.0


def describe(error: grpc.aio.AioRpcError) -> str:
    """Returns a description of the error of a call that should have succeeded."""
    return f"{error.code().name} {error.details()}"


async def send(channel: grpc.aio.Channel, call: Call) -> Ending:
    """Make a call and wait for its end."""
    began = time.monotonic()
    for _ in range(_ATTEMPTS):
        ending = await _attempt(channel, call)
        if ending.code is not grpc.StatusCode.INTERNAL or ending.message not in NEVER_SENT:
            break
    ending.seconds = time.monotonic() - began
    return ending


async def _attempt(channel: grpc.aio.Channel, call: Call) -> Ending:
    ending = Ending(grpc.StatusCode.OK)
    running: list[Any] = []
    canceller: asyncio.TimerHandle | None = None
    try:
        async with asyncio.timeout(call.timeout + PATIENCE):
            running.append(_open(channel, call))
            if call.cancel_after is not None:
                loop = asyncio.get_running_loop()
                canceller = loop.call_later(call.cancel_after, running[0].cancel)
            await _receive(call, running[0], ending)
    except grpc.aio.AioRpcError as error:
        ending.code, ending.message = error.code(), error.details() or ""
        ending.reason = _reason(error)
    except asyncio.CancelledError:
        current = asyncio.current_task()
        if current is not None and current.cancelling():
            raise
        ending.code = grpc.StatusCode.CANCELLED  # by `canceller`
    except TimeoutError:
        ending.hung = True
    except Exception as error:  # noqa: BLE001 - an error in the client is a finding, too
        ending.code, ending.message = grpc.StatusCode.UNKNOWN, f"the client raised {error!r}"
    finally:
        if canceller is not None:
            canceller.cancel()
        for opened in running:
            opened.cancel()
    return ending


def _open(channel: grpc.aio.Channel, call: Call) -> Any:
    options: dict[str, Any] = {
        "metadata": call.metadata,
        "timeout": call.timeout,
        "compression": grpc.Compression.Gzip if call.gzip else None,
    }
    path = call.method.path
    if call.streamed:
        both: Any = channel.stream_stream(path)
        return both(_requests(call), **options)
    one: Any = channel.unary_stream if call.method.server_streaming else channel.unary_unary
    return one(path)(call.requests[0], **options)


async def _requests(call: Call) -> AsyncIterator[bytes]:
    for request in call.requests:
        yield request
    if not call.half_close:
        # Longer than the call: its end cancels this.
        await asyncio.sleep(call.timeout + PATIENCE)


async def _receive(call: Call, running: Any, ending: Ending) -> None:
    if call.streamed or call.method.server_streaming:
        async for response in running:
            ending.responses.append(response)
    else:
        ending.responses.append(await running)
    with contextlib.suppress(grpc.aio.UsageError):
        ending.code = await running.code()


def _reason(error: grpc.aio.AioRpcError) -> str:
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            info = error_details_pb2.ErrorInfo()
            for detail in status_pb2.Status.FromString(value).details:
                if detail.Unpack(info) and info.domain == "threadbus":
                    return info.reason
    return ""
