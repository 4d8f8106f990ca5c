"""A database that is removed, replaced or damaged under a running server.

Nothing is acknowledged that the next start would not have, and all acknowledged posts are saved.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from bus_server.store.sqlite import rescue
from bus_server.store.sqlite.monitor import FileMonitor
from tests.conftest import StartServer
from tests.connections import connected
from tests.disks import unchangeable
from tests.ledger import Ledger, history
from tests.open_wait import open_wait
from tests.polling import until
from tests.refused_start import refused_start
from tests.serving import ServerProcess

POSTS = 20


def beside(db: Path, ending: str) -> Path:
    return db.with_name(f"{db.name}{ending}")


def remove(*endings: str) -> Callable[[Path], None]:
    def fault(db: Path) -> None:
        for ending in endings:
            beside(db, ending).unlink()

    return fault


def cut(ending: str, share: float) -> Callable[[Path], None]:
    def fault(db: Path) -> None:
        file = beside(db, ending)
        with file.open("r+b") as opened:
            opened.truncate(round(file.stat().st_size * share))

    return fault


def move_a_backup_over(db: Path) -> None:
    beside(db, "-backup").replace(db)


def move_away(db: Path) -> None:
    db.replace(beside(db, "-elsewhere"))


def move_and_copy_back(db: Path) -> None:
    move_away(db)
    shutil.copy(beside(db, "-elsewhere"), db)


def another_log(db: Path) -> None:
    log = beside(db, "-wal")
    shutil.copy(log, beside(db, "-copy"))
    beside(db, "-copy").replace(log)


def back_up(db: Path) -> None:
    with contextlib.closing(sqlite3.connect(db)) as source:
        source.execute(f"VACUUM INTO '{beside(db, '-backup')}'")


def checkpoint(db: Path) -> None:
    with contextlib.closing(sqlite3.connect(db)) as source:
        source.execute("PRAGMA wal_checkpoint").fetchall()


async def post_all(server: ServerProcess, name: str, ledger: Ledger, label: str) -> None:
    async with connected(server.address, name) as client:
        for n in range(POSTS):
            await ledger.post(client.bus, name, f"{label} {n}")


def exit_code(server: ServerProcess) -> int:
    """Wait until the server has ended by itself."""
    assert server.process is not None
    code = server.process.wait(30)
    server.kill()
    return code


async def contents_after_restart(server: ServerProcess, name: str) -> list[str]:
    """Start the server. Returns what it has of a thread."""
    server.start()
    async with connected(server.address) as client:
        return [message.content for message in await history(client.bus, name)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [
        remove("", "-wal", "-shm"),
        remove(""),
        remove("-wal"),
        remove("-wal", "-shm"),
        remove("-shm"),
        cut("-wal", 0),
        cut("-wal", 0.5),
        move_a_backup_over,
        move_away,
        move_and_copy_back,
        another_log,
    ],
    ids=[
        *("all_removed", "file_removed", "log_removed", "log_and_index_removed", "index_removed"),
        *("log_emptied", "log_cut", "backup_moved_over", "moved_away", "copied_back"),
        "other_log",
    ],
)
async def test_a_server_whose_files_were_removed_or_replaced_stops_and_saves_its_data(
    start_server: StartServer, name: str, fault: Callable[[Path], None]
) -> None:
    server, ledger = start_server(), Ledger()
    async with connected(server.address, name) as client, open_wait(client.bus, name) as wait:
        await post_all(server, name, ledger, "before")
        await asyncio.to_thread(back_up, server.db)
        fault(server.db)

        refusal = await ledger.attempt(client.bus, name, "after")
        assert refusal is not None
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_FAILED")
        assert refusal.retry_delay
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await wait.ended()
        assert ended.value.code() == grpc.StatusCode.UNAVAILABLE
        assert "store failed" in (ended.value.details() or "")
        assert await asyncio.to_thread(exit_code, server) == 7

    critical = [line for line in server.log if " CRITICAL " in line]
    assert len(critical) == 1
    assert str(beside(server.db, ".rescued")) in critical[0]
    assert "Traceback" not in "".join(server.log)
    rescued = ServerProcess(beside(server.db, ".rescued"))
    try:
        assert await contents_after_restart(rescued, name) == [f"before {n}" for n in range(POSTS)]
    finally:
        rescued.kill()


@pytest.mark.slow
async def test_an_idle_server_notices_that_its_file_was_removed(
    start_server: StartServer, name: str
) -> None:
    server = start_server("--fallback-interval", "0")
    async with connected(server.address, name) as client, open_wait(client.bus, name) as wait:
        health = HealthStub(client.channel)
        watch = health.Watch(HealthCheckRequest())
        serving = HealthCheckResponse(status=HealthCheckResponse.SERVING)
        assert await anext(aiter(watch)) == serving
        server.db.unlink()
        assert await anext(aiter(watch)) != serving
        with pytest.raises(grpc.aio.AioRpcError, match="store failed"):
            await wait.ended()
    assert await asyncio.to_thread(exit_code, server) == 7


@pytest.mark.slow
async def test_a_backup_moved_over_the_file_is_served_by_the_next_start(
    start_server: StartServer, name: str
) -> None:
    server, ledger = start_server(), Ledger()
    await post_all(server, name, ledger, "in the backup")
    back_up(server.db)
    await post_all(server, name, ledger, "later")
    move_a_backup_over(server.db)
    assert await asyncio.to_thread(exit_code, server) == 7

    assert beside(server.db, "-wal.set-aside").exists()
    assert await contents_after_restart(server, name) == [
        f"in the backup {n}" for n in range(POSTS)
    ]
    assert server.stop() == 0
    with contextlib.closing(sqlite3.connect(server.db)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.slow
async def test_the_log_of_a_killed_server_is_not_replayed_into_a_backup(
    start_server: StartServer, name: str
) -> None:
    server, ledger = start_server(), Ledger()
    await post_all(server, name, ledger, "in the backup")
    back_up(server.db)
    await post_all(server, name, ledger, "later")
    server.kill()
    move_a_backup_over(server.db)

    assert await contents_after_restart(server, name) == [
        f"in the backup {n}" for n in range(POSTS)
    ]
    assert any("belonged to another" in line for line in server.log)
    assert beside(server.db, "-wal.set-aside").exists()


@pytest.mark.slow
async def test_a_log_in_use_is_not_moved_though_its_inode_was_recorded_for_another(
    start_server: StartServer, name: str
) -> None:
    server, ledger = start_server(), Ledger()
    await post_all(server, name, ledger, "before")
    # As if a server was killed, its files removed, and their inode numbers reused.
    lock = beside(server.db, "-writer")
    kind, log, _ = lock.read_text().splitlines()
    lock.write_text(f"{kind}\n{log}\nanother database\n")
    other = start_server(db=server.db)
    await post_all(server, name, ledger, "through the one")
    await post_all(other, name, ledger, "through the other")
    async with connected(server.address) as client:
        ledger.check(name, await history(client.bus, name))
    assert [server.stop(), other.stop()] == [0, 0]


@pytest.mark.slow
@pytest.mark.parametrize("remains", ["nothing", "an_empty_file"])
async def test_a_killed_servers_log_without_its_file_is_kept_and_no_new_file_created(
    start_server: StartServer, name: str, remains: str
) -> None:
    server, ledger = start_server(), Ledger()
    await post_all(server, name, ledger, "before")
    server.kill()
    move_away(server.db)
    if remains == "an_empty_file":
        server.db.touch(0o600)
    assert "put the database back" in await asyncio.to_thread(refused_start, server.db)
    beside(server.db, "-elsewhere").replace(server.db)  # as the refusal says
    assert await contents_after_restart(server, name) == [f"before {n}" for n in range(POSTS)]


@pytest.mark.slow
async def test_a_copy_of_a_killed_servers_files_is_served_with_its_log(
    start_server: StartServer, name: str, tmp_path: Path
) -> None:
    server, ledger = start_server(), Ledger()
    await post_all(server, name, ledger, "before")
    server.kill()
    copy = tmp_path / "copy" / server.db.name
    shutil.copytree(server.db.parent, copy.parent, ignore=lambda *_: ["copy", "bus.db-hints"])
    async with connected(start_server(db=copy).address) as client:
        ledger.check(name, await history(client.bus, name))


@pytest.mark.slow
async def test_a_log_that_alone_was_removed_is_folded_into_the_file(
    start_server: StartServer, name: str
) -> None:
    server, ledger = start_server(), Ledger()
    await post_all(server, name, ledger, "before")
    beside(server.db, "-wal").unlink()
    assert await asyncio.to_thread(exit_code, server) == 7
    assert await contents_after_restart(server, name) == [f"before {n}" for n in range(POSTS)]


@pytest.mark.slow
async def test_a_second_server_on_a_recreated_file_is_left_alone(
    start_server: StartServer, name: str
) -> None:
    first, ledger, others = start_server(), Ledger(), Ledger()
    await post_all(first, name, ledger, "first")
    first.signal(signal.SIGSTOP)  # so that it cannot notice before the other one has started
    remove("", "-wal", "-shm")(first.db)
    second = start_server(db=first.db)
    await post_all(second, name, others, "second")
    first.signal(signal.SIGCONT)
    assert await asyncio.to_thread(exit_code, first) == 7

    async with connected(second.address) as client:
        await others.post(client.bus, name, "it goes on")
        others.check(name, await history(client.bus, name))
    assert second.stop() == 0


@pytest.mark.slow
async def test_a_truncated_file_is_not_served_as_if_it_were_whole(
    start_server: StartServer, name: str
) -> None:
    server, ledger = start_server(), Ledger()
    await post_all(server, name, ledger, "before")
    cut("-wal", 0)(server.db)
    assert await asyncio.to_thread(exit_code, server) == 7

    said = refused_start(server.db)
    assert f"mv {beside(server.db, '.rescued')} {server.db}" in said
    beside(server.db, ".rescued").replace(server.db)
    assert await contents_after_restart(server, name) == [f"before {n}" for n in range(POSTS)]


@pytest.mark.slow
async def test_a_removed_file_is_not_recreated_beside_a_saved_copy(
    start_server: StartServer, name: str
) -> None:
    server, ledger = start_server(), Ledger()
    await post_all(server, name, ledger, "before")
    remove("", "-wal", "-shm")(server.db)
    assert await asyncio.to_thread(exit_code, server) == 7
    assert f"mv {beside(server.db, '.rescued')} {server.db}" in refused_start(server.db)
    assert not server.db.exists()


@pytest.mark.slow
def test_of_several_saved_copies_the_newest_is_named(tmp_path: Path) -> None:
    db = tmp_path / "bus.db"
    endings = [".rescued-2", ".rescued", ".rescued-10", ".rescued-draft-0123abcd"]
    for age, ending in enumerate(endings):
        beside(db, ending).touch(0o600)
        os.utime(beside(db, ending), (age, age))
    assert f"mv {beside(db, '.rescued-10')} {db}" in refused_start(db)


def test_a_copy_in_progress_is_not_taken_for_a_complete_one(tmp_path: Path) -> None:
    db = tmp_path / "bus.db"
    seen: list[Path | None] = []

    class Watched(sqlite3.Connection):
        def backup(self, target: sqlite3.Connection, **_: object) -> None:
            seen.append(rescue.rescued(db))
            super().backup(target)

    with contextlib.closing(sqlite3.connect(db, factory=Watched)) as source:
        source.execute("PRAGMA journal_mode = WAL").fetchall()
        source.execute("CREATE TABLE t (x)")
        with contextlib.closing(FileMonitor(db)) as files:
            first = rescue.save(source, files)
            second = rescue.save(source, files)
    assert seen == [None, beside(db, ".rescued")]
    assert (first, second) == (
        (beside(db, ".rescued"), True),
        (beside(db, ".rescued-2"), True),
    )
    assert {path.name for path in tmp_path.glob("bus.db.*")} == {
        *("bus.db.rescued", "bus.db.rescued-2")
    }


@pytest.mark.slow
@pytest.mark.parametrize("share", [0, 0.5], ids=["emptied", "halved"])
async def test_a_truncated_file_stops_the_server(
    start_server: StartServer, name: str, share: float
) -> None:
    server, ledger = start_server(), Ledger()
    await post_all(server, name, ledger, f"before {'x' * 20_000}")
    checkpoint(server.db)
    cut("", share)(server.db)
    async with connected(server.address) as client:
        refusal = await ledger.attempt(client.bus, name, "after")
    assert refusal is not None
    assert refusal.reason == "STORE_FAILED"
    assert await asyncio.to_thread(exit_code, server) == 7


@pytest.mark.slow
async def test_damage_found_by_a_reader_is_an_error_for_it_and_stops_the_server(
    start_server: StartServer, name: str
) -> None:
    server, ledger = start_server(), Ledger()
    await post_all(server, name, ledger, f"before {'x' * 20_000}")
    assert server.stop() == 0
    size = server.db.stat().st_size
    with server.db.open("r+b") as opened:
        opened.seek(size // 2 // 4096 * 4096)
        opened.write(b"\xa5" * (size // 4))
    server.start()
    async with connected(server.address) as client:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await history(client.bus, name)
        assert failed.value.code() == grpc.StatusCode.UNAVAILABLE
        assert "damaged" in (failed.value.details() or "")
        refusal = await ledger.attempt(client.bus, name, "after")
        assert refusal is not None
    assert await asyncio.to_thread(exit_code, server) == 7
    assert "restore a backup" in refused_start(server.db)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [remove(""), remove("-wal")], ids=["file", "log"])
async def test_a_server_stopped_before_it_noticed_the_loss_saves_its_data_too(
    start_server: StartServer, name: str, fault: Callable[[Path], None]
) -> None:
    server, ledger = start_server(), Ledger()
    await post_all(server, name, ledger, "before")
    server.signal(signal.SIGSTOP)
    fault(server.db)
    server.signal(signal.SIGTERM)
    server.signal(signal.SIGCONT)
    assert await asyncio.to_thread(exit_code, server) == 7
    assert beside(server.db, ".rescued").exists()


@pytest.mark.slow
async def test_a_file_that_shrinks_and_grows_between_two_checks_is_no_loss(
    start_server: StartServer, name: str
) -> None:
    server, ledger = start_server(), Ledger()
    fill = "INSERT INTO other VALUES (zeroblob(3000000))"
    with contextlib.closing(sqlite3.connect(server.db, isolation_level=None)) as other:
        other.execute("PRAGMA wal_autocheckpoint = 0").fetchall()
        other.execute("CREATE TABLE other (content)")
        other.execute(fill)
        other.execute("DELETE FROM other")
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        await post_all(server, name, ledger, "before")
        server.signal(signal.SIGSTOP)
        for statement in ("VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)", fill):
            other.execute(statement).fetchall()
        server.signal(signal.SIGCONT)
        await post_all(server, name, ledger, "after")
    async with connected(server.address) as client:
        ledger.check(name, await history(client.bus, name))
    assert server.stop() == 0
    assert server.problems == []


@pytest.mark.slow
async def test_a_server_that_can_save_nothing_says_so(start_server: StartServer, name: str) -> None:
    server, ledger = start_server(), Ledger()
    await post_all(server, name, ledger, "before")
    server.signal(signal.SIGSTOP)
    cut("-wal", 0)(server.db)
    with unchangeable(server.db.parent):
        server.signal(signal.SIGCONT)
        assert await asyncio.to_thread(exit_code, server) == 7
    (critical,) = [line for line in server.log if " CRITICAL " in line]
    assert "could not be saved" in critical
    assert "restore a backup" in critical
    assert "restore a backup" in refused_start(server.db)


@pytest.mark.slow
async def test_a_lock_file_that_is_removed_does_no_harm(
    start_server: StartServer, name: str
) -> None:
    server, ledger = start_server(), Ledger()
    await post_all(server, name, ledger, "before")
    beside(server.db, "-writer").unlink()
    await post_all(server, name, ledger, "after")
    await until(lambda: beside(server.db, "-writer").exists())
    other = start_server(db=server.db)
    await post_all(other, name, ledger, "by another server")
    async with connected(server.address) as client:
        ledger.check(name, await history(client.bus, name))
    assert server.stop() == 0


def replace_folder_by_file(db: Path) -> None:
    db.parent.rename(beside(db.parent, "-moved"))
    db.parent.touch()


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [lambda db: db.parent.rename(beside(db.parent, "-moved")), replace_folder_by_file],
    ids=["moved", "replaced"],
)
async def test_a_server_whose_folder_is_moved_stops_and_leaves_its_data_there(
    start_server: StartServer, tmp_path: Path, name: str, fault: Callable[[Path], None]
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    server, ledger = start_server(db=folder / "bus.db"), Ledger()
    await post_all(server, name, ledger, "before")
    fault(server.db)
    assert await asyncio.to_thread(exit_code, server) == 7
    critical = [line for line in server.log if " CRITICAL " in line]
    assert len(critical) == 1
    assert f"put {folder} back" in critical[0]
    assert "Traceback" not in "".join(server.log)
    server.db = beside(folder, "-moved") / "bus.db"
    assert await contents_after_restart(server, name) == [f"before {n}" for n in range(POSTS)]


@pytest.mark.slow
async def test_data_is_saved_though_the_folder_was_removed(
    start_server: StartServer, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    server, ledger = start_server(db=folder / "bus.db"), Ledger()
    await post_all(server, name, ledger, "before")
    shutil.rmtree(folder)
    assert await asyncio.to_thread(exit_code, server) == 7
    assert f"mv {beside(server.db, '.rescued')} {server.db}" in refused_start(server.db)
    beside(server.db, ".rescued").replace(server.db)
    assert await contents_after_restart(server, name) == [f"before {n}" for n in range(POSTS)]


@pytest.mark.slow
async def test_the_last_copy_saved_is_named_though_there_are_others(
    start_server: StartServer, name: str
) -> None:
    server, ledger = start_server(), Ledger()
    await post_all(server, name, ledger, "before")
    back_up(server.db)
    beside(server.db, "-backup").replace(beside(server.db, ".rescued"))
    beside(server.db, ".rescued-2").symlink_to("nowhere")
    await post_all(server, name, ledger, "after")
    remove("", "-wal", "-shm")(server.db)
    assert await asyncio.to_thread(exit_code, server) == 7
    newest = beside(server.db, ".rescued-3")
    assert f"mv {newest} {server.db}" in refused_start(server.db)
    newest.replace(server.db)
    async with connected(server.start().address) as client:
        ledger.check(name, await history(client.bus, name))


@pytest.mark.slow
async def test_an_unusable_lock_file_is_reported_and_delays_nothing(
    start_server: StartServer, name: str
) -> None:
    server, ledger = start_server(), Ledger()
    lock = beside(server.db, "-writer")
    await post_all(server, name, ledger, "before")
    lock.unlink()
    lock.mkdir()
    await until(lambda: any(f"cannot use {lock}" in line for line in server.log))
    await post_all(server, name, ledger, "meanwhile")
    lock.rmdir()
    await until(lambda: any("cannot take turns: over" in line for line in server.log))
    await post_all(server, name, ledger, "after")
    async with connected(server.address) as client:
        ledger.check(name, await history(client.bus, name))
    assert server.stop() == 0
    assert len(server.problems) == 2


@pytest.mark.slow
async def test_a_pipe_in_place_of_the_lock_is_refused_at_start(
    start_server: StartServer,
) -> None:
    server = start_server()
    assert server.stop() == 0
    lock = beside(server.db, "-writer")
    lock.unlink()
    os.mkfifo(lock)
    assert f"{lock} is a named pipe" in refused_start(server.db)
