"""Two servers on a store, and what each knows of the waits at the other one."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from tests.callers import Caller, operator
from tests.connections import Connection
from tests.participation import participants
from tests.peek import peek
from tests.peers import Peer
from tests.polling import until_known
from tests.serving import AdminStub, ServerProcess
from tests.wait_frames import Frames
from threadbus.v1.admin_service_pb2 import ListWaitsRequest, Wait
from threadbus.v1.admin_service_pb2_grpc import AdminServiceStub

Servers = tuple[ServerProcess, ServerProcess]

#: So that agents lapse within a second, and no test needs the fallback.
HASTY = (
    *("--checkpoint-interval", "0.05", "--heartbeat-interval", "0.5", "--agent-timeout", "1"),
    *("--fallback-interval", "3600"),
)


@contextlib.contextmanager
def pair(db: Path, *flags: str) -> Iterator[Servers]:
    """Two servers on one store."""
    with ServerProcess(db, *flags) as here, ServerProcess(db, *flags) as there:
        yield here, there


def caller_of(agent: Peer) -> Caller:
    """Returns the caller of a registered agent."""
    assert agent.caller is not None
    return agent.caller


def admin(client: Connection) -> AdminStub:
    return AdminServiceStub(client.channel)


async def waits(client: Connection, server: ServerProcess, **fields: str) -> list[Wait]:
    """Returns the waits that a server lists."""
    request = ListWaitsRequest(page_size=1_000, **fields)
    answer = await admin(client).ListWaits(request, metadata=operator(server).metadata)
    assert not answer.next_page_token
    return list(answer.waits)


async def has_waits(client: Connection, server: ServerProcess, count: int, thread: str) -> bool:
    return len(await waits(client, server, thread=thread)) == count


async def until_waiting(client: Connection, thread: str, agent: str, count: int = 1) -> None:
    """Return once a participant has this many waits open."""

    async def has() -> bool:
        found = (await participants(client.threads, thread))[agent]
        assert found.waiting == (found.wait_count > 0)
        return found.wait_count == count

    await until_known(has)


def stored(db: Path, table: str) -> int:
    """Returns the number of rows of a table."""
    ((count,),) = peek(db, f"SELECT count(*) FROM {table}")  # noqa: S608
    return int(count)


@contextlib.asynccontextmanager
async def open_wait(peer: Peer, thread: str) -> AsyncIterator[Frames]:
    """A wait that has caught up."""
    async with peer.wait(thread) as frames:
        await frames.until("caught_up")
        yield frames
