"""Checkpoints: large ones, and those written while the store's older word is on its way."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any, TypeVar, cast

from bus_server.bus import Bus
from bus_server.presence.agent_state import Heartbeat
from bus_server.settings import Settings
from bus_server.store import CreateThread, JoinThread, RegisterAgent
from bus_server.store.interface import Store
from bus_server.store.sqlite import SqliteStore
from tests.own_bus import append, opened, running
from threadbus.v1.agent_pb2 import AGENT_KIND_AGENT, PRESENCE_OFFLINE, PRESENCE_UNSPECIFIED, Agent
from threadbus.v1.thread_pb2 import Thread

T = TypeVar("T")

JOIN = JoinThread(Thread(name="design"), False, "coder", False, 0, 0)


class SlowRoad:
    """A store at the end of a road on which the first answer of one kind stays for a while."""

    def __init__(self, store: SqliteStore, kind: str) -> None:
        self._store = store
        self._kind = kind
        self.on_its_way = asyncio.Event()
        self.arrives = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return self._ask if name == self._kind else getattr(self._store, name)

    async def _ask(self, *args: Any, **kwargs: Any) -> Any:
        answer = await getattr(self._store, self._kind)(*args, **kwargs)
        if not self.on_its_way.is_set():
            self.on_its_way.set()
            await self.arrives.wait()
        return answer


@contextlib.asynccontextmanager
async def bus_where_coder_has_read(
    tmp_path: Path, road: str
) -> AsyncIterator[tuple[Bus, SlowRoad]]:
    """A bus that has not written yet that the agent `coder` has read `design` up to 1."""
    settings = Settings(db=tmp_path / "bus.db", checkpoint_interval=3_600)
    async with opened(settings.db) as store:
        agent = RegisterAgent(Agent(name="coder", kind=AGENT_KIND_AGENT), b"hash", claim=False)
        thread = CreateThread(Thread(name="design", creator="coder"))
        await store.commit([agent, thread, JOIN, append("design", "news")])
        slow = SlowRoad(store, road)
        async with running(cast(Store, slow), settings) as bus:
            slow.arrives.set()
            read = [("design", 1, "")]
            await bus.heartbeat("coder", Heartbeat(PRESENCE_UNSPECIFIED, "", None, read))
            slow.arrives.clear()
            slow.on_its_way.clear()
            yield bus, slow


async def with_a_checkpoint_meanwhile(bus: Bus, slow: SlowRoad, asked: Awaitable[T]) -> T:
    """What is answered, when a checkpoint is written before the store's answer arrives."""
    asking = asyncio.ensure_future(asked)
    await slow.on_its_way.wait()
    await bus.drain()  # writes what the agent has read
    slow.arrives.set()
    return await asking


async def test_what_an_agent_has_read_never_seems_to_fall(tmp_path: Path) -> None:
    async with bus_where_coder_has_read(tmp_path, "participants") as (bus, slow):
        asked = bus.participants("design", after="", limit=10)
        found, _ = await with_a_checkpoint_meanwhile(bus, slow, asked)
        assert found.read_seq == 1


async def test_nor_does_it_to_one_who_joins(tmp_path: Path) -> None:
    async with bus_where_coder_has_read(tmp_path, "entrance") as (bus, slow):
        asked = bus.join_thread(JoinThread(Thread(name="design"), False, None, False, 0, 0, 10))
        _, entrance = await with_a_checkpoint_meanwhile(bus, slow, asked)
        (found,) = [found for found in entrance.participants if found.agent == "coder"]
        assert found.read_seq == 1


async def test_what_an_agent_has_read_is_not_called_unread(tmp_path: Path) -> None:
    async with bus_where_coder_has_read(tmp_path, "unread") as (bus, slow):
        beat = Heartbeat(PRESENCE_UNSPECIFIED, "", None, [])
        _, unread = await with_a_checkpoint_meanwhile(bus, slow, bus.heartbeat("coder", beat))
        assert not unread


async def test_an_agent_that_said_goodbye_stays_gone(tmp_path: Path) -> None:
    async with bus_where_coder_has_read(tmp_path, "agent") as (bus, slow):
        await bus.agents.end_session("coder")
        found = await with_a_checkpoint_meanwhile(bus, slow, bus.agents.get("coder"))
        assert found.presence == PRESENCE_OFFLINE


async def test_what_is_known_of_a_crowd_is_written_however_little_may_be_queued(
    tmp_path: Path,
) -> None:
    settings = Settings(db=tmp_path / "bus.db", max_queued_bytes=1_000)
    async with opened(settings.db) as store, running(store, settings) as bus:
        for number in range(100):
            bus.presence.seen(f"agent-{number}")
        await bus.drain()
        assert len(await store.sightings(0)) == 100
