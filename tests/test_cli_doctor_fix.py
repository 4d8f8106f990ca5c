"""`threadbus doctor --fix`: what it repairs, and that it names what it did."""

import contextlib
import socket
import sqlite3
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.shell import Shell
from tests.sqlite.stores import empty_index

pytestmark = [pytest.mark.slow, pytest.mark.sqlite]


@pytest.fixture
def offline(tmp_path: Path) -> Shell:
    """A user whose server is not running."""
    return Shell("127.0.0.1:1", tmp_path)


def _statuses(shell: Shell, db: Path, *flags: str) -> tuple[dict[str, str], list[str]]:
    """Returns the statuses of the checks, and what was fixed."""
    run = ("doctor", "--db", str(db), "--timeout", "0", "--json")
    document = shell.run(*run, *flags).json
    statuses = {check["name"]: check["status"] for check in document["checks"]}
    for check in document["checks"]:
        if check["name"] in ("permissions", "leftovers", "indexes") and check["advice"]:
            assert "--fix" in check["advice"]
    assert ("fixed" in document) is ("--fix" in flags)
    return statuses, document.get("fixed", [])


@pytest.fixture
def store(start_server: StartServer, tmp_path: Path) -> Path:
    """A store with a message, and a user with a token, whose server was stopped."""
    server = start_server()
    shell = Shell(server.address, tmp_path)
    shell.ok("register", "coder")
    shell.ok("post", "talk", "hello")
    assert server.stop() == 0
    return server.db


def test_files_that_others_can_open_are_closed_to_them(store: Path, offline: Shell) -> None:
    token = store.with_name("bus.db.operator-token")
    tokens = offline.home / "data/threadbus/credentials.json"
    for file in (store, token, tokens):
        file.chmod(0o644)
    before, _ = _statuses(offline, store)
    assert (before["permissions"], before["credentials"]) == ("failure", "failure")
    after, fixed = _statuses(offline, store, "--fix")
    assert (after["permissions"], after["credentials"]) == ("ok", "ok")
    assert {file.stat().st_mode & 0o777 for file in (store, token, tokens)} == {0o600}
    assert len([each for each in fixed if "now" in each]) == 3
    assert [each for each in fixed if "delete it for a new token" in each]
    assert _statuses(offline, store, "--fix")[1] == []


def test_what_killed_programs_left_is_removed_and_nothing_else(store: Path, offline: Shell) -> None:
    leftovers = [
        store.with_name(f"bus.db-{name}")
        for name in ("draft-0123abcd", "draft-0123abcd-journal", "partial-0123abcd")
    ]
    for file in leftovers:
        file.write_bytes(b"part of a copy")
    hints = store.with_name("bus.db-hints")
    hints.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
        dead.bind(str(hints / "12-abcd"))
    leftovers.append(hints / "12-abcd")
    kept = [
        store.with_name(name)
        for name in ("bus.db.rescued", "bus.db-wal.set-aside", "bus.db-partial-notes", "bus.db-x")
    ]
    for file in kept:
        file.write_bytes(b"messages")
    assert _statuses(offline, store)[0]["leftovers"] == "warning"
    after, fixed = _statuses(offline, store, "--fix")
    assert "leftovers" not in after
    assert sorted(fixed) == sorted(f"removed {file}" for file in leftovers)
    assert not [file for file in leftovers if file.exists()]
    assert all(file.exists() for file in (*kept, store))


def test_what_a_removed_database_left_is_removed_unless_messages_are_left(
    store: Path, offline: Shell
) -> None:
    store.unlink()
    log, lock = store.with_name("bus.db-wal"), store.with_name("bus.db-writer")
    log.write_bytes(b"newest messages")
    _, fixed = _statuses(offline, store, "--fix")
    assert not [each for each in fixed if each.startswith("removed")]
    assert log.read_bytes() == b"newest messages"
    log.unlink()
    assert _statuses(offline, store, "--fix")[1] == [f"removed {lock}"]
    assert not store.exists()


def test_missing_and_damaged_indexes_are_rebuilt_while_no_server_runs(
    store: Path, offline: Shell, start_server: StartServer
) -> None:
    with contextlib.closing(sqlite3.connect(store, isolation_level=None)) as db:
        db.execute("DROP INDEX participant_agent")
        ((before,),) = db.execute("SELECT count(*) FROM message")
    server = start_server()
    assert _statuses(offline, store)[0]["indexes"] == "warning"
    _, (said,) = _statuses(offline, store, "--fix")
    assert "stop every server" in said
    server.stop()
    after, fixed = _statuses(offline, store, "--fix")
    assert "indexes" not in after
    assert fixed == [f"rebuilt the indexes of {store}"]

    empty_index(store, "thread_active")
    statuses, _ = _statuses(offline, store, "--deep")
    assert (statuses["database"], statuses["integrity"]) == ("ok", "failure")
    after, fixed = _statuses(offline, store, "--deep", "--fix")
    assert after["integrity"] == "ok"
    assert fixed == [f"rebuilt the indexes of {store}"]
    with contextlib.closing(sqlite3.connect(store)) as db:
        assert db.execute("SELECT count(*) FROM message").fetchall() == [(before,)]
    server.start()
    assert not server.problems


def test_damage_to_messages_and_files_of_others_are_left_alone(
    store: Path, offline: Shell, tmp_path: Path
) -> None:
    data = bytearray(store.read_bytes())
    data[-4096:] = b"\xff" * 4096
    store.write_bytes(data)
    assert _statuses(offline, store, "--deep", "--fix")[1] == []
    assert store.read_bytes() == data
    data[100:4096] = b"\xff" * 3996  # the list of tables
    store.write_bytes(data)
    ((said,),) = [_statuses(offline, store, "--fix")[1]]
    assert said.startswith("not fixed: ")
    assert store.read_bytes() == data
    other = tmp_path / "other.db"
    with contextlib.closing(sqlite3.connect(other)) as db:
        db.execute("CREATE TABLE other (x)")
    other.chmod(0o644)
    assert _statuses(offline, other, "--fix")[1] == []
    assert other.stat().st_mode & 0o777 == 0o644
