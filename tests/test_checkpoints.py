"""Checkpoints: large ones, and ones written while a read of the store is in progress."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any, TypeVar, cast

from bus_server.parts import Parts
from bus_server.presence.agent_state import Heartbeat
from bus_server.settings import Settings
from bus_server.store import CreateThread, JoinThread, RegisterAgent
from bus_server.store.interface import Store
from bus_server.store.sqlite.store import SqliteStore
from tests.own_bus import append, opened, started
from threadbus.v1.agent_pb2 import AGENT_KIND_AGENT, PRESENCE_OFFLINE, PRESENCE_UNSPECIFIED, Agent
from threadbus.v1.thread_pb2 import Thread

T = TypeVar("T")

JOIN = JoinThread(Thread(name="design"), False, "coder", False, 0, 0)


class SlowStore:
    """A store that holds back the first result of one query until it is released."""

    def __init__(self, store: SqliteStore, query: str) -> None:
        self._store = store
        self._query = query
        #: Set when the query has read the store.
        self.read = asyncio.Event()
        #: Set it to have the result returned.
        self.may_return = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return self._run if name == self._query else getattr(self._store, name)

    async def _run(self, *args: Any, **kwargs: Any) -> Any:
        result = await getattr(self._store, self._query)(*args, **kwargs)
        if not self.read.is_set():
            self.read.set()
            await self.may_return.wait()
        return result


@contextlib.asynccontextmanager
async def bus_where_coder_has_read(
    tmp_path: Path, query: str
) -> AsyncIterator[tuple[Parts, SlowStore]]:
    """A bus with an unsaved position: the agent `coder` has read `design` up to 1."""
    settings = Settings(db=tmp_path / "bus.db", checkpoint_interval=3_600)
    async with opened(settings.db) as store:
        agent = RegisterAgent(Agent(name="coder", kind=AGENT_KIND_AGENT), b"hash", operator=False)
        thread = CreateThread(Thread(name="design", creator="coder"))
        await store.commit([agent, thread, JOIN, append("design", "news")])
        slow = SlowStore(store, query)
        async with started(cast(Store, slow), settings) as parts:
            slow.may_return.set()
            read = [("design", 1, "", 0)]
            await parts.bus.heartbeat("coder", Heartbeat(PRESENCE_UNSPECIFIED, "", None, read))
            slow.may_return.clear()
            slow.read.clear()
            yield parts, slow


async def with_a_checkpoint(parts: Parts, slow: SlowStore, call: Awaitable[T]) -> T:
    """Returns the call's result when a checkpoint is written while its query is in progress."""
    running_call = asyncio.ensure_future(call)
    await slow.read.wait()
    await parts.bus.drain()  # writes a checkpoint
    slow.may_return.set()
    return await running_call


async def test_a_read_position_never_seems_to_fall(tmp_path: Path) -> None:
    async with bus_where_coder_has_read(tmp_path, "participants") as (parts, slow):
        call = parts.bus.participants("design", after="", limit=10)
        found, _ = await with_a_checkpoint(parts, slow, call)
        assert found.read_seq == 1


async def test_a_read_position_does_not_fall_for_a_caller_that_joins(tmp_path: Path) -> None:
    async with bus_where_coder_has_read(tmp_path, "entrance") as (parts, slow):
        call = parts.bus.join_thread(
            JoinThread(Thread(name="design"), False, None, False, 0, 0, 10)
        )
        _, entrance = await with_a_checkpoint(parts, slow, call)
        (found,) = [found for found in entrance.participants if found.agent == "coder"]
        assert found.read_seq == 1


async def test_read_messages_are_not_reported_as_unread(tmp_path: Path) -> None:
    async with bus_where_coder_has_read(tmp_path, "unread") as (parts, slow):
        beat = Heartbeat(PRESENCE_UNSPECIFIED, "", None, [])
        _, unread = await with_a_checkpoint(parts, slow, parts.bus.heartbeat("coder", beat))
        assert not unread


async def test_an_agent_that_ended_its_session_stays_offline(tmp_path: Path) -> None:
    async with bus_where_coder_has_read(tmp_path, "agent") as (parts, slow):
        await parts.agents.end_session("coder")
        found = await with_a_checkpoint(parts, slow, parts.agents.get("coder"))
        assert found.presence == PRESENCE_OFFLINE


async def test_the_state_of_many_agents_is_written_however_short_the_queue(
    tmp_path: Path,
) -> None:
    settings = Settings(db=tmp_path / "bus.db", max_queued_bytes=1_000)
    async with opened(settings.db) as store, started(store, settings) as parts:
        for number in range(100):
            parts.presence.seen(f"agent-{number}")
        await parts.bus.drain()
        assert len(await store.presence_rows(0)) == 100
