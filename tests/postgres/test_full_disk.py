"""A database whose disk is full: posts are refused, and go on when there is room again."""

import asyncio
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus_client import BusClient
from tests import serving
from tests.connections import connected
from tests.disks import fill, small_disk
from tests.peers import Peer
from tests.postgres.cluster import Cluster
from tests.postgres.skipping import running
from tests.refusals import refused
from tests.serving import ServerProcess

pytestmark = pytest.mark.slow

#: Text that cannot be compressed.
LARGE = secrets.token_hex(250_000)


@pytest.fixture
def database() -> Iterator[Cluster]:
    """A database of the test's own."""
    with running() as cluster:
        yield cluster


@pytest.fixture
def disk(database: Cluster) -> Iterator[Path]:
    """A small disk that the database may write to."""
    with small_disk(Path(database.host) / "disk", megabytes=64) as disk:
        give(database, disk)
        yield disk


def give(database: Cluster, path: Path) -> None:
    """Make the database's user the owner of a file or folder."""
    owner = Path(database.host).stat()
    os.chown(path, owner.st_uid, owner.st_gid)


@pytest.fixture
def server(database: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ServerProcess:
    """A server on the database, not started."""
    monkeypatch.setattr(serving, "database_of", lambda _: database.url())
    return ServerProcess(tmp_path / "bus.db")


async def test_posts_are_refused_while_the_tables_have_no_room(
    database: Cluster, disk: Path, server: ServerProcess
) -> None:
    database.execute(f"CREATE TABLESPACE small LOCATION '{disk}'")
    database.configure("default_tablespace", "small")
    with server:
        async with connected(server.address, "t") as client:
            peer = Peer(client.bus)
            stored = [(await peer.post("t", LARGE)).seq]
            async with peer.wait("t") as frames:
                assert len(await frames.messages(1)) == 1
                ballast = await asyncio.to_thread(fill, disk)
                while True:  # there is room left in files that exist
                    posted = await asyncio.gather(peer.post("t", LARGE), return_exceptions=True)
                    if isinstance(posted[0], BaseException):
                        break
                    stored.append(posted[0].seq)
                    assert len(await frames.messages(1)) == 1
                assert (await refused(peer.post("t", LARGE))).reason == "STORAGE_FULL"
                ballast.unlink()
                stored.append((await peer.post("t", "there is room")).seq)
                assert stored == [*range(1, len(stored) + 1)]
                (last,) = await frames.messages(1)
                assert last.content == "there is room"
        assert server.stop() == 0
    begun, over = (line for line in server.log if "the database's disk is full" in line)
    assert "postgresql://" in begun
    assert "over, after" in over
    assert not [line for line in server.log if "Traceback" in line]


async def test_waits_outlive_a_crash_of_the_database_whose_log_has_no_room(
    database: Cluster, disk: Path, server: ServerProcess
) -> None:
    move_log(database, disk)
    with server:
        async with connected(server.address, "t") as client:
            peer = Peer(client.bus)
            async with peer.wait("t") as frames:
                assert (await peer.post("t", "first", request_id="1")).seq == 1
                assert len(await frames.messages(1)) == 1
                ballast = await asyncio.to_thread(fill, disk)
                stored = 1
                while True:  # the log's last file has room left
                    number = str(stored + 1)
                    posted = await asyncio.gather(
                        peer.post("t", LARGE, request_id=number), return_exceptions=True
                    )
                    if isinstance(posted[0], BaseException):
                        break
                    stored = posted[0].seq
                    assert len(await frames.messages(1)) == 1
                assert "PANIC" in database.log.read_text("utf-8", "replace")
                ballast.unlink()
                await asyncio.to_thread(database.stop)
                await asyncio.to_thread(database.start)
                async with BusClient(server.address, timeout=30) as bus:
                    # Its outcome may have been unknown: it is stored once.
                    again = await bus.thread("t").post(LARGE, request_id=number)
                    assert again.seq == stored + 1
                    assert (await bus.thread("t").post("there is room")).seq == stored + 2
                received = await frames.messages(2)
                assert [message.seq for message in received] == [stored + 1, stored + 2]
        assert server.stop() == 0


def move_log(database: Cluster, disk: Path) -> None:
    """Move the database's write-ahead log to a disk of its own."""
    database.stop()
    log = Path(database.host) / "data/pg_wal"
    shutil.copytree(log, disk / "pg_wal")
    for path in (disk / "pg_wal", *(disk / "pg_wal").rglob("*")):
        give(database, path)
    (disk / "pg_wal").chmod(0o700)
    shutil.rmtree(log)
    log.symlink_to(disk / "pg_wal")
    database.start()
