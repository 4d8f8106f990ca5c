"""JoinThread: what happens between the join itself and the reading of what is found there."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from bus_server.bus import Bus
from bus_server.errors import ThreadNotFound
from bus_server.settings import Settings
from bus_server.store import CreateThread, Entrance, Joined, JoinThread, RegisterAgent
from bus_server.store.interface import Store
from bus_server.store.sqlite.store import SqliteStore
from tests.own_bus import append, opened, running
from threadbus.v1.agent_pb2 import AGENT_KIND_AGENT, Agent
from threadbus.v1.thread_pb2 import Thread


def join(*, create: bool = False, from_first: bool = False) -> JoinThread:
    """The agent `coder` joins `design`, with all its messages for context."""
    return JoinThread(Thread(name="design"), create, "coder", from_first, 100, 1_000_000, 100)


class SlowReader:
    """A store that has joined somebody and reads what is found there only when it is told to."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.joined = asyncio.Event()
        self.goes_on = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def entrance(self, join: JoinThread, joined: Joined) -> Entrance | None:
        self.joined.set()
        await self.goes_on.wait()
        return await self._store.entrance(join, joined)


@contextlib.asynccontextmanager
async def joining(
    tmp_path: Path, asked: JoinThread
) -> AsyncIterator[tuple[Bus, "asyncio.Task[tuple[Joined, Entrance]]"]]:
    """A join of a thread of two messages: done, while what is found there is not read yet.

    It is read at the end of the block.
    """
    settings = Settings(db=tmp_path / "bus.db")
    async with opened(settings.db) as store:
        agent = RegisterAgent(Agent(name="coder", kind=AGENT_KIND_AGENT), b"hash", claim=False)
        thread = CreateThread(Thread(name="design", creator="first"))
        await store.commit([agent, thread, append("design", "1"), append("design", "2")])
        slow = SlowReader(store)
        async with running(cast(Store, slow), settings) as bus, asyncio.timeout(10):
            task = asyncio.create_task(bus.join_thread(asked))
            try:
                await slow.joined.wait()
                yield bus, task
                slow.goes_on.set()
                await asyncio.wait([task])
            finally:
                task.cancel()


def found(task: "asyncio.Task[tuple[Joined, Entrance]]") -> tuple[Any, ...]:
    """Whether it was created, by whom, where to go on from, the context and who takes part."""
    joined, entrance = task.result()
    context = [message.content for message in entrance.context]
    present = [participant.agent for participant in entrance.participants]
    return joined.created, entrance.thread.creator, joined.after_seq, context, present


async def test_the_context_ends_where_it_was_joined_whatever_was_posted_since(
    tmp_path: Path,
) -> None:
    async with joining(tmp_path, join()) as (bus, task):
        await bus.post(append("design", "3"))
        await bus.post(append("design", "4"))
    assert found(task) == (False, "first", 2, ["1", "2"], ["coder", "someone"])
    assert task.result()[1].thread.head_seq == 4


async def test_others_post_while_it_is_read(tmp_path: Path) -> None:
    async with joining(tmp_path, join()) as (bus, task):
        assert (await bus.post(append("design", "3"))).seq == 3
        assert not task.done()


async def test_a_thread_that_was_deleted_meanwhile_is_not_there(tmp_path: Path) -> None:
    async with joining(tmp_path, join()) as (bus, task):
        await bus.delete_thread("design")
    with pytest.raises(ThreadNotFound):
        task.result()


async def test_a_thread_that_was_deleted_meanwhile_is_created_if_that_was_asked_for(
    tmp_path: Path,
) -> None:
    async with joining(tmp_path, join(create=True)) as (bus, task):
        await bus.delete_thread("design")
    assert found(task) == (True, "", 0, [], ["coder"])


@pytest.mark.parametrize("from_first", [False, True])
async def test_of_a_thread_that_was_made_anew_meanwhile_nothing_is_the_old_ones(
    tmp_path: Path, from_first: bool
) -> None:
    async with joining(tmp_path, join(from_first=from_first)) as (bus, task):
        await bus.delete_thread("design")
        made = await bus.create_thread(Thread(name="design", creator="second"))
        await bus.post(append("design", "new"))
    after, context = (0, []) if from_first else (1, ["new"])
    assert found(task) == (False, "second", after, context, ["coder", "someone"])
    assert task.result()[1].thread.epoch == made.epoch
