"""What servers and the command line say while the database is away."""

import asyncio
import contextlib
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from bus_client import Unavailable
from tests import blocking, polling, serving
from tests.connections import connected
from tests.members import member
from tests.peers import Peer
from tests.postgres.cluster import Cluster, standby
from tests.postgres.skipping import running
from tests.refusals import refused
from tests.serving import ServerProcess
from tests.shell import Shell

pytestmark = pytest.mark.slow

#: A server that writes nothing unless it is called.
QUIET = ("--checkpoint-interval", "1h")

Serve = Callable[..., ServerProcess]


@pytest.fixture
def database() -> Iterator[Cluster]:
    """A database that the test may stop."""
    with running() as cluster:
        yield cluster


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Starts servers: `serve(url, *flags)`."""
    with contextlib.ExitStack() as servers:

        def start(url: str, *flags: str) -> ServerProcess:
            monkeypatch.setattr(serving, "database_of", lambda _: url)
            return servers.enter_context(ServerProcess(tmp_path / "bus.db", *flags))

        yield start


def logged(server: ServerProcess, text: str) -> list[str]:
    """Returns the lines of the server's log that contain a text."""
    return [line for line in server.log if text in line]


def test_commands_say_that_the_server_is_there_and_its_store_is_not(
    database: Cluster, serve: Serve, tmp_path: Path
) -> None:
    server = serve(database.url())
    shell = Shell(server.address, tmp_path)
    shell.ok("post", "t", "hello", "--as", "coder")
    database.stop()
    blocking.until(lambda: bool(logged(server, "the database cannot be reached: ")))
    listed = shell.run("thread", "list", "--timeout", "2")
    assert (listed.code, listed.out) == (4, "")
    posted = shell.run("post", "t", "again", "--timeout", "2")
    assert posted.code == 1
    assert "--request-id" in posted.err
    for done in (listed, posted):
        assert f"{server.address} is there, but not serving" in done.err
        assert "--server" not in done.err
        assert "Deadline" not in done.err
    examined = shell.run("doctor", "--as", "coder", "--json")
    found = {check["name"]: check for check in examined.json["checks"]}
    assert examined.code == 1
    assert found["server"]["status"] == "failure"
    assert "it is not serving" in found["server"]["finding"]
    assert "a database that is away" in found["server"]["advice"]
    assert {found[name]["status"] for name in ("identity", "wake-up")} == {"skipped"}
    database.start()
    blocking.until(lambda: shell.run("thread", "list").code == 0)
    shell.ok("post", "t", "later", "--as", "coder")
    blocking.until(lambda: shell.run("doctor", "--as", "coder").code == 0)


async def test_a_server_that_is_stopped_meanwhile_says_what_it_leaves(
    database: Cluster, serve: Serve
) -> None:
    server = serve(database.url(), *QUIET, "--drain-timeout", "1")
    async with connected(server.address, "t") as client:
        database.stop()
        posting = asyncio.ensure_future(Peer(client.bus).post("t"))
        await polling.until(lambda: bool(logged(server, "the database cannot be reached: ")))
        await polling.until(lambda: bool(logged(server, "connection to the database is lost")))
        assert server.process is not None
        server.signal(signal.SIGTERM)
        assert await asyncio.to_thread(server.process.wait, 20) == 1
        posting.cancel()
    server.kill()
    (line,) = logged(server, " CRITICAL ")
    assert re.search(
        r"stopping after 1 s \(--drain-timeout\) without the outcome of 1 posts and \d other"
        r" writes: postgresql:///postgres\?host=\S+ fails, as logged above$",
        line.strip(),
    )


async def test_a_wait_that_ends_while_the_database_is_away_does_not_say_nothing_new(
    database: Cluster, serve: Serve, tmp_path: Path
) -> None:
    server = serve(database.url(), *QUIET)
    address = server.address
    async with connected(address, "t") as client, member(address, "t", tmp_path) as thread:
        async with Peer(client.bus).wait("t", max_wait=5, timeout=10) as frames:
            await frames.until("caught_up")
            await asyncio.to_thread(database.stop)
            refusal = await refused(frames.failure())
        assert refusal.reason == "STORE_BUSY"
        assert "there may be new messages" in refusal.message
        await asyncio.to_thread(database.start)

        async def nothing_new() -> bool:
            try:
                return await thread.wait(timeout=1) == []
            except Unavailable:
                return False  # the server may not have connected to the database yet

        await polling.until_known(nothing_new)


async def test_a_database_that_takes_no_more_connections_is_logged_with_the_reason(
    database: Cluster, serve: Serve
) -> None:
    database.execute("CREATE ROLE bus LOGIN; CREATE SCHEMA AUTHORIZATION bus")
    server = serve(database.url("bus").replace("postgres@", "bus@"))
    async with connected(server.address, "t") as client:
        database.execute("ALTER ROLE bus CONNECTION LIMIT 0")
        database.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                         " WHERE usename = 'bus'")  # fmt: skip
        await polling.until(lambda: bool(logged(server, "has no connection left")))
        database.execute("ALTER ROLE bus CONNECTION LIMIT -1")
        assert (await Peer(client.bus).post("t")).seq == 1
        await polling.until(lambda: len(logged(server, "has no connection left")) == 2)
    begun, over = logged(server, "has no connection left")
    assert 'too many connections for role "bus"' in begun
    assert "max_connections" in begun
    assert re.search(r": over, after \d+ s$", over.strip())


async def test_a_server_on_a_full_database_serves_with_the_connections_that_it_has(
    serve: Serve,
) -> None:
    with running(max_connections="12", superuser_reserved_connections="0") as cluster:
        server = serve(cluster.url())
        async with connected(server.address, "t") as client:
            with contextlib.ExitStack() as others:
                with pytest.raises(psycopg.OperationalError):
                    while True:
                        others.enter_context(psycopg.connect(cluster.url()))
                for number in range(20):
                    assert (await Peer(client.bus).post("t")).seq == number + 1
                assert len(await Peer(client.bus).read("t")) == 20
            assert (await Peer(client.bus).post("t")).seq == 21


async def test_a_commit_that_no_standby_confirms_is_logged_as_that(
    serve: Serve, tmp_path: Path
) -> None:
    with running() as primary, standby(primary) as other:
        primary.configure("synchronous_standby_names", "standby")
        await polling.until(
            lambda: primary.execute("SELECT sync_state FROM pg_stat_replication") == [("sync",)]
        )
        server = serve(primary.url(), *QUIET, "--busy-timeout", "0.1", "--durability", "replicated")
        assert ", fsync; a standby confirms)" in server.announcement
        shell = Shell(server.address, tmp_path)
        await asyncio.to_thread(shell.ok, "post", "t", "confirmed", "--as", "coder")
        other.stop()
        done = await asyncio.to_thread(shell.run, "post", "t", "unconfirmed", "--timeout", "2")
        assert done.code == 1
        assert "is there, but did not answer" in done.err
        assert "--request-id" in done.err
        await polling.until(lambda: bool(logged(server, "no answer to a COMMIT for")))
        assert "standby may be away" in logged(server, "no answer to a COMMIT for")[0]
        # Once it has given up, its health says so, though reads succeed.
        await polling.until(
            lambda: bool(logged(server, "the database answers no commit")), within=40
        )
        done = await asyncio.to_thread(shell.run, "thread", "list")
        assert done.code == 0

        async def unhealthy() -> bool:
            return "it is not serving" in (await asyncio.to_thread(shell.run, "doctor")).out

        await polling.until_known(unhealthy)
        other.start()
        await polling.until(lambda: len(logged(server, "the database answers no commit")) == 2)

        async def confirmed() -> bool:
            return (await asyncio.to_thread(shell.run, "post", "t", "confirmed again")).code == 0

        await polling.until_known(confirmed)
