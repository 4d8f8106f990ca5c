"""The pytest plugin, as users of threadbus have it: in a pytest of their own."""

import os
import re
import socket
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

from bus_client import pytest_plugin
from tests.certificates import authority, pair

pytestmark = pytest.mark.slow


@dataclass(frozen=True, slots=True)
class Project:
    """A user's project: a folder with tests."""

    folder: Path

    def write(self, name: str, text: str) -> None:
        """Write a file."""
        (self.folder / name).write_text(textwrap.dedent(text), "utf-8")

    def test(self) -> "subprocess.CompletedProcess[str]":
        """Run its tests, without any other plugin."""
        environment = {key: value for key, value in os.environ.items() if "PYTEST" not in key}
        # Settings for other servers must not affect these.
        environment |= {"THREADBUS_AUTH": "required", "THREADBUS_DB": "/nowhere/bus.db"}
        environment |= {"XDG_DATA_HOME": str(self.folder / "data")}
        plain = "-p no:asyncio -p no:timeout -p no:randomly -p no:cacheprovider -W error"
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-q", *plain.split()],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=environment,
            timeout=50,
        )

    def passes(self, count: int) -> None:
        """Run its tests: `count`, all of which must pass."""
        done = self.test()
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"{count} passed" in done.stdout


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_the_example_works_and_changes_nothing_of_the_users(project: Project) -> None:
    example = re.search(r"^    import asyncio\n.*?(?=^-)", pytest_plugin.__doc__ or "", re.M | re.S)
    assert example
    project.write("test_example.py", example[0])
    project.passes(1)
    assert not (project.folder / "data").exists()


def test_a_killed_server_restarts_at_its_address_with_its_file(project: Project) -> None:
    project.write(
        "test_crash.py",
        """
        import asyncio
        import socket

        def test_a_follower_misses_nothing(threadbus_server, threadbus_thread):
            server, address = threadbus_server, threadbus_server.address

            async def follow():
                async with server.client() as bus:
                    thread = await bus.join(threadbus_thread, start="first")
                    messages = thread.follow(include_own=True)
                    await thread.post("before")
                    heard = [await anext(messages)]
                    server.kill()
                    assert not server.running
                    with socket.socket() as probe:
                        host, _, port = address.rpartition(":")
                        assert probe.connect_ex((host, int(port))) != 0
                    server.restart()
                    await thread.post("after a crash")
                    heard.append(await anext(messages))
                    server.restart()
                    await thread.post("after a good end")
                    heard.append(await anext(messages))
                    await messages.aclose()
                    return [(message.seq, message.content) for message in heard]

            heard = asyncio.run(follow())
            assert heard == [(1, "before"), (2, "after a crash"), (3, "after a good end")]
            assert (server.address, server.running) == (address, True)
        """,
    )
    project.passes(1)


def test_a_session_has_one_server_and_each_test_a_thread_of_its_own(project: Project) -> None:
    project.write("aiosqlite.py", "raise ImportError('not the module the server wants')\n")
    project.write(
        "test_sharing.py",
        """
        import asyncio
        from pathlib import Path

        import pytest

        import bus_client

        seen = []

        @pytest.mark.parametrize("what", ["a", "ü / \\u2026", "x" * 300])
        def test_it(threadbus_server, threadbus_thread, what):
            async def create():
                async with threadbus_server.client(agent="coder") as bus:
                    await bus.create_thread(threadbus_thread)
            asyncio.run(create())
            assert threadbus_server.db.is_file()
            seen.append((threadbus_server.address, threadbus_thread))
            Path("address").write_text(threadbus_server.address)

        def test_of_all_this(threadbus_server):
            addresses, threads = zip(*seen)
            assert (len(set(addresses)), len(set(threads))) == (1, 3)
            assert threads[0].startswith("test-it-a-")

        def test_the_operator(threadbus_server):
            async def who():
                token = threadbus_server.operator_token
                async with bus_client.BusClient(threadbus_server.address, token=token) as bus:
                    return bus.agent
            assert asyncio.run(who()) == "operator"

        def test_that_leaves_the_server_down(threadbus_server):
            threadbus_server.stop()
            assert not threadbus_server.running

        def test_that_comes_after_it(threadbus_server, threadbus_thread):
            assert threadbus_server.running
            assert threadbus_server.address == seen[0][0]
        """,
    )
    project.passes(7)
    host, _, port = (project.folder / "address").read_text("ascii").rpartition(":")
    with socket.socket() as probe:
        assert probe.connect_ex((host, int(port))) != 0, "the server outlived the tests"


def test_the_servers_flags_can_be_chosen(project: Project) -> None:
    project.write(
        "conftest.py",
        """
        import pytest

        @pytest.fixture(scope="session")
        def threadbus_flags():
            return ["--auth", "required"]
        """,
    )
    project.write(
        "test_flags.py",
        """
        import asyncio

        def test_it(threadbus_server):
            async def info():
                async with threadbus_server.client() as bus:
                    return await bus.server_info()
            told = asyncio.run(info())
            assert (told.auth, told.durability) == ("required", "full")
        """,
    )
    project.passes(1)


@pytest.mark.sqlite
def test_a_server_that_cannot_start_is_a_clear_error(project: Project) -> None:
    project.write(
        "conftest.py",
        """
        import pytest

        @pytest.fixture(scope="session")
        def threadbus_flags():
            return ["--durability", "none"]
        """,
    )
    project.write("test_start.py", "def test_it(threadbus_server): pass\n")
    done = project.test()
    assert done.returncode == 1
    assert "The ThreadBus server did not start: exit code 2." in done.stdout
    assert "'none' is not one of 'full', 'replicated', 'fast'" in done.stdout
    assert "-m bus_server --durability none" in done.stdout
    assert "pytest_plugin.py" not in done.stdout, "a traceback says nothing to its reader"


def test_a_server_that_cannot_restart_fails_the_test(project: Project) -> None:
    project.write(
        "test_restart.py",
        """
        def test_it(threadbus_server):
            threadbus_server.stop()
            threadbus_server.db.write_bytes(b"something else")
            threadbus_server.restart()
        """,
    )
    done = project.test()
    assert done.returncode == 1
    assert "1 failed" in done.stdout
    assert "exit code 1. Its log:" in done.stdout
    assert "threadbus.db is not a SQLite database" in done.stdout


def test_an_unused_plugin_costs_next_to_nothing(project: Project) -> None:
    project.write(
        "test_else.py",
        """
        import sys

        def test_it():
            packages = {name.split(".")[0] for name in sys.modules}
            assert not {"grpc", "google", "threadbus", "bus_server"} & packages
            ours = {name for name in sys.modules if name.startswith("bus_client")}
            assert ours == {"bus_client", "bus_client.pytest_plugin"}
        """,
    )
    project.passes(1)


def test_a_server_with_tls_is_reached_by_its_address(project: Project) -> None:
    files, ca_file = pair().save(project.folder), authority().save(project.folder)
    project.write(
        "conftest.py",
        f"""
        import pytest

        @pytest.fixture(scope="session")
        def threadbus_flags():
            return {files.flags!r}
        """,
    )
    project.write(
        "test_tls.py",
        f"""
        import asyncio

        def test_tls(threadbus_server):
            async def talk():
                async with threadbus_server.client(ca_file={str(ca_file)!r}) as bus:
                    assert bus.server == threadbus_server.address

            asyncio.run(talk())
            threadbus_server.restart()
            asyncio.run(talk())
            assert threadbus_server.address.startswith("tls://127.0.0.1:")
        """,
    )
    project.passes(1)
