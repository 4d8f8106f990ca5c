"""`threadbus backup`, `restore` and `vacuum` of a store on PostgreSQL, with its own programs."""

import asyncio
import contextlib
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests import restored, serving
from tests.disks import small_disk
from tests.polling import until
from tests.postgres.cluster import Cluster, binaries
from tests.serving import ServerProcess
from tests.shell import Done, Shell

pytestmark = pytest.mark.slow


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell("127.0.0.1:1", tmp_path)


@pytest.fixture(autouse=True)
def programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """pg_dump of the version that the tests use, if there is one."""
    folder = binaries()
    if folder is not None and (folder / "pg_dump").exists():
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    if shutil.which("pg_dump") is None:
        assert not os.environ.get("CI"), "install postgresql-client"
        pytest.skip("no pg_dump: install postgresql-client")


@pytest.fixture
def databases(postgres: Cluster) -> Iterator[tuple[str, str]]:
    """The URLs of two empty databases."""
    names = [f"dump_{os.getpid()}_{number}" for number in (1, 2)]
    for name in names:
        postgres.execute(f"CREATE DATABASE {name}")
    yield postgres.url(database=names[0]), postgres.url(database=names[1])
    for name in names:
        postgres.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def _run(shell: Shell, *arguments: str) -> Done:
    return await asyncio.to_thread(shell.run_process, *arguments)


def _server(monkeypatch: pytest.MonkeyPatch, folder: Path, url: str, *flags: str) -> ServerProcess:
    monkeypatch.setattr(serving, "database_of", lambda _: url)
    return ServerProcess(folder / "bus.db", *flags)


@pytest.mark.parametrize("flags", [(), ("--keep-history",)])
async def test_agents_go_on_at_another_database_where_the_backup_was_made(
    databases: tuple[str, str],
    shell: Shell,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: tuple[str, ...],
) -> None:
    here, there = databases
    file = tmp_path / "backup"
    with _server(monkeypatch, tmp_path, here) as first:
        past = await restored.hold(first)
        done = await _run(shell, "backup", str(file), "--store", here, "--json")
        assert (done.code, done.json["bytes"]) == (0, file.stat().st_size), done
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        if not flags:
            await restored.go_on(first, past)
    as_json = ("--json",) if flags else ()
    done = await _run(shell, "restore", str(file), "--store", there, *flags, *as_json)
    assert (done.code, done.err) == (0, ""), done
    if as_json:
        assert done.json == {"restored": True}
    else:
        assert re.fullmatch(r"restored to postgresql://[^@]*\n", done.out)
    with _server(monkeypatch, tmp_path, there) as second:
        await restored.check(second, past, new_history=not flags)


async def test_a_store_is_replaced_only_with_force_and_never_while_it_is_served(
    databases: tuple[str, str], shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, _ = databases
    file = str(tmp_path / "backup")
    run = ("restore", file, "--store", url)
    with _server(monkeypatch, tmp_path, url) as server:
        past = await restored.hold(server)
        assert (await _run(shell, "backup", file, "--store", url)).code == 0
        await restored.go_on(server, past)
        done = await _run(shell, *run)
        assert (done.code, "--force" in done.err) == (1, True)
        done = await _run(shell, *run, "--force")
        assert (done.code, "is being served" in done.err) == (1, True)
    done = await _run(shell, *run, "--force")
    assert done.code == 0, done
    with _server(monkeypatch, tmp_path, url) as server:
        await restored.check(server, past, new_history=True)
        done = await _run(shell, "vacuum", "--store", url, "--json")
        assert done.json["bytes_before"] > 100_000


async def test_servers_are_noticed_at_once_and_those_of_other_stores_do_not_matter(
    databases: tuple[str, str], shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, _ = databases
    file = str(tmp_path / "backup")
    run = ("restore", file, "--store", url, "--force")
    with psycopg.connect(url) as session:
        session.execute("CREATE SCHEMA other")
    with _server(monkeypatch, tmp_path, url, "--hints", "off") as server:
        done = await _run(shell, "backup", file, "--store", url)
        assert done.code == 0, done
        done = await _run(shell, *run)
        assert (done.code, "is being served" in done.err) == (1, True)
        server.kill()
    with _server(monkeypatch, tmp_path, f"{url}&options=-csearch_path%3Dother"):
        done = await _run(shell, *run)
        assert done.code == 0, done


async def test_a_server_gives_all_threads_new_epochs_where_an_operator_has_cleared_the_place(
    databases: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, _ = databases
    with _server(monkeypatch, tmp_path, url) as server:
        past = await restored.hold(server)
    guide = (Path(__file__).parents[2] / "docs/operations.md").read_text("utf-8")
    (statement,) = re.findall(r"`(UPDATE [^`]+)`", guide)
    with psycopg.connect(url) as session:
        session.execute(statement)
    with _server(monkeypatch, tmp_path, url) as server:
        await restored.check(server, past, new_history=True)


async def test_a_secret_that_a_program_would_show_is_refused(
    databases: tuple[str, str], shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, _ = databases
    with _server(monkeypatch, tmp_path, url):
        pass
    run = ("backup", str(tmp_path / "backup"), "--store", f"{url}&sslpassword=s3cr3t")
    done = await _run(shell, *run)
    assert (done.code, "sslpassword" in done.err, "s3cr3t" in done.err) == (1, True, False), done


async def test_what_cannot_be_dumped_or_restored_is_refused(
    databases: tuple[str, str], postgres_url: str, shell: Shell, tmp_path: Path
) -> None:
    here, _ = databases
    file = tmp_path / "backup"
    done = await _run(shell, "backup", str(file), "--store", here)
    assert (done.code, "has no store in its schema" in done.err) == (1, True)
    done = await _run(shell, "vacuum", "--store", here)
    assert (done.code, "has no store in its schema" in done.err) == (1, True)
    with pytest.MonkeyPatch.context() as patch, _server(patch, tmp_path, here):
        pass
    assert (await _run(shell, "backup", str(file), "--store", here)).code == 0
    done = await _run(shell, "restore", str(file), "--store", postgres_url)
    assert (done.code, "create the schema public" in done.err) == (1, True), done
    done = await _run(shell, "restore", str(file), "--db", str(tmp_path / "new.db"))
    assert (done.code, "restore it to --store" in done.err) == (1, True)
    file.write_bytes(file.read_bytes()[:-2_000])
    done = await _run(shell, "restore", str(file), "--store", here, "--force")
    assert done.code == 1, done
    file.write_bytes(b"PGDMP")
    done = await _run(shell, "restore", str(file), "--store", here, "--force")
    assert done.code == 1
    with pytest.MonkeyPatch.context() as patch, _server(patch, tmp_path, here) as server:
        assert server.process is not None  # it is as it was


async def test_a_backup_of_an_older_version_is_upgraded_and_one_of_a_newer_refused(
    databases: tuple[str, str], postgres: Cluster, shell: Shell, tmp_path: Path
) -> None:
    old, new = databases
    script = Path(__file__).with_name("schema-2.sql").read_text("utf-8")
    with psycopg.connect(old) as session:
        session.execute(script.encode())
        session.execute(
            "INSERT INTO meta (version, compatible, epoch, place, history)"
            " VALUES (2, 2, 'e', 'elsewhere', 0)"
        )
    file = tmp_path / "backup"
    assert (await _run(shell, "backup", str(file), "--store", old)).code == 0
    with pytest.MonkeyPatch.context() as patch, _server(patch, tmp_path, new) as server:
        past = await restored.hold(server)
    newer = tmp_path / "newer"
    with psycopg.connect(new) as session:
        session.execute("UPDATE meta SET version = 99, compatible = 99")
    assert (await _run(shell, "backup", str(newer), "--store", new)).code == 0
    for force in ((), ("--force",)):
        done = await _run(shell, "restore", str(newer), "--store", old, *force)
        assert (done.code, "schema version 99" in done.err) == (1, True), done
    done = await _run(shell, "restore", str(file), "--store", new, "--force")
    assert done.code == 0, done
    with pytest.MonkeyPatch.context() as patch, _server(patch, tmp_path, new) as server:
        assert await restored.hold(server) != past  # a store without messages


async def test_without_pg_dump_the_error_says_what_to_install(
    databases: tuple[str, str],
    shell: Shell,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here, _ = databases
    with _server(monkeypatch, tmp_path, here):
        pass
    run = ("backup", str(tmp_path / "backup"), "--store", here)
    fake = tmp_path / "bin"
    fake.mkdir()
    program = fake / "pg_dump"
    program.write_text(
        "#!/bin/sh\n"
        "echo 'pg_dump: error: aborting because of server version mismatch' >&2\n"
        "echo 'pg_dump: detail: server version: 17.1; pg_dump version: 15.2' >&2\nexit 1\n",
        "utf-8",
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(fake) + os.pathsep + "/bin")
    done = await _run(shell, *run)
    assert (done.code, "server version: 17.1" in done.err, "newer" in done.err) == (1, True, True)
    monkeypatch.setenv("PATH", str(tmp_path))
    done = await _run(shell, *run)
    assert (done.code, "postgresql-client" in done.err) == (1, True), done
    assert not list(tmp_path.glob("backup*"))


@pytest.fixture
async def large(databases: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store whose dump has 10 MB."""
    with _server(monkeypatch, tmp_path, databases[0]):
        pass
    with psycopg.connect(databases[0]) as session:
        session.execute(
            "INSERT INTO message SELECT 1, n, 1, 'ann', (SELECT string_agg(sha512((n * 100 + k)"
            "::text::bytea), '') FROM generate_series(1, 100) k) FROM generate_series(1, 1500) n"
        )
    return databases[0]


async def test_a_backup_that_is_killed_or_has_no_room_leaves_no_file_and_no_dump_goes_on(
    large: str, postgres: Cluster, shell: Shell, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", megabytes=2) as disk:
        done = await _run(shell, "backup", str(disk / "backup"), "--store", large)
        assert (done.code, "is full" in done.err) == (1, True), done
        assert not list(disk.iterdir())
    folder = tmp_path / "backups"
    folder.mkdir()
    run = ("backup", str(folder / "backup"), "--store", large)
    with _locked(large), shell.start(*run) as process:
        await until(lambda: bool(_sessions(postgres, "pg_dump")))
        process.kill()
    await until(lambda: not _sessions(postgres, "pg_dump"))
    assert not (folder / "backup").exists()
    assert (await _run(shell, *run)).code == 0
    assert [path.name for path in folder.iterdir()] == ["backup"]


async def test_a_restore_that_is_killed_changes_nothing(
    large: str, postgres: Cluster, shell: Shell, tmp_path: Path
) -> None:
    file = str(tmp_path / "backup")
    assert (await _run(shell, "backup", file, "--store", large)).code == 0
    with psycopg.connect(large) as session:
        session.execute("DELETE FROM message WHERE seq = 1500")
    run = ("restore", file, "--store", large, "--force")
    with _locked(large), shell.start(*run) as process:
        await until(lambda: "Lock" in _sessions(postgres, "pg_restore"))
        process.kill()
    await until(lambda: not _sessions(postgres, "pg_restore"))
    counted = "SELECT count(*) FROM message"
    with psycopg.connect(large) as session:
        assert session.execute(counted).fetchall() == [(1_499,)]
    assert (await _run(shell, *run)).code == 0
    with psycopg.connect(large) as session:
        assert session.execute(counted).fetchall() == [(1_500,)]


@contextlib.contextmanager
def _locked(url: str) -> Iterator[None]:
    """Keep the table message locked, so that no program can read or replace it."""
    with psycopg.connect(url) as session:
        session.execute("LOCK TABLE message IN ACCESS EXCLUSIVE MODE")
        yield
        session.rollback()


def _sessions(postgres: Cluster, program: str) -> list[str]:
    """Returns what the sessions of a program wait for, if anything."""
    found = postgres.execute(
        "SELECT application_name, coalesce(wait_event_type, '') FROM pg_stat_activity"
    )
    return [waits_for for name, waits_for in found if name == program]


async def test_passwords_are_in_no_list_of_processes(
    databases: tuple[str, str],
    shell: Shell,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here, _ = databases
    with _server(monkeypatch, tmp_path, here):
        pass
    secret = here.replace("postgres@", "postgres:s3cr3t@")
    environment = {"THREADBUS_STORE": secret}
    with (
        _locked(here),
        shell.start("backup", str(tmp_path / "backup"), env=environment) as process,
    ):
        await until(lambda: bool(list(_commands("pg_dump"))))
        assert not [line for line in _commands("") if "s3cr3t" in line]
        process.terminate()
        await asyncio.to_thread(process.wait, 20)
    assert not list(tmp_path.glob("backup*"))


def _commands(program: str) -> Iterator[str]:
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = file.read_bytes().decode("utf-8", "replace")
        except OSError:
            continue
        if program in command.split("\0")[0]:
            yield command
