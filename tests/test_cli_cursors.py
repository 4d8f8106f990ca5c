"""The named cursors of `threadbus wait`, as several processes move them."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from bus_client.cli.cursors import NamedCursor
from threadbus.v1.message_pb2 import Cursor

ADDRESS = "127.0.0.1:7420"


@pytest.fixture(autouse=True)
def credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "credentials.json"
    monkeypatch.setenv("THREADBUS_CREDENTIALS", str(path))
    return path


def at(seq: int, epoch: str = "e") -> Cursor:
    return Cursor(thread="t", after_seq=seq, epoch=epoch)


def test_a_cursor_is_moved_back_only_on_request_or_in_another_epoch() -> None:
    cursor = NamedCursor(ADDRESS, "ann", "t", "hooks")
    assert cursor.read() is None
    for moved, back, here in (
        (at(3), False, at(3)),
        (at(2), False, at(3)),
        (at(2), True, at(2)),
        (at(1, "new"), False, at(1, "new")),
    ):
        cursor.move(moved, back=back)
        assert cursor.read() == here


@pytest.mark.slow
def test_of_concurrent_moves_the_furthest_stays() -> None:
    together = Barrier(4)

    def move(cursor: NamedCursor, seq: int) -> None:
        together.wait()
        cursor.move(at(seq))

    with ThreadPoolExecutor(4) as threads:
        for number in range(100):
            cursor = NamedCursor(ADDRESS, "ann", "t", f"hooks {number}")
            list(threads.map(move, [cursor] * 4, (4, 1, 2, 3)))
            assert cursor.read() == at(4)


def test_each_agent_thread_server_and_name_has_its_own(credentials: Path) -> None:
    cursors = [
        NamedCursor(ADDRESS, "ann", "t", "hooks"),
        NamedCursor(ADDRESS, "ben", "t", "hooks"),
        NamedCursor(ADDRESS, "ann", "other", "hooks"),
        NamedCursor(ADDRESS, "ann", "t", "../other"),
        NamedCursor("127.0.0.1:7421", "ann", "t", "hooks"),
    ]
    for seq, cursor in enumerate(cursors):
        cursor.move(at(seq))
    assert [cursor.read() for cursor in cursors] == [
        Cursor(thread=cursor.thread, after_seq=seq, epoch="e") for seq, cursor in enumerate(cursors)
    ]
    assert NamedCursor("localhost:7420", "ann", "t", "hooks").read() == at(0)
    assert len(list(credentials.with_name("credentials.cursors").iterdir())) == len(cursors)
