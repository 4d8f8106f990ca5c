"""Waits on all threads of an agent: commits at the wrong moment, and reads that are not made."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from bus_server.filter import Filter
from bus_server.memberships import Memberships, MyThreads
from bus_server.settings import Settings
from bus_server.store.sqlite.store import SqliteStore
from bus_server.waits import WaitRequest
from tests.own_bus import following, opened, running
from tests.polling import until
from tests.store.commits import commit, create, join, post, register
from threadbus.v1.bus_service_pb2 import WaitMessagesResponse
from threadbus.v1.message_pb2 import Message, MessageFilter

#: Without polls, which would find what was missed.
SETTINGS = Settings(fallback_interval=0, checkpoint_interval=3_600)


def all_of(agent: str, wanted: MessageFilter | None = None) -> WaitRequest:
    return WaitRequest(
        starts=(),
        filter=Filter(wanted or MessageFilter(), agent),
        max_messages=0,
        min_messages=0,
        count_all=False,
        max_wait=None,
        time_remaining=None,
        keepalive_interval=300,
        agent=agent,
        all_my_threads=True,
    )


class Received:
    """What a wait was sent."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.kinds: list[str | None] = []

    async def take(self, frame: WaitMessagesResponse) -> None:
        self.kinds.append(frame.WhichOneof("frame"))
        self.messages += frame.messages.messages

    def has(self, *contents: str) -> bool:
        return sorted(message.content for message in self.messages) == sorted(contents)


async def prepared(store: SqliteStore) -> None:
    """Registers two agents, of which `me` takes part in thread a."""
    await commit(store, register("me"), register("other"), create("a"), create("b"))
    await commit(store, join("a", "me"))


async def test_nothing_is_missed_while_its_threads_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path / "bus.db") as store, running(store, SETTINGS) as bus:
        await prepared(store)
        read, reads = store.memberships, 0

        async def memberships(*args: Any) -> Any:
            nonlocal reads
            found = await read(*args)
            reads += 1
            if reads == 1:  # it has read thread a as it was, and not b
                await bus.post(post("a", "other", "one"))
                await bus.post(post("b", "other", "two", mentions=["me"]))
            return found

        monkeypatch.setattr(store, "memberships", memberships)
        received = Received()
        async with following(bus, all_of("me"), received.take):
            await until(lambda: received.has("one", "two"))


async def test_entries_for_others_do_not_reach_the_loop_of_an_inbox(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path / "bus.db") as store, running(store, SETTINGS) as bus:
        await prepared(store)
        read, looked = store.addressed, 0

        async def addressed(*args: Any) -> Any:
            nonlocal looked
            looked += 1
            return await read(*args)

        monkeypatch.setattr(store, "addressed", addressed)
        received = Received()
        inbox = all_of("me", MessageFilter(addressed_to_me=True))
        async with following(bus, inbox, received.take):
            await until(lambda: "caught_up" in received.kinds)
            for number in range(20):
                await bus.post(post("a", "other", f"{number}"))
            await bus.post(post("a", "other", "for me", mentions=["me"]))
            await until(lambda: received.has("for me"))
            await asyncio.sleep(0)
        assert looked == 1


@pytest.mark.parametrize("addressed", [False, True])
async def test_a_look_does_not_undo_what_was_committed_during_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, addressed: bool
) -> None:
    async def notify() -> None:
        pass

    async with opened(tmp_path / "bus.db") as store:
        await prepared(store)
        await commit(store, post("a", "other", "one", mentions=["me"]))
        memberships = Memberships(store)
        mine = MyThreads("me", (), notify, addressed=addressed, hides=addressed)
        memberships.add(mine)
        memberships.place(mine, "a", (1, (await store.heads(["a"]))["a"].epoch, 0))
        memberships.loaded(mine)
        read = store.members

        async def members(*args: Any) -> Any:
            found = await read(*args)
            for thread in ("a", "b"):
                done = await store.commit([post(thread, "other", "two", mentions=["me"])])
                await memberships.committed(done)
            return found

        monkeypatch.setattr(store, "members", members)
        await memberships.look(["a", "b"])
        assert mine.changed["a"].seq == 2
        assert mine.places.keys() == {"a", "b"}
        assert [name for name, head in mine.moves if head is not None] == ["b"]
        assert len(mine.moves) == 1
