"""What is left in the tables when the oldest entries of threads were removed."""

from pathlib import Path

from bus_server.store import AppendMany, ForgetAddressed, LeaveThread
from tests import own_bus
from tests.sqlite.stores import rows
from tests.store.commits import (
    LARGE,
    commit,
    compact,
    create,
    join,
    post,
    register,
    remove_before,
)
from threadbus.v1.message_pb2 import WAKE_ADDRESSED, WAKE_NOBODY, ExpectReply

#: The seqs that each table has of thread 1.
TABLES = {
    "message": "SELECT id & 0xffffffff FROM message WHERE id >> 32 = 1 ORDER BY 1",
    "entry": "SELECT id & 0xffffffff FROM entry WHERE id >> 32 = 1 ORDER BY 1",
    "request": "SELECT seq FROM request WHERE thread_id = 1 ORDER BY 1",
    "quiet": "SELECT seq FROM quiet WHERE thread_id = 1 ORDER BY 1",
    "addressed": "SELECT seq FROM addressed WHERE thread_id = 1 ORDER BY 1",
}

#: What another thread has.
OTHERS = (
    "SELECT * FROM message WHERE id >> 32 = 2",
    "SELECT * FROM request WHERE thread_id = 2",
    "SELECT * FROM quiet WHERE thread_id = 2",
    "SELECT * FROM thread WHERE id = 2",
)


def left(db: Path) -> dict[str, list[object]]:
    """Returns which seqs of thread 1 each table has."""
    return {table: [seq for (seq,) in rows(db, query)] for table, query in TABLES.items()}


async def test_nothing_is_left_of_removed_entries_but_one_number(tmp_path: Path) -> None:
    db = tmp_path / "bus.db"
    async with own_bus.opened(db) as store:
        await commit(store, *map(register, ("ann", "ben")), create(), join(), create("other"))
        await commit(store, *(post("other", request_id=f"r-{n}", wakes=WAKE_NOBODY) for n in "ab"))
        await commit(
            store,
            post(content=LARGE, request_id="r-1", mentions=["ben"]),
            post(edit_of=1, content="new", request_id="r-2"),
            post(wakes=WAKE_NOBODY, mentions=["ben"], request_id="r-3"),
            post(wakes=WAKE_ADDRESSED, mentions=["ben"], request_id="r-4"),
            post(content=LARGE, request_id="r-5"),
            post(wakes=WAKE_NOBODY, mentions=["ben"], request_id="r-6"),
            post(edit_of=5, content="new", request_id="r-7"),
        )
        assert left(db)["entry"] == [1, 5]
        others = {query: rows(db, query) for query in OTHERS}
        await remove_before(store, 6)
        assert left(db) == {
            "message": [6, 7],
            "entry": [],
            "request": [6, 7],
            "quiet": [4, 6],
            "addressed": [1, 3, 4, 6],
        }
        assert await commit(store, ForgetAddressed("t")) == [""]
        assert left(db)["addressed"] == [6]
        await commit(store, compact(1))
        assert await commit(store, ForgetAddressed("t")) == [""]
        assert left(db) == {table: [6] if table == "quiet" else [] for table in TABLES}
        assert {query: rows(db, query) for query in OTHERS} == others
        await commit(store, post(wakes=WAKE_NOBODY))
        numbers = rows(db, "SELECT seq, number FROM quiet WHERE thread_id = 1 ORDER BY seq")
        assert numbers == [(6, 3), (8, 4)]


async def test_whom_removed_entries_address_is_deleted_of_all_agents(tmp_path: Path) -> None:
    """Of more agents, and more rows of one, than a step looks at."""
    db = tmp_path / "bus.db"
    agents = [f"agent-{number:03}" for number in range(250)]
    async with own_bus.opened(db) as store:
        await commit(store, *map(register, ("ann", *agents)), create())
        await commit(store, AppendMany([post(mentions=agents[7:8]) for _ in range(600)]))
        await commit(store, post(mentions=agents), LeaveThread("t", agents[3]))
        await remove_before(store, 601)
        following, steps = "", 0
        while following or not steps:
            (following,) = await commit(store, ForgetAddressed("t", following))
            steps += 1
        assert left(db)["addressed"] == [601] * 250
        await commit(store, post())
        await remove_before(store, 602)
        following, steps = "", 0
        while following or not steps:
            (following,) = await commit(store, ForgetAddressed("t", following))
            steps += 1
        assert steps > 1
        assert left(db)["addressed"] == []


async def test_rows_of_requests_are_deleted_long_after_their_messages(tmp_path: Path) -> None:
    db, asked = tmp_path / "bus.db", "SELECT seq, state FROM asked"
    async with own_bus.opened(db) as store:
        await commit(store, *map(register, ("ann", "ben")), create())
        await commit(store, post(mentions=["ben"], expect_reply=ExpectReply(agents=["ben"])))
        await commit(store, post(), compact(0, 1))
        assert rows(db, asked) == [(1, 4)]
        await commit(store, AppendMany([post() for _ in range(1_001)]))
        await remove_before(store, 1_001)
        assert rows(db, asked) == [(1, 4)]
        await remove_before(store, 1_002)
        assert rows(db, asked) == []
