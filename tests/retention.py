"""Threads with a retention, and what they have lost of it."""

from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from tests.peers import Peer
from tests.polling import until_known
from tests.serving import BusStub, ThreadStub
from threadbus.v1.bus_service_pb2 import (
    PostMessageRequest,
    PostMessagesRequest,
)
from threadbus.v1.thread_pb2 import Retention, Thread
from threadbus.v1.thread_service_pb2 import (
    CreateThreadRequest,
    GetThreadRequest,
    UpdateThreadRequest,
)

#: Number of messages that are posted at once.
BATCH = 500
#: Keeps nothing.
NOTHING = Retention(max_age=Duration(nanos=1))
#: Keeps everything, whatever the server's defaults are.
EVERYTHING = Retention()


async def create(
    threads: ThreadStub, name: str, retention: Retention | None = None, by: Peer | None = None
) -> Thread:
    """Create a thread."""
    request = CreateThreadRequest(thread=name, retention=retention)
    answer = await threads.CreateThread(request, metadata=by.metadata if by else ())
    return answer.thread


async def retain(threads: ThreadStub, name: str, by: Peer | None = None, **limits: Any) -> Thread:
    """Replace the retention of a thread; without limits by one that keeps everything."""
    return await set_retention(threads, name, Retention(**limits), by)


async def set_retention(
    threads: ThreadStub, name: str, retention: Retention | None, by: Peer | None = None
) -> Thread:
    """Replace the retention of a thread. None: by the server's default."""
    mask = FieldMask(paths=["retention"])
    request = UpdateThreadRequest(thread=name, retention=retention, update_mask=mask)
    answer = await threads.UpdateThread(request, metadata=by.metadata if by else ())
    return answer.thread


async def post(bus: BusStub, thread: str, count: int, content: str = "x") -> None:
    """Post messages, in batches."""
    one = PostMessageRequest(thread=thread, content=content)
    batches = [
        PostMessagesRequest(posts=[one] * min(BATCH, count - at)) for at in range(0, count, BATCH)
    ]
    async for answer in bus.PostMessages(iter(batches)):
        assert all(result.HasField("response") for result in answer.results)


async def read(threads: ThreadStub, name: str) -> Thread:
    """Returns a thread."""
    return (await threads.GetThread(GetThreadRequest(thread=name))).thread


async def until_first(threads: ThreadStub, name: str, seq: int, *, within: float = 20.0) -> Thread:
    """Returns a thread once its oldest entry is `seq`. Fails if more is removed."""
    found = Thread()

    async def known() -> bool:
        nonlocal found
        found = await read(threads, name)
        assert found.first_seq <= seq
        return found.first_seq == seq

    await until_known(known, within=within)
    return found


async def shorten(bus: BusStub, threads: ThreadStub, name: str, *, first: int, head: int) -> Thread:
    """Create a thread with entries up to `head`, and returns it once it begins at `first`."""
    await create(threads, name, Retention(max_messages=head - first + 1))
    await post(bus, name, head)
    return await until_first(threads, name, first)
