"""`threadbus doctor`: reports what is wrong and what to do, and leaves nothing behind."""

import asyncio
import os
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from bus_client.cli.doctor.file_checks import file_system_check, file_system_of, sqlite_check
from tests.callers import operator_token_file
from tests.conftest import StartServer
from tests.disks import small_disk
from tests.polling import until
from tests.script import Script, scripted, started
from tests.serving import ServerProcess
from tests.shell import Done, Shell
from threadbus.v1.bus_service_pb2 import (
    GetServerInfoResponse,
    PostMessageRequest,
    PostMessageResponse,
)
from threadbus.v1.thread_service_pb2 import DeleteThreadRequest, DeleteThreadResponse

pytestmark = [pytest.mark.slow, pytest.mark.sqlite]

#: Checks that may be warnings on the machine that the tests run on.
OF_THE_MACHINE = {"open files", "disk", "file system", "wake-up"}


@pytest.fixture
def shell(server: ServerProcess, tmp_path: Path) -> Shell:
    return Shell(server.address, tmp_path)


@pytest.fixture
def offline(tmp_path: Path) -> Shell:
    """A user whose server is not running."""
    return Shell("127.0.0.1:1", tmp_path)


@pytest.fixture
async def script() -> AsyncIterator[Script]:
    async with scripted() as running:
        yield running


def _checks(done: Done) -> dict[str, dict[str, str]]:
    """Return the checks by name, after checking the form of the document."""
    document = done.json
    assert set(document) == {"checks", "healthy"}
    statuses = [check["status"] for check in document["checks"]]
    assert document["healthy"] is ("failure" not in statuses)
    for check in document["checks"]:
        assert set(check) == {"name", "status", "finding", "advice"}
        assert bool(check["advice"]) is (check["status"] != "ok")
    checks = {check["name"]: check for check in document["checks"]}
    assert len(checks) == len(statuses)
    return checks


def _of_file(nobody: Shell, path: Path, *flags: str) -> dict[str, dict[str, str]]:
    """Return the checks of a database file whose server is not running."""
    done = nobody.run("doctor", "--db", str(path), "--timeout", "0", "--json", *flags)
    assert done.code == 4
    return _checks(done)


def test_a_healthy_server_passes_every_check(
    shell: Shell, server: ServerProcess, name: str
) -> None:
    shell.ok("register", name)
    done = shell.ok("doctor", "--as", name, "--db", str(server.db), "--deep", "--json")
    checks = _checks(done)
    assert set(checks) - {"file system"} == {
        *("server", "durability", "clock", "identity", "wake-up", "open files", "disk"),
        *("credentials", "sqlite", "database", "permissions", "log", "integrity"),
    }
    not_ok = {name for name, check in checks.items() if check["status"] != "ok"}
    assert not not_ok - OF_THE_MACHINE
    assert done.json["healthy"] is True
    assert checks["server"]["finding"].startswith(f"{server.address} answers in ")
    assert checks["identity"]["finding"].startswith(f"{name}, who may post, read")
    assert " ms (median of 5)" in checks["wake-up"]["finding"]


def test_without_json_checks_are_printed_line_by_line(shell: Shell, server: ServerProcess) -> None:
    lines = shell.ok("doctor").out.splitlines()
    assert lines[0].startswith(f"ok       server       {server.address} answers in ")
    assert lines[1] == "ok       durability   full: an acknowledged post is on disk"


def test_doctor_leaves_no_thread_behind(start_server: StartServer, tmp_path: Path) -> None:
    shell = Shell(start_server().address, tmp_path)
    assert " ms " in _checks(shell.ok("doctor", "--json"))["wake-up"]["finding"]
    states = [f"--state={state}" for state in ("open", "closed", "archived")]
    assert shell.ok("thread", "list", *states, "--json").json == {"threads": []}


def test_without_a_server_the_machine_is_still_checked(offline: Shell, tmp_path: Path) -> None:
    done = offline.run("doctor", "--timeout", "0.2", "--json")
    checks = _checks(done)
    assert (done.code, done.err) == (4, "")
    assert (checks["server"]["status"], done.json["healthy"]) == ("failure", False)
    assert "threadbus serve" in checks["server"]["advice"]
    assert "open files" in checks


def test_a_token_that_does_not_work_is_a_failure(shell: Shell) -> None:
    done = shell.run("doctor", "--json", env={"THREADBUS_TOKEN": "x" * 40})
    assert done.code == 1
    assert _checks(done)["identity"]["status"] == "failure"
    assert _checks(done)["server"]["status"] == "ok"


def test_a_token_of_another_agent_is_a_failure(shell: Shell, server: ServerProcess) -> None:
    token = f"{server.db}.operator-token"
    done = shell.run("doctor", "--token-file", token, "--as", "coder", "--json")
    assert done.code == 1
    assert "'operator'" in _checks(done)["identity"]["finding"]


def test_doctor_registers_no_agent(start_server: StartServer, tmp_path: Path) -> None:
    shell = Shell(start_server().address, tmp_path)
    checks = _checks(shell.ok("doctor", "--as", "coder", "--json"))
    assert checks["identity"]["status"] == "warning"
    assert "threadbus register coder" in checks["identity"]["advice"]
    assert shell.ok("agents", "--json").json == {"agents": []}
    assert not (tmp_path / "data").exists()


def test_where_tokens_are_required_doctor_asks_for_one_and_uses_it(
    start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server("--auth", "required")
    shell = Shell(server.address, tmp_path)
    checks = _checks(shell.ok("doctor", "--json"))
    assert (checks["identity"]["status"], checks["wake-up"]["status"]) == ("warning", "skipped")
    done = shell.ok("doctor", "--token-file", f"{server.db}.operator-token", "--json")
    checks = _checks(done)
    assert " ms " in checks["wake-up"]["finding"]
    assert checks["identity"]["status"] == "ok"
    assert checks["identity"]["finding"] == "operator, who may post, read, admin; auth required"


def test_fast_durability_is_a_warning(start_server: StartServer, tmp_path: Path) -> None:
    shell = Shell(start_server("--durability", "fast").address, tmp_path)
    check = _checks(shell.ok("doctor", "--json"))["durability"]
    assert (check["status"], "lost" in check["finding"]) == ("warning", True)


@pytest.mark.parametrize("ahead", [3600, -3600])
async def test_clock_and_version_differences_are_warnings(
    offline: Shell, script: Script, ahead: int
) -> None:
    info = GetServerInfoResponse(version="99.0", agent="anonymous", durability="full")
    info.server_time.GetCurrentTime()
    info.server_time.seconds += ahead
    for _ in range(20):
        script.answer("GetServerInfo", info)
    run = ("doctor", "--server", script.address, "--json")
    checks = _checks(await asyncio.to_thread(offline.run, *run))
    assert checks["clock"]["status"] == "warning"
    assert ("ahead of" if ahead > 0 else "behind") in checks["clock"]["finding"]
    assert checks["server"]["status"] == "warning"
    assert "99.0" in checks["server"]["finding"]


async def test_a_log_left_by_another_file_stays_where_it_is(
    start_server: StartServer, offline: Shell, tmp_path: Path
) -> None:
    server = start_server()
    with closing(sqlite3.connect(server.db)) as db:
        db.execute(f"VACUUM INTO '{tmp_path / 'backup'}'")
    server.kill()
    (tmp_path / "backup").replace(server.db)
    run = ("doctor", "--db", str(server.db), "--timeout", "0.1", "--json")
    done = await asyncio.to_thread(offline.run, *run)
    check = _checks(done)["database"]
    assert check["status"] == "warning"
    assert "belongs to another file" in check["finding"]
    assert server.db.with_name(f"{server.db.name}-wal").exists()


async def test_data_saved_by_a_server_that_lost_its_file_is_reported(
    start_server: StartServer, shell: Shell
) -> None:
    server = start_server()
    saved = server.db.with_name(f"{server.db.name}.rescued")
    saved.touch()
    done = await asyncio.to_thread(shell.run, "doctor", "--db", str(server.db), "--json")
    assert str(saved) in _checks(done)["left behind"]["finding"]


async def test_a_server_whose_health_is_not_serving_is_a_failure(offline: Shell) -> None:
    stopping = health.aio.HealthServicer()
    await stopping.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Script(),))
    health_pb2_grpc.add_HealthServicer_to_server(stopping, server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        run = ("doctor", "--server", address, "--json")
        done = await asyncio.to_thread(offline.run, *run)
        only_this = await asyncio.to_thread(offline.run, *run, "--serving")
    finally:
        await server.stop(None)
    assert (done.code, _checks(done)["server"]["status"]) == (1, "failure")
    assert "not serving" in _checks(done)["server"]["finding"]
    assert (only_this.code, _checks(only_this)["server"]["status"]) == (4, "failure")


def test_serving_asks_for_nothing_else_and_needs_no_token(
    start_server: StartServer, offline: Shell, tmp_path: Path
) -> None:
    server = start_server("--auth", "required")
    done = Shell(server.address, tmp_path).ok("doctor", "--serving", "--db", "/nonexistent")
    assert done.out == f"ok       server       {server.address} is serving\n"
    done = offline.run("doctor", "--serving", "--json")
    assert (done.code, set(_checks(done)), done.json["healthy"]) == (4, {"server"}, False)


def _may_post(script: Script) -> None:
    for _ in range(20):
        script.answer("GetServerInfo", GetServerInfoResponse(agent="anonymous", scopes=["post"]))


async def test_a_wait_that_is_not_woken_is_a_failure(offline: Shell, script: Script) -> None:
    _may_post(script)
    script.answer("DeleteThread", DeleteThreadResponse())
    script.answer("PostMessage", PostMessageResponse(seq=1))
    script.answer("WaitMessages", started(), asyncio.Event())
    run = ("doctor", "--server", script.address, "--timeout", "1", "--json")
    done = await asyncio.to_thread(offline.run, *run)
    assert (done.code, _checks(done)["wake-up"]["status"]) == (1, "failure")
    assert len(script.asked(DeleteThreadRequest)) == 1


async def test_doctor_prints_as_it_goes_and_deletes_its_thread_when_interrupted(
    offline: Shell, script: Script
) -> None:
    _may_post(script)
    script.answer("DeleteThread", DeleteThreadResponse())
    script.answer("PostMessage", asyncio.Event())
    with offline.start("doctor", "--server", script.address) as running:
        await until(lambda: bool(script.asked(PostMessageRequest)))
        assert running.stdout is not None
        line = await asyncio.to_thread(running.stdout.readline)
        assert line.startswith("warning  server ")  # the script has no version
        running.send_signal(signal.SIGINT)
        await asyncio.to_thread(running.wait, 20)
    assert running.returncode == 130
    (deleted,) = script.asked(DeleteThreadRequest)
    assert deleted.thread == script.asked(PostMessageRequest)[0].thread
    assert deleted.thread.startswith("doctor-")


async def test_a_thread_that_could_not_be_deleted_is_reported(
    offline: Shell, script: Script
) -> None:
    _may_post(script)
    run = ("doctor", "--server", script.address, "--timeout", "1", "--json")
    done = await asyncio.to_thread(offline.run, *run)
    check = _checks(done)["wake-up"]
    (request,) = script.asked(DeleteThreadRequest)
    assert (done.code, check["status"]) == (1, "failure")
    assert f"threadbus thread delete {request.thread} --yes" in check["advice"]


def test_secrets_that_others_may_read_are_a_failure(
    start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server()
    shell = Shell(server.address, tmp_path)
    shell.ok("register", "coder")
    token = server.db.with_name("bus.db.operator-token")
    credentials = tmp_path / "data/threadbus/credentials.json"
    for name, file in [("permissions", token), ("credentials", credentials)]:
        file.chmod(0o644)
        done = shell.run("doctor", "--db", str(server.db), "--json")
        check = _checks(done)[name]
        assert (done.code, check["status"]) == (1, "failure")
        assert f"chmod 600 {file}" in check["finding"] + check["advice"]
        file.chmod(0o600)


def test_messages_that_others_may_read_are_a_warning(
    start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server()
    server.db.chmod(0o640)
    shell = Shell(server.address, tmp_path)
    check = _checks(shell.ok("doctor", "--db", str(server.db), "--json"))["permissions"]
    assert (check["status"], str(server.db) in check["finding"]) == ("warning", True)


def test_a_file_of_another_program_is_a_failure_and_left_alone(
    offline: Shell, tmp_path: Path
) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE other (x)")
    before = path.read_bytes()
    check = _of_file(offline, path, "--deep")["database"]
    assert (check["status"], "belongs to another" in check["finding"]) == ("failure", True)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["other.db"]


def test_a_missing_file_is_not_created(offline: Shell, tmp_path: Path) -> None:
    path = tmp_path / "bus.db"
    assert _of_file(offline, path)["database"]["status"] == "failure"
    assert not list(tmp_path.iterdir())
    path.touch()
    assert _of_file(offline, path)["database"]["status"] == "warning"
    assert path.stat().st_size == 0
    assert _of_file(offline, tmp_path)["database"]["status"] == "failure"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        pytest.param(os.mkfifo, "a named pipe", id="pipe"),
        pytest.param(Path.mkdir, "a folder", id="folder"),
        pytest.param(lambda path: path.symlink_to(path), "symbolic links", id="loop"),
    ],
)
def test_a_path_that_can_be_no_database_is_a_failure(
    offline: Shell, tmp_path: Path, make: Callable[[Path], None], said: str
) -> None:
    path = tmp_path / "bus.db"
    make(path)
    check = _of_file(offline, path, "--deep")["database"]
    assert (check["status"], said in check["finding"]) == ("failure", True)
    assert "URI" in _of_file(offline, Path("file:bus.db"))["database"]["finding"]


def test_a_link_is_followed_as_a_server_would(
    start_server: StartServer, offline: Shell, tmp_path: Path
) -> None:
    server = start_server()
    link = tmp_path / "link.db"
    link.symlink_to(server.db)
    assert _of_file(offline, link, "--deep")["integrity"]["status"] == "ok"
    token = operator_token_file(server.db)
    token.chmod(0o644)
    check = _of_file(offline, link)["permissions"]
    assert (check["status"], str(token) in check["finding"]) == ("failure", True)


def test_a_store_of_another_user_is_judged_as_that_users_server_would(
    start_server: StartServer, offline: Shell
) -> None:
    server = start_server()
    server.stop()
    folder, somebody = server.db.parent, 12345
    try:
        for path in (folder, *folder.iterdir()):
            os.chown(path, somebody, -1)
    except PermissionError:
        pytest.skip("only root can give files away")
    checks = _of_file(offline, server.db)
    assert {checks["database"]["status"], checks["permissions"]["status"]} == {"ok"}
    os.chown(operator_token_file(server.db), somebody + 1, -1)
    assert _of_file(offline, server.db)["permissions"]["status"] == "failure"
    server.db.with_name("bus.db-wal").touch()  # of the user that runs the tests: root
    server.db.with_name("bus.db-shm").touch()
    os.chown(server.db.with_name("bus.db-shm"), somebody + 1, -1)
    assert _of_file(offline, server.db)["database"]["status"] == "failure"


def test_deep_finds_damage_that_only_a_full_read_finds(
    start_server: StartServer, offline: Shell
) -> None:
    server = start_server()
    shell = Shell(server.address, offline.home)
    for _ in range(3):
        shell.ok("post", "log", "-", stdin="word " * 10_000)
    server.stop()
    assert _of_file(offline, server.db, "--deep")["integrity"]["status"] == "ok"
    with server.db.open("r+b") as opened:
        opened.seek(-4096, 2)
        opened.write(b"\xff" * 4096)
    checks = _of_file(offline, server.db)
    assert (checks["database"]["status"], "integrity" in checks) == ("ok", False)
    check = _of_file(offline, server.db, "--deep")["integrity"]
    assert (check["status"], "backup" in check["advice"]) == ("failure", True)


def test_a_log_that_has_grown_is_a_warning(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server()
    shell = Shell(server.address, tmp_path)
    log = server.db.with_name("bus.db-wal")
    with log.open("r+b") as opened:
        opened.truncate(257 * 1024 * 1024)  # a sparse file, which takes no space
    check = _checks(shell.ok("doctor", "--db", str(server.db), "--json"))["log"]
    assert (check["status"], str(log) in check["finding"]) == ("warning", True)


@pytest.mark.parametrize(("megabytes", "status"), [(32, "failure"), (256, "warning")])
def test_low_disk_space_is_reported(
    offline: Shell, tmp_path: Path, megabytes: int, status: str
) -> None:
    with small_disk(tmp_path / "disk", megabytes=megabytes) as disk:
        checks = _of_file(offline, disk / "bus.db")
    assert checks["disk"]["status"] == status
    assert (checks["file system"]["status"], "tmpfs" in checks["file system"]["finding"]) == (
        "warning",
        True,
    )


def test_a_low_limit_of_open_files_is_a_warning(shell: Shell) -> None:
    out = shell.script("ulimit -n 512; threadbus doctor")
    assert "warning  open files   up to 512 in a process" in out
    assert "ulimit -Hn" in out.splitlines()[-1]


MOUNTS = """\
/dev/a / ext4 rw 0 0
server:/srv /srv/shared\\040disk nfs4 rw 0 0
/dev/b /srv/shared\\040disk/local xfs rw 0 0
over /mnt tmpfs rw 0 0
under /mnt fuse.sshfs rw 0 0
"""


@pytest.mark.parametrize(
    ("folder", "kind", "status"),
    [
        ("/srv", "ext4", "ok"),
        ("/srv/shared", "ext4", "ok"),
        ("/srv/shared disk", "nfs4", "failure"),
        ("/srv/shared disk/team/a", "nfs4", "failure"),
        ("/srv/shared disk/local/a", "xfs", "ok"),
        ("/mnt/a", "fuse.sshfs", "failure"),
    ],
)
def test_network_file_systems_are_a_failure(
    tmp_path: Path, folder: str, kind: str, status: str
) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTS, "utf-8")
    assert file_system_of(Path(folder), mounts) == kind
    assert file_system_check(Path(folder), kind).status == status


def test_where_mounts_are_unknown_nothing_is_reported_about_them(tmp_path: Path) -> None:
    assert file_system_of(tmp_path, tmp_path / "mounts") == ""


@pytest.mark.parametrize(
    ("version", "status", "buggy"),
    [
        ((3, 36, 9), "failure", False),
        ((3, 40, 1), "ok", True),
        ((3, 44, 5), "ok", True),
        ((3, 44, 6), "ok", False),
        ((3, 45, 0), "ok", True),
        ((3, 50, 7), "ok", False),
        ((3, 51, 2), "ok", True),
        ((3, 51, 3), "ok", False),
        ((3, 53, 0), "ok", False),
    ],
)
def test_versions_of_sqlite_with_its_wal_reset_bug_are_named(
    version: tuple[int, int, int], status: str, buggy: bool
) -> None:
    check = sqlite_check(version)
    assert (check.status, "WAL-reset" in check.finding) == (status, buggy)
