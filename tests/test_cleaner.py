"""The cleaner removes what is over a limit, whatever is posted meanwhile."""

import asyncio
import contextlib
import sqlite3
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration

from bus_server import cleaner
from bus_server.cleaner import default_limits
from bus_server.settings import Settings
from bus_server.store import Append, Kept, UpdateThread
from bus_server.store.sqlite.store import SqliteStore
from tests import own_bus
from tests.polling import until_known
from tests.sqlite.stores import rows
from tests.store.commits import commit, compact, create, post, register
from threadbus.v1.message_pb2 import Message
from threadbus.v1.thread_pb2 import Retention, Thread

LARGE = "x" * 1_000


class Racing(SqliteStore):
    """A store that commits posts as soon as the entries before them were counted."""

    #: What it has still to commit.
    posts: list[Append]

    async def sizes(self, thread_id: int, after: int, limit: int) -> tuple[int, int]:
        found = await super().sizes(thread_id, after, limit)
        posts, self.posts = self.posts, []
        if posts:
            await self.commit(posts)
        return found


def test_a_default_age_of_less_than_a_microsecond_is_a_limit() -> None:
    for seconds, age in ((0.0, 0), (1e-7, 1), (0.5, 500_000), (2_592_000.0, 2_592_000_000_000)):
        assert default_limits(Settings(retain_age=seconds)) == (age, 0, 0)


@pytest.mark.slow
async def test_entries_that_go_before_they_were_counted_are_not_counted_later(
    tmp_path: Path,
) -> None:
    limit = 10_000
    both = Retention(max_age=Duration(nanos=1), max_bytes=limit)
    store = await Racing.open(tmp_path / "bus.db", full_durability=False, busy_timeout=5)
    assert isinstance(store, Racing)
    store.posts = [post(content=LARGE) for _ in range(40)]
    try:
        await commit(store, create(retention=both), post())
        async with own_bus.started(store, Settings(db=tmp_path / "bus.db")) as parts:

            async def is_empty() -> bool:
                head = (await store.heads(["t"]))["t"]
                return (head.first_seq, head.seq) == (42, 41)

            await until_known(is_empty)
            settings = Thread(retention=Retention(max_bytes=limit))
            update = UpdateThread("t", Message(sender="operator"), settings, ["retention"])
            await commit(store, update, *(post(content=LARGE) for _ in range(30)))
            parts.cleaner.look_soon()
            thread_id = (await store.heads(["t"]))["t"].thread_id

            async def is_small() -> bool:
                return (await store.sizes(thread_id, 0, 100))[1] <= limit

            await until_known(is_small)
    finally:
        await store.close()


@pytest.mark.slow
async def test_entries_of_another_history_are_counted_again(tmp_path: Path) -> None:
    db, limit = tmp_path / "bus.db", 10_000
    async with own_bus.opened(db) as store:
        large = Retention(max_bytes=limit)
        await commit(
            store, create(retention=large), create("u", retention=Retention(max_messages=1))
        )
        await commit(store, *(post(content=LARGE) for _ in range(9)))
        async with own_bus.started(store, Settings(db=db)) as parts:

            async def look() -> None:
                """Wait until the cleaner has looked at thread t, then at u, which is later."""
                for _ in range(2):  # the first look may have been at u already
                    await commit(store, post("u"), post("u"))
                    parts.cleaner.look_soon()
                    await until_known(is_short)

            async def is_short() -> bool:
                head = (await store.heads(["u"]))["u"]
                return head.first_seq == head.seq

            await look()
            _lose(db, upto=1)
            await commit(store, *(post(content="small") for _ in range(8)))
            await commit(store, post(content=LARGE), post(content=LARGE))
            await look()
            head = (await store.heads(["t"]))["t"]
            assert (head.first_seq, head.seq) == (1, 11)
            await commit(store, *(post(content=LARGE) for _ in range(8)))
            parts.cleaner.look_soon()

            async def is_small() -> bool:
                return (await store.sizes(head.thread_id, 0, 100))[1] <= limit

            await until_known(is_small)


class Watched(SqliteStore):
    """A store that says when it was first asked what threads keep."""

    looked: asyncio.Event

    async def kept(self, after: int, limit: int, *, every: bool) -> list[Kept]:
        found = await super().kept(after, limit, every=every)
        self.looked.set()
        return found


@pytest.mark.parametrize("own", [False, True])
async def test_the_first_thread_with_limits_is_found(tmp_path: Path, own: bool) -> None:
    db = tmp_path / "bus.db"
    settings = Settings(db=db, retain_messages=0 if own else 1, fallback_interval=0)
    store = await Watched.open(db, full_durability=False, busy_timeout=5)
    assert isinstance(store, Watched)
    store.looked = asyncio.Event()
    try:
        async with own_bus.started(store, settings) as on:
            await store.looked.wait()  # and has found none
            await asyncio.sleep(0)
            await on.writer.submit(create(retention=Retention(max_messages=1) if own else None))
            await asyncio.gather(*(on.writer.submit(post()) for _ in range(3)))

            async def is_short() -> bool:
                head = (await store.heads(["t"]))["t"]
                return (head.first_seq, head.seq) == (3, 3)

            await until_known(is_short)
    finally:
        await store.close()


async def test_an_entry_goes_when_it_gets_too_old_though_nothing_else_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleaner, "PAUSE", 0.01)
    db = tmp_path / "bus.db"
    half_a_second = Retention(max_age=Duration(nanos=500_000_000))
    async with (
        own_bus.opened(db) as store,
        own_bus.started(store, Settings(db=db, fallback_interval=0)) as parts,
    ):
        await parts.writer.submit(create(retention=half_a_second))
        await parts.writer.submit(post())

        async def is_empty() -> bool:
            head = (await store.heads(["t"]))["t"]
            return (head.first_seq, head.seq) == (2, 1)

        await until_known(is_empty)


async def test_whom_removed_entries_address_is_forgotten_after_a_restart(tmp_path: Path) -> None:
    db = tmp_path / "bus.db"
    async with own_bus.opened(db) as store:
        await commit(store, *map(register, ("ann", "ben")))
        await commit(store, create(retention=Retention(max_messages=1)))
        await commit(store, *(post(mentions=["ben"]) for _ in range(3)))
        await commit(store, compact(0, 1))  # and no more: the server was killed
        assert _addressed(db) == [1, 2, 3]
        async with own_bus.started(store, Settings(db=db)):

            async def is_forgotten() -> bool:
                return _addressed(db) == [3]

            await until_known(is_forgotten)


def _addressed(db: Path) -> list[object]:
    return [seq for (seq,) in rows(db, "SELECT seq FROM addressed ORDER BY seq")]


def _lose(db: Path, *, upto: int) -> None:
    """Lose the entries after a seq, as a database may that fails over. The epoch is another."""
    with contextlib.closing(sqlite3.connect(db)) as other, other:
        ((thread_id,),) = other.execute("SELECT id FROM thread WHERE name = 't'")
        bounds = thread_id << 32 | upto, thread_id << 32 | 0xFFFFFFFF
        other.execute("DELETE FROM message WHERE id > ? AND id <= ?", bounds)
        other.execute("UPDATE thread SET epoch = 'another' WHERE id = ?", (thread_id,))
