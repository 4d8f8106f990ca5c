"""A file of an older version is upgraded when a server opens it, and loses nothing."""

import asyncio
import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bus_server.store.post_hash import post_hash
from bus_server.store.sqlite.file import APPLICATION_ID
from bus_server.store.sqlite.order import BACK
from tests.callers import Caller, operator_token_file
from tests.conftest import StartServer
from tests.connections import connected
from tests.locks import locked
from tests.peers import Peer
from tests.polling import until_known
from tests.presence import beat, state
from tests.refusals import refused
from tests.refused_start import refused_start
from tests.serving import AdminStub, ServerProcess
from threadbus.v1.admin_service_pb2 import ListTokensRequest, RevokeTokenRequest
from threadbus.v1.admin_service_pb2_grpc import AdminServiceStub
from threadbus.v1.agent_pb2 import AGENT_KIND_HUMAN, Agent
from threadbus.v1.agent_service_pb2 import (
    GetAgentRequest,
    ListAgentsRequest,
    RegisterAgentRequest,
)
from threadbus.v1.message_pb2 import (
    MESSAGE_KIND_CHAT,
    MESSAGE_KIND_EDIT,
    PRIORITY_NORMAL,
    Message,
)
from threadbus.v1.thread_pb2 import (
    SYNC_MODE_OFF,
    SYNC_MODE_STRICT,
    THREAD_STATE_CLOSED,
    Retention,
    Thread,
)
from threadbus.v1.thread_service_pb2 import (
    CreateThreadRequest,
    GetThreadRequest,
    JoinThreadRequest,
    ListThreadsRequest,
    UpdateThreadRequest,
)

#: The versions in which threads and agents have a column for each setting, and all.
OLDER, VERSIONS = (1, 2, 3, 4, 5), (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)
#: Values that the upgrade must keep exactly.
TEXT, LABELS = "a \0 → 😀 '\"; x", {"a": "b, c=d", "naïve": "\0😀"}
AGENT = Caller("coder", "a-token-that-is-long-enough-to-be-one")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A database of version 1."""
    return make_old(tmp_path / "bus.db", 1)


def make_old(db: Path, version: int) -> Path:
    """Create a database of a version: a thread with two messages; an agent has read the first."""
    schema = Path(__file__).with_name(f"schema-{version}.sql").read_text("utf-8")
    with contextlib.closing(sqlite3.connect(db, isolation_level=None)) as opened:
        opened.executescript(schema)
        opened.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        opened.execute(f"PRAGMA user_version = {version}")
        opened.execute("PRAGMA journal_mode = WAL").fetchall()
        opened.execute("INSERT INTO store VALUES ('store-epoch')")
        thread(opened, 1, "design", create_time=5, entry_times=(1, 2))
        opened.execute(
            "INSERT INTO participant (thread_id, agent, read_seq, join_time)"
            " VALUES (1, 'coder', 1, 7)"
        )
        if version >= 6:
            opened.execute("INSERT INTO agent VALUES ('coder', 1, 0, x'')")
        else:
            opened.execute(
                "INSERT INTO agent (name, kind, display_name, description, labels, create_time)"
                " VALUES ('coder', 1, '', 'writes', '{}', 6)"
            )
        row: dict[str, object] = {"agent": "coder", "create_time": 6}
        row["hash"] = hashlib.sha256(AGENT.token.encode()).digest()
        if version >= 8:
            row |= {"id": "id", "scopes": "post read", "prefixes": ""}
            row |= {"expire_time": 0, "end_time": 0}
        names, values = ", ".join(row), ", ".join(f":{key}" for key in row)
        opened.execute(f"INSERT INTO token ({names}) VALUES ({values})", row)  # noqa: S608
    return db


def thread(
    db: sqlite3.Connection, number: int, name: str, create_time: int, entry_times: Sequence[int]
) -> None:
    """Insert a thread and its messages: "one", "two", …"""
    if version_of(db) >= 6:
        body = Thread(topic="topic", creator="coder")
        body.create_time.FromMicroseconds(create_time)
        db.execute(
            "INSERT INTO thread VALUES (?, ?, 'e1', 1, 1, 0, ?)",
            (number, name, body.SerializeToString()),
        )
    else:
        db.execute(
            "INSERT INTO thread (id, name, epoch, state, topic, labels, creator, create_time)"
            " VALUES (?, ?, 'e1', 1, 'topic', '{}', 'coder', ?)",
            (number, name, create_time),
        )
    contents = ("one", "two", "three")
    for seq, (content, time) in enumerate(zip(contents, entry_times, strict=False), start=1):
        message = Message(
            thread=name,
            seq=seq,
            sender="coder",
            content=content,
            kind=MESSAGE_KIND_CHAT,
            priority=PRIORITY_NORMAL,
            request_id=f"id-{content}",
        )
        insert(db, number, time, message)
    if version_of(db) >= 3:
        active_time = ([create_time, *entry_times])[-1]
        db.execute("UPDATE thread SET active_time = ? WHERE id = ?", (active_time, number))


def version_of(db: sqlite3.Connection) -> int:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    return int(version)


def insert(db: sqlite3.Connection, number: int, time: int, body: Message) -> None:
    """Insert a message into the thread with this id."""
    row = (number << 32 | body.seq, time, body.sender, body.SerializeToString())
    db.execute("INSERT INTO message (id, time, sender, body) VALUES (?, ?, ?, ?)", row)
    if body.request_id:
        request = (number, body.sender, body.request_id, body.seq)
        db.execute(
            "INSERT INTO request (thread_id, sender, request_id, seq) VALUES (?, ?, ?, ?)", request
        )
        if version_of(db) >= 6:
            hashed = (post_hash(body), body.request_id)
            db.execute("UPDATE request SET post_hash = ? WHERE request_id = ?", hashed)


def columns(db: Path) -> dict[str, set[tuple[object, ...]]]:
    """Returns name, type, NOT NULL, default and key of each table's columns, and the indexes."""
    with contextlib.closing(sqlite3.connect(db)) as opened:
        tables = [
            name
            for (name,) in opened.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        shape: dict[str, set[tuple[object, ...]]] = {
            table: {row[1:] for row in opened.execute(f"PRAGMA table_info({table})")}
            for table in tables
        }
        shape["indexes"] = set(
            opened.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index'")
        )
        return shape


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
async def test_an_upgraded_file_keeps_its_contents_and_takes_new_posts(
    start_server: StartServer, tmp_path: Path, version: int
) -> None:
    server = start_server(db=make_old(tmp_path / "bus.db", version))
    async with connected(server.address) as client:
        found = (await client.threads.GetThread(GetThreadRequest(thread="design"))).thread
        assert (found.topic, found.head_seq, found.epoch) == ("topic", 2, "e1")
        assert (found.stage, found.sync_mode) == ("", SYNC_MODE_OFF)
        assert (found.first_seq, found.HasField("retention")) == (1, False)
        messages = await Peer(client.bus).read("design")
        assert [message.content for message in messages] == ["one", "two"]
        request = JoinThreadRequest(thread="design")
        joined = await client.threads.JoinThread(request, metadata=AGENT.metadata)
        assert joined.cursor.after_seq == 1
        await beat(client.bus, AGENT, status_text="back")
        assert await state(client.agents, "coder") == "IDLE"
        edited = await Peer(client.bus, AGENT).post("design", "ONE", edit_of=1)
        assert edited.seq == 3


@pytest.mark.slow
@pytest.mark.parametrize("version", OLDER)
async def test_the_settings_of_threads_and_agents_survive_an_upgrade(
    start_server: StartServer, tmp_path: Path, version: int
) -> None:
    db, labels = make_old(tmp_path / "bus.db", version), json.dumps(LABELS)
    with contextlib.closing(sqlite3.connect(db, isolation_level=None)) as opened:
        opened.execute("UPDATE thread SET state = 2, topic = ?, labels = ?", (TEXT, labels))
        opened.execute("UPDATE agent SET kind = 2, display_name = ?, labels = ?", (TEXT, labels))
        if version >= 2:
            opened.execute("UPDATE thread SET stage = ?, sync_mode = 2", (TEXT,))
            opened.execute(
                "INSERT INTO agent (name, kind, display_name, description, labels, create_time,"
                " unregister_time) VALUES ('gone', 1, '', '', '{}', 6, 7)"
            )
        if version >= 5:  # after the wall clock went back
            thread(opened, 2, "later", create_time=BACK | 4, entry_times=())
    server = start_server(db=db)
    wanted = Thread(name="design", epoch="e1", head_seq=2, first_seq=1, topic=TEXT, labels=LABELS)
    wanted.state, wanted.sync_mode = THREAD_STATE_CLOSED, SYNC_MODE_OFF
    wanted.creator = "coder"
    if version >= 2:
        wanted.stage, wanted.sync_mode = TEXT, SYNC_MODE_STRICT
    wanted.create_time.FromMicroseconds(5)
    wanted.update_time.FromMicroseconds(2)
    coder = Agent(name="coder", kind=AGENT_KIND_HUMAN, description="writes", labels=LABELS)
    coder.display_name = TEXT
    coder.create_time.FromMicroseconds(6)
    async with connected(server.address) as client:
        listed = (await client.threads.ListThreads(ListThreadsRequest())).threads
        assert listed[-1] == wanted
        found = await client.agents.ListAgents(ListAgentsRequest())
        assert list(found.agents) == [coder]
        if version >= 2:
            refusal = await refused(client.agents.RegisterAgent(RegisterAgentRequest(agent="gone")))
            assert refusal.reason == "AGENT_EXISTS"
        if version >= 5:
            assert listed[0].name == "later"
            assert listed[0].create_time.ToMicroseconds() == 4
            assert listed[0].update_time.ToMicroseconds() == 4


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
async def test_no_thread_gets_the_leftovers_of_one_deleted_in_an_older_file(
    start_server: StartServer, tmp_path: Path, version: int
) -> None:
    db = make_old(tmp_path / "bus.db", version)
    with contextlib.closing(sqlite3.connect(db, isolation_level=None)) as opened:
        thread(opened, 2, "deleted", create_time=1, entry_times=(3, 4))
        opened.execute("DELETE FROM thread WHERE id = 2")
    server = start_server(db=db)
    async with connected(server.address) as client:
        await client.threads.CreateThread(CreateThreadRequest(thread="new"))
        assert (await Peer(client.bus, AGENT).post("new", "first")).seq == 1


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
async def test_a_request_id_of_an_older_file_is_recognised_with_its_body(
    start_server: StartServer, tmp_path: Path, version: int
) -> None:
    server = start_server(db=make_old(tmp_path / "bus.db", version))
    async with connected(server.address) as client:
        agent = Peer(client.bus, AGENT)
        for _ in range(2):
            again = await agent.post("design", "two", request_id="id-two")
            assert (again.seq, again.deduplicated) == (2, True)
            assert again.create_time.ToMicroseconds() == 2
            refusal = await refused(agent.post("design", "new", request_id="id-two"))
            assert (refusal.reason, refusal.metadata) == ("REQUEST_ID_REUSED", {"seq": "2"})
        assert (await agent.post("design", "new", request_id="id-new")).seq == 3
        assert (await agent.post("design", "new", request_id="id-new")).deduplicated


@pytest.mark.slow
@pytest.mark.parametrize("version", OLDER)
async def test_edits_of_an_older_file_are_kept_and_can_be_edited_again(
    start_server: StartServer, tmp_path: Path, version: int
) -> None:
    db = make_old(tmp_path / "bus.db", version)
    with contextlib.closing(sqlite3.connect(db, isolation_level=None)) as opened:
        thread(opened, 2, "edits", create_time=1, entry_times=())
        given: dict[str, Any] = {"thread": "edits", "sender": "coder"}
        given["priority"] = PRIORITY_NORMAL
        frist = Message(**given, seq=1, content="frist", kind=MESSAGE_KIND_CHAT, edit_seq=2)
        frist.request_id = "id-frist"
        insert(opened, 2, 1, frist)
        first = Message(**given, seq=2, content="first", kind=MESSAGE_KIND_EDIT, edit_of=1)
        insert(opened, 2, 2, first)
    server = start_server(db=db)
    async with connected(server.address) as client:
        agent = Peer(client.bus, AGENT)
        assert [message.edit_seq for message in await agent.read("edits")] == [2, 0]
        assert (await agent.post("edits", "frist", request_id="id-frist")).deduplicated
        refusal = await refused(agent.post("edits", "First", edit_of=2))
        assert (refusal.reason, "edit message 1" in refusal.message) == ("VALIDATION_FAILED", True)
        await agent.post("edits", "First", edit_of=1)
        await agent.post("edits", "FIRST", edit_of=1)
        assert [message.edit_seq for message in await agent.read("edits")] == [4, 0, 0, 0]
    assert server.stop() == 0
    server.start()
    async with connected(server.address) as client:
        edited = await Peer(client.bus).read("edits")
        assert [(message.content, message.edit_seq) for message in edited[:2]] == [
            ("frist", 4),
            ("first", 0),
        ]


@pytest.mark.slow
@pytest.mark.parametrize("version", OLDER)
def test_an_upgraded_file_has_what_posts_are_checked_against(
    start_server: StartServer, tmp_path: Path, version: int
) -> None:
    db = make_old(tmp_path / "bus.db", version)
    with contextlib.closing(sqlite3.connect(db, isolation_level=None)) as opened:
        large = Message(thread="design", seq=3, sender="coder", content="x" * 20_000, edit_of=1)
        insert(opened, 1, 3, large)
    start_server(db=db).stop()
    with contextlib.closing(sqlite3.connect(db)) as upgraded:
        hashes = upgraded.execute("SELECT length(post_hash) FROM request").fetchall()
        assert hashes == [(16,), (16,)]
        assert upgraded.execute("SELECT * FROM entry").fetchall() == [(1 << 32 | 3, 1, 0)]


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
async def test_the_threads_of_an_older_file_are_listed_last_active_first(
    start_server: StartServer, tmp_path: Path, version: int
) -> None:
    db, second = make_old(tmp_path / "bus.db", version), 1_000_000
    with contextlib.closing(sqlite3.connect(db, isolation_level=None)) as opened:
        thread(opened, 2, "new", create_time=30 * second, entry_times=())
        thread(opened, 3, "late", create_time=0, entry_times=(1, 20 * second, 40 * second))
        thread(opened, 4, "early", create_time=0, entry_times=(9 * second,))
        thread(opened, 5, "close", create_time=0, entry_times=(30 * second - 1,))
    server = start_server(db=db)
    async with connected(server.address) as client:
        request, listed = ListThreadsRequest(page_size=1), []
        for _ in range(5):
            page = await client.threads.ListThreads(request)
            listed += [thread.name for thread in page.threads]
            request.page_token = page.next_page_token
        assert listed == ["late", "new", "close", "early", "design"]
        assert not request.page_token
        await Peer(client.bus).post("early", "now")
        again = await client.threads.ListThreads(ListThreadsRequest(page_size=3))
        assert [thread.name for thread in again.threads] == ["early", "late", "new"]


@pytest.mark.slow
@pytest.mark.parametrize("version", [1, 9, 11])
async def test_the_threads_of_an_older_file_lose_entries_as_a_retention_says(
    start_server: StartServer, tmp_path: Path, version: int
) -> None:
    db = make_old(tmp_path / "bus.db", version)
    server = start_server(db=db)
    async with connected(server.address) as client:
        request = UpdateThreadRequest(thread="design", retention=Retention(max_messages=2))
        request.update_mask.paths.append("retention")
        # Its own THREAD entry is the newest.
        changed = await client.threads.UpdateThread(request, metadata=AGENT.metadata)
        assert changed.thread.head_seq == 3

        async def is_removed() -> bool:
            found = await client.threads.GetThread(GetThreadRequest(thread="design"))
            return found.thread.first_seq == 2

        await until_known(is_removed)
        assert [message.seq for message in await Peer(client.bus).read("design")] == [2, 3]
        again = await Peer(client.bus, AGENT).post("design", "one", request_id="id-one")
        assert (again.seq, again.deduplicated) == (4, False)


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_an_upgraded_file_has_the_schema_of_a_new_one(
    start_server: StartServer, tmp_path: Path, version: int
) -> None:
    old = make_old(tmp_path / "bus.db", version)
    for db in (old, tmp_path / "new.db"):
        start_server(db=db).stop()
    assert columns(old) == columns(tmp_path / "new.db")


@pytest.mark.slow
async def test_servers_that_start_together_upgrade_a_file_once(old: Path) -> None:
    servers = [ServerProcess(old) for _ in range(4)]
    with contextlib.ExitStack() as running:
        started = await asyncio.gather(*(asyncio.to_thread(server.start) for server in servers))
        for server in started:
            running.callback(server.kill)
        for server in started:
            async with connected(server.address) as client:
                assert len(await Peer(client.bus).read("design")) == 2


@pytest.mark.slow
def test_a_file_that_another_program_locks_is_left_unchanged(old: Path) -> None:
    before = columns(old)
    with locked(old):
        assert "locked" in refused_start(old, "--busy-timeout", "0.2")
    assert columns(old) == before


@pytest.mark.slow
@pytest.mark.parametrize(("version", "in_the_way"), [(1, "presence"), (5, "agent_5")])
def test_an_upgrade_that_fails_half_way_changes_nothing(
    tmp_path: Path, version: int, in_the_way: str
) -> None:
    old = make_old(tmp_path / "bus.db", version)
    with contextlib.closing(sqlite3.connect(old, isolation_level=None)) as other:
        # Another program's; one of the last steps fails because of it.
        other.execute(f"CREATE TABLE {in_the_way} (x)")
    before = columns(old)
    assert in_the_way in refused_start(old)
    assert columns(old) == before
    with contextlib.closing(sqlite3.connect(old, isolation_level=None)) as other:
        assert version_of(other) == version
        other.execute(f"DROP TABLE {in_the_way}")
    with ServerProcess(old):
        assert "body" in {column[0] for column in columns(old)["thread"]}


@pytest.mark.slow
async def test_tokens_permit_after_an_upgrade_what_they_did_before(
    start_server: StartServer, tmp_path: Path
) -> None:
    db = make_old(tmp_path / "bus.db", 7)
    boss, former = Caller("operator", "b" * 40), Caller("coder", "f" * 40)
    tokens = {boss: 0, former: 1 << 60}
    with contextlib.closing(sqlite3.connect(db, isolation_level=None)) as opened:
        for caller, end in tokens.items():
            agent = "" if caller == boss else caller.name
            row = (hashlib.sha256(caller.token.encode()).digest(), agent, end)
            opened.execute(
                "INSERT INTO token (hash, agent, create_time, expire_time) VALUES (?, ?, 7, ?)", row
            )
    operator_token_file(db).write_text(boss.token, "ascii")
    operator_token_file(db).chmod(0o600)
    server = start_server("--auth", "required", db=db)
    async with connected(server.address) as client:
        admin: AdminStub = AdminServiceStub(client.channel)
        listed = await admin.ListTokens(ListTokensRequest(), metadata=boss.metadata)
        found = {token.agent: token for token in listed.tokens}
        assert len(listed.tokens) == 2
        assert list(found[""].scopes) == ["post", "read", "admin"]
        assert list(found["coder"].scopes) == ["post", "read"]
        for caller in (AGENT, former):
            await client.agents.GetAgent(GetAgentRequest(), metadata=caller.metadata)
        revocation = RevokeTokenRequest(token_id=found["coder"].token_id)
        await admin.RevokeToken(revocation, metadata=boss.metadata)
        for caller in (AGENT, former):  # one had replaced the other
            call = client.agents.GetAgent(GetAgentRequest(), metadata=caller.metadata)
            assert (await refused(call)).reason == "TOKEN_INVALID"


@pytest.mark.slow
@pytest.mark.parametrize("version", [each for each in VERSIONS if each < 9])
async def test_whom_the_messages_of_an_older_file_address_is_found_after_an_upgrade(
    start_server: StartServer, tmp_path: Path, version: int
) -> None:
    db = make_old(tmp_path / "bus.db", version)
    with contextlib.closing(sqlite3.connect(db, isolation_level=None)) as opened:
        given: dict[str, Any] = {"thread": "design", "kind": MESSAGE_KIND_CHAT}
        for message in (
            Message(**given, seq=3, sender="ann", mentions=["coder", "ben"], reply_to=2),
            Message(**given, seq=4, sender="coder", mentions=["coder"], handoff_to="ann"),
            Message(**given, seq=5, sender="anonymous", reply_to=1),
            Message(**given, seq=6, sender="ben", reply_to=5),
        ):
            insert(opened, 1, 3, message)
    start_server(db=db).stop()
    with contextlib.closing(sqlite3.connect(db)) as upgraded:
        found = upgraded.execute("SELECT * FROM addressed").fetchall()
        assert sorted(found) == [
            (1, "ann", 1, 4),
            (1, "ben", 1, 3),
            (1, "coder", 1, 3),
            (1, "coder", 1, 5),
        ]
        assert upgraded.execute("SELECT * FROM quiet").fetchall() == []
