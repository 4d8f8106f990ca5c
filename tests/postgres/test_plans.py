"""Plans that are made while the tables are empty look up whole keys: they are kept."""

import re
from collections.abc import AsyncIterator

import pytest

from bus_server.store import (
    FIRST_REQUEST,
    AppendMany,
    Checkpoint,
    Compact,
    DeleteThread,
    ForgetAddressed,
    LeaveThread,
    Limits,
    Position,
    Purge,
    RemoveServers,
    RequestsWanted,
    RotateToken,
    SaveServer,
    UnregisterAgent,
    UpdateAgent,
    Withdraw,
)
from bus_server.store.postgres.connection import Connection
from bus_server.store.postgres.store import PostgresStore
from tests.postgres.stores import opened
from tests.store.commits import (
    STATES,
    commit,
    create,
    everything,
    join,
    post,
    register,
    set_state,
    sighting,
)
from threadbus.v1.agent_pb2 import PRESENCE_IDLE, Agent
from threadbus.v1.message_pb2 import WAKE_ADDRESSED, ExpectReply
from threadbus.v1.request_pb2 import REQUEST_STATE_OPEN

#: Tables with few rows, and those that are read as a whole.
_SCANNED = {"meta", "server", "writer", "purge", "presence", "token"}
#: Conditions that are not on a key, or on a row that was found by its key.
_FILTERS = (
    r"unregister_time",
    r"last_time",
    r"last_seq > ",
    r"first_seq <= ",
    r"agent IS NOT NULL",  # of the agents that were looked up one after the other
    r"seq <= n.upto",
    r"state <> 1",  # of the requests of entries that were removed
    r"last_seen_time",
    r"SubPlan|InitPlan",
    r"place|size",  # of the first rows of a thread
    r"seen_time|expire_time > ",  # when a store is opened
    r"name <> ",
    r"epoch = ",
    r"agent <> ALL",
    r"\^@",  # of the threads in which an agent participates
    r"id <> ",
    r"pg_backend_pid",
    r"state = ANY.*active_time",  # of the few threads that another filter has found
    r"state = s.state.*open_time",  # of the requests in a thread
)

_OPEN = [REQUEST_STATE_OPEN]
#: Lists of requests, each by another index.
_REQUESTS = (
    RequestsWanted(_OPEN),
    RequestsWanted(_OPEN, prefixes=["t"]),
    RequestsWanted(_OPEN, agent="ann"),
    RequestsWanted(_OPEN, asker="ann"),
    RequestsWanted(_OPEN, thread="t"),
)


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[PostgresStore]:
    async with opened(postgres_url) as store:
        yield store


async def plans(db: Connection) -> dict[str, list[str]]:
    """Returns the lines of the plan of each statement that a session has prepared."""
    asked = "SELECT name, statement, cardinality(parameter_types) FROM pg_prepared_statements"
    found: dict[str, list[str]] = {}
    for name, statement, count in (await db.run((asked, {})))[0]:
        if re.match(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)", statement):
            given = f"({', '.join(['NULL'] * count)})" if count else ""
            explained = await db._opened.execute(f"EXPLAIN (COSTS OFF) EXECUTE {name}{given}")
            found[statement] = [line for (line,) in await explained.fetchall()]
    return found


async def use(store: PostgresStore) -> None:
    """Run every statement of a store."""
    (thread, *_) = await commit(store, create(), register(), register("ben"), create("u"))
    await commit(store, post(request_id="a", mentions=["ben"]), post(edit_of=1), join("u"))
    await commit(store, AppendMany([post(edit_of=1)]), set_state("u"), LeaveThread("u", "ann"))
    await commit(store, post(sender="ben", reply_to=1, wakes=WAKE_ADDRESSED))
    asks = ExpectReply(agents=["ben"])
    (question,) = await commit(store, post(mentions=["ben"], expect_reply=asks))
    await commit(store, Withdraw("t", question.seq, "ann", operator=False))
    await store.unread("ann", 10, (), {"t": 1})
    positions = {("ann", "t"): Position(thread.epoch, 1, 1)}
    await commit(store, Checkpoint([sighting("ann", 1)], positions))
    await commit(store, RotateToken(b"ann", b"new", 1), UpdateAgent("ann", Agent(), ["labels"]))
    await commit(store, RotateToken(b"new", b"newer", store.clock.now() + 60_000_000))
    await commit(store, SaveServer("a", 1, {1: b"", 2: b""}), SaveServer("b", 1))
    await commit(store, SaveServer("a", 1, {}, [2]), RemoveServers(dict.fromkeys(["b"])))
    await commit(store, Compact("t", Limits(max_messages=1)), ForgetAddressed("t"))
    await store.kept(0, 10, every=True)
    await store.kept(0, 10, every=False)
    await store.sizes((await store.heads(["t"]))["t"].thread_id, 0, 10)
    await commit(store, DeleteThread("u"), Purge(), UnregisterAgent("ben"))
    await everything(store)
    await store.foreign_version()
    await store.similar(["T"])
    await store.participations("ann", ["t"])
    head = (await store.heads(["t"]))["t"]
    await store.excerpt("t", 0, 0, 10, 10, newest=True)
    await store.senders(head.thread_id, [1])
    await store.addressed("ann", head.thread_id, 0, 10, 10)
    for participant, prefix in (("ann", ""), ("", "t"), ("ann", "t")):
        await store.list_threads(STATES, prefix, participant, 10, None)
    for wanted in _REQUESTS:
        await store.requests(wanted, 10, FIRST_REQUEST)
    await store.presence_of(["ann"])
    asked = join()
    await store.entrance(asked, (await commit(store, asked))[0])
    await store.servers()
    await store.server_waits("a", set())
    await store.figures({"ann": PRESENCE_IDLE})
    await store.agent("ann")
    await store.expire_times([b"ann"])


async def test_every_statement_looks_up_whole_keys(store: PostgresStore) -> None:
    await use(store)
    writer = store._committer._connection
    assert writer is not None
    (reader,) = store._readers._idle
    found = await plans(writer) | await plans(reader)
    assert len(found) > 40
    slow = {
        f"{statement}\n{line.strip()}"
        for statement, lines in found.items()
        for line in lines
        if not _is_fast(line)
    }
    assert not slow, "\n\n".join(slow)


async def test_requests_are_found_by_the_index_of_their_filter(store: PostgresStore) -> None:
    for wanted in _REQUESTS:
        await store.requests(wanted, 10, FIRST_REQUEST)
    (reader,) = store._readers._idle
    indexes = [
        re.findall(r"using (asked_\w+)", "\n".join(lines))
        for statement, lines in (await plans(reader)).items()
        if "FROM asked" in statement
    ]
    expected = ["asked_agent", "asked_asker", "asked_pkey", "asked_state", "asked_state"]
    assert sorted(indexes) == [[index] for index in expected]


def _is_fast(line: str) -> bool:
    """Returns whether a line of a plan looks up keys, or filters what was found by its key."""
    if "Bitmap" in line:  # it reads all rows before it returns the first
        return False
    scanned = re.search(r"Seq Scan on (\w+)", line)
    if scanned is not None:
        return scanned[1] in _SCANNED
    what, is_filter, condition = line.strip().partition("Filter: ")
    if not is_filter or what in ("One-Time ", "Conflict "):
        return True
    return what == "" and re.search("|".join(_FILTERS), condition) is not None
