"""A file of an older version is brought up to date when a server opens it, and loses nothing."""

import asyncio
import contextlib
import hashlib
import sqlite3
from pathlib import Path

import pytest

from bus_server.store.file import APPLICATION_ID
from tests.callers import Caller
from tests.conftest import StartServer
from tests.connections import connected
from tests.locks import locked
from tests.peers import Peer
from tests.refused_start import refused_start
from tests.serving import ServerProcess
from tests.sightings import beat, state
from threadbus.v1.message_pb2 import MESSAGE_KIND_CHAT, Message
from threadbus.v1.thread_pb2 import SYNC_MODE_OFF
from threadbus.v1.thread_service_pb2 import GetThreadRequest, JoinThreadRequest

AGENT = Caller("coder", "a-token-that-is-long-enough-to-be-one")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A database of version 1: a thread with two messages, of which an agent has read one."""
    db = tmp_path / "bus.db"
    with contextlib.closing(sqlite3.connect(db, isolation_level=None)) as made:
        made.executescript(Path(__file__).with_name("schema-1.sql").read_text("utf-8"))
        made.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        made.execute("PRAGMA user_version = 1")
        made.execute("PRAGMA journal_mode = WAL").fetchall()
        made.execute("INSERT INTO store VALUES ('store-epoch')")
        made.execute("INSERT INTO thread VALUES (1, 'design', 'e1', 1, 'topic', '{}', 'coder', 5)")
        for seq, content in enumerate(("one", "two"), start=1):
            body = Message(
                thread="design", seq=seq, sender="coder", content=content, kind=MESSAGE_KIND_CHAT
            )
            row = (1 << 32 | seq, seq, "coder", body.SerializeToString())
            made.execute("INSERT INTO message VALUES (?, ?, ?, ?)", row)
        made.execute("INSERT INTO participant VALUES (1, 'coder', 1, 7)")
        made.execute("INSERT INTO agent VALUES ('coder', 1, '', 'writes', '{}', 6)")
        hashed = hashlib.sha256(AGENT.token.encode()).digest()
        made.execute("INSERT INTO token VALUES (?, 'coder', 6)", (hashed,))
    return db


def columns(db: Path) -> dict[str, set[tuple[object, ...]]]:
    """Name, type, whether null is refused, default and key of each table's columns; the indexes."""
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
async def test_what_an_older_file_holds_is_there_and_what_is_new_works(
    start_server: StartServer, old: Path
) -> None:
    server = start_server(db=old)
    async with connected(server.address) as client:
        found = (await client.threads.GetThread(GetThreadRequest(thread="design"))).thread
        assert (found.topic, found.head_seq, found.epoch) == ("topic", 2, "e1")
        assert (found.stage, found.sync_mode) == ("", SYNC_MODE_OFF)
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
def test_a_file_that_was_upgraded_is_as_one_that_is_new(
    start_server: StartServer, old: Path, tmp_path: Path
) -> None:
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
def test_a_file_that_another_program_locks_is_left_as_it_is(old: Path) -> None:
    before = columns(old)
    with locked(old):
        assert "locked" in refused_start(old, "--busy-timeout", "0.2")
    assert columns(old) == before


@pytest.mark.slow
def test_an_upgrade_that_fails_half_way_changes_nothing(old: Path) -> None:
    with contextlib.closing(sqlite3.connect(old, isolation_level=None)) as other:
        other.execute("CREATE TABLE presence (of_another_program)")  # in the way of the last step
    before = columns(old)
    assert "presence" in refused_start(old)
    assert columns(old) == before
    with contextlib.closing(sqlite3.connect(old, isolation_level=None)) as other:
        assert other.execute("PRAGMA user_version").fetchone() == (1,)
        other.execute("DROP TABLE presence")
    with ServerProcess(old):
        assert "stage" in {column[0] for column in columns(old)["thread"]}
