"""A wait on all threads of an agent learns late of a thread whose oldest entries are gone."""

import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.clocks import MINUTES, WallClock
from tests.conftest import StartServer
from tests.connections import connected
from tests.participation import join
from tests.peek import peek
from tests.peers import Peer, registered
from tests.polling import until, until_known
from tests.serving import ServerProcess
from tests.wait_frames import seconds
from threadbus.v1.bus_service_pb2 import WaitResync
from threadbus.v1.thread_pb2 import Retention
from threadbus.v1.thread_service_pb2 import (
    JOIN_START_FIRST,
    CreateThreadRequest,
    GetThreadRequest,
)

FLAGS = ("--fallback-interval", "0.2", "--checkpoint-interval", "0.05")


def _has(db: Path, count: int) -> bool:
    return peek(db, "SELECT count(*) FROM server") == [(count,)]


async def start_two(start: Callable[[], ServerProcess], db: Path) -> list[ServerProcess]:
    """Starts two servers on a store, and returns them by name: the first one removes entries."""
    servers: dict[str, ServerProcess] = {}
    for count in (1, 2):
        server = start()
        await until(partial(_has, db, count))
        for (name,) in peek(db, "SELECT name FROM server"):
            servers.setdefault(name, server)
    return [server for _, server in sorted(servers.items())]


@pytest.mark.slow
@pytest.mark.sqlite
async def test_a_thread_is_added_where_the_resync_that_follows_begins(
    start_server: StartServer, tmp_path: Path, name: str
) -> None:
    wall = WallClock(tmp_path)
    there, here = await start_two(
        lambda: start_server(*FLAGS, environment=wall.environment), tmp_path / "bus.db"
    )
    async with connected(here.address) as first, connected(there.address) as second:
        agent = await registered(first.agents, first.bus, "me")
        request = CreateThreadRequest(thread=name, retention=Retention(max_age=seconds(MINUTES)))
        await first.threads.CreateThread(request)
        await Peer(first.bus).post_all(name, *"123")

        async def removed() -> bool:
            found = (await second.threads.GetThread(GetThreadRequest(thread=name))).thread
            return found.first_seq == 4

        async with agent.wait(all_my_threads=True) as frames:
            await frames.until("caught_up")
            here.signal(signal.SIGSTOP)
            try:
                await join(second.threads, name, agent, start=JOIN_START_FIRST)
                wall.set(2 * MINUTES)
                await until_known(removed)
            finally:
                here.signal(signal.SIGCONT)
            await Peer(second.bus).post(name, "4")
            added = (await frames.until("thread_added")).thread_added
            resync = (await frames.until("resync")).resync
            assert resync.reason == WaitResync.REASON_COMPACTED
            assert (added.cursor.after_seq, added.cursor) == (0, resync.requested)
            assert (resync.position.cursor.after_seq, resync.position.first_seq) == (3, 4)
            assert [message.seq for message in await frames.messages(1)] == [4]
