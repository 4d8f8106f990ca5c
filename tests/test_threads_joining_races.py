"""JoinThread: what happens between the join itself and the read of the context."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from bus_server.bus import Bus
from bus_server.errors import ThreadNotFound
from bus_server.settings import Settings
from bus_server.store import CreateThread, DeleteThread, Entrance, Joined, JoinThread, RegisterAgent
from bus_server.store.interface import Store
from bus_server.store.sqlite.store import SqliteStore
from tests.own_bus import append, opened, running
from threadbus.v1.agent_pb2 import AGENT_KIND_AGENT, Agent
from threadbus.v1.thread_pb2 import Thread


def join(*, create: bool = False, from_first: bool = False) -> JoinThread:
    """Returns the command by which `coder` joins `design`, with all its messages as context."""
    return JoinThread(Thread(name="design"), create, "coder", from_first, 100, 1_000_000, 100)


class SlowReader:
    """A store that pauses between joining and reading the entrance, until `proceed` is set."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.joined = asyncio.Event()
        self.proceed = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def entrance(self, join: JoinThread, joined: Joined) -> Entrance | None:
        self.joined.set()
        await self.proceed.wait()
        return await self._store.entrance(join, joined)


@contextlib.asynccontextmanager
async def joining(
    tmp_path: Path, asked: JoinThread
) -> AsyncIterator[tuple[Bus, "asyncio.Task[tuple[Joined, Entrance]]"]]:
    """A join of a thread with two messages that has happened, but not yet read its entrance.

    It is read at the end of the block.
    """
    settings = Settings(db=tmp_path / "bus.db")
    async with opened(settings.db) as store:
        agent = RegisterAgent(Agent(name="coder", kind=AGENT_KIND_AGENT), b"hash", operator=False)
        thread = CreateThread(Thread(name="design", creator="first"))
        await store.commit([agent, thread, append("design", "1"), append("design", "2")])
        slow = SlowReader(store)
        async with running(cast(Store, slow), settings) as bus, asyncio.timeout(10):
            task = asyncio.create_task(bus.join_thread(asked))
            try:
                await slow.joined.wait()
                yield bus, task
                slow.proceed.set()
                await asyncio.wait([task])
            finally:
                task.cancel()


def found(task: "asyncio.Task[tuple[Joined, Entrance]]") -> tuple[Any, ...]:
    """Returns whether it was created, by whom, where to resume, the context, the participants."""
    joined, entrance = task.result()
    context = [message.content for message in entrance.context]
    present = [participant.agent for participant in entrance.participants]
    return joined.created, entrance.thread.creator, joined.after_seq, context, present


async def test_the_context_ends_at_the_head_at_the_join_whatever_was_posted_since(
    tmp_path: Path,
) -> None:
    async with joining(tmp_path, join()) as (bus, task):
        await bus.post(append("design", "3"))
        await bus.post(append("design", "4"))
    assert found(task) == (False, "first", 2, ["1", "2"], ["coder", "someone"])
    assert task.result()[1].thread.head_seq == 4


async def test_others_can_post_while_the_entrance_is_read(tmp_path: Path) -> None:
    async with joining(tmp_path, join()) as (bus, task):
        assert (await bus.post(append("design", "3"))).seq == 3
        assert not task.done()


async def test_joining_a_thread_deleted_during_the_read_returns_not_found(tmp_path: Path) -> None:
    async with joining(tmp_path, join()) as (bus, task):
        await bus.delete_thread(DeleteThread("design"))
    with pytest.raises(ThreadNotFound):
        task.result()


async def test_joining_a_thread_deleted_during_the_read_creates_it_if_asked_to(
    tmp_path: Path,
) -> None:
    async with joining(tmp_path, join(create=True)) as (bus, task):
        await bus.delete_thread(DeleteThread("design"))
    assert found(task) == (True, "", 0, [], ["coder"])


@pytest.mark.parametrize("from_first", [False, True])
async def test_a_thread_recreated_during_the_read_shows_nothing_of_the_old_one(
    tmp_path: Path, from_first: bool
) -> None:
    async with joining(tmp_path, join(from_first=from_first)) as (bus, task):
        await bus.delete_thread(DeleteThread("design"))
        made = await bus.create_thread(Thread(name="design", creator="second"))
        await bus.post(append("design", "new"))
    after, context = (0, []) if from_first else (1, ["new"])
    assert found(task) == (False, "second", after, context, ["coder", "someone"])
    assert task.result()[1].thread.epoch == made.epoch
