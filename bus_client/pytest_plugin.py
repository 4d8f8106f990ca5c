"""A pytest plugin: a real server for the tests of what is built on ThreadBus.

Installed with the package, so that these fixtures are simply there:

    import asyncio

    def test_a_reviewer_goes_on_after_a_crash_of_the_server(threadbus_server, threadbus_thread):
        async def talk():
            async with threadbus_server.client(agent="reviewer") as bus:
                thread = await bus.join(threadbus_thread)
                async with threadbus_server.client(agent="coder") as other:
                    await other.thread(threadbus_thread).post("Ready to review.")
                threadbus_server.kill()
                threadbus_server.restart()
                (message,) = await thread.wait(timeout=10)
                assert message.content == "Ready to review."

        asyncio.run(talk())

- `threadbus_server`, one for all tests of a run: a `ThreadBusServer`, a process of its own on a
  free port. Needs the extra `server`.
- `threadbus_thread`: a thread name that no other test has. Nothing is made; joining does that. A
  server that the test before left down is started again.
- `threadbus_flags`, to be overridden in a conftest.py with scope "session": the server's flags, as
  in `threadbus serve --help`. By default `--durability fast`: what a test posts has to
  outlive a killed server, but no power cut.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

# Loaded into every run of pytest where the package is installed: what only a server needs is
# imported when one is started.
if TYPE_CHECKING:
    import subprocess

    from bus_client import BusClient

_START = 60.0  # seconds that a server may take to start, on a busy machine
_STOP = 20.0  # seconds that it may take to end well


class ThreadBusServer:
    """A server for tests. It is running when it is made.

    Its methods block until they are done. Its environment has none of the THREADBUS_… variables.

    Attributes:
        address: Where it listens, `127.0.0.1:PORT`; a restart keeps it.
        db: Its database file, in a temporary folder.
        credentials: A file for the tokens of the tests' agents, so that they are not kept among the
            user's own: `BusClient(…, credentials=threadbus_server.credentials)`.
    """

    def __init__(self, folder: Path, flags: Sequence[str] = ()) -> None:
        self.address = "127.0.0.1:0"
        self.db = folder / "threadbus.db"
        self.credentials = folder / "credentials.json"
        self._flags = flags
        self._log = folder / "server.log"
        self._process = self._start()

    @property
    def operator_token(self) -> str:
        """The token that may do everything, such as post on behalf of others."""
        return self.db.with_name(f"{self.db.name}.operator-token").read_text("ascii").strip()

    @property
    def log(self) -> str:
        """What it has logged since the first start."""
        return self._log.read_text("utf-8", "replace")

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self._process.poll() is None

    def client(self, **options: Any) -> BusClient:
        """A BusClient of this server, not connected yet; `options` are BusClient's."""
        import bus_client

        return bus_client.BusClient(self.address, **{"credentials": self.credentials} | options)

    def kill(self) -> None:
        """Kill it (SIGKILL), as a crash would."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End it well (SIGTERM): it answers what was posted, and ends open waits."""
        import subprocess

        self._process.terminate()
        try:
            self._process.wait(_STOP)
        except subprocess.TimeoutExpired:
            self.kill()

    def restart(self) -> None:
        """Start it again on its address and its file; if it runs, end it well first."""
        self.stop()
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        import json
        import select
        import shlex
        import subprocess

        # -P: what lies in the current folder is not to be taken for one of the server's modules.
        command = [sys.executable, "-P", "-m", "bus_server", *self._flags, "--json"]
        command += ["--listen", self.address, "--db", str(self.db)]
        reading, writing = os.pipe()
        with os.fdopen(reading, "rb") as announced, self._log.open("ab") as log:
            try:
                process = subprocess.Popen(  # noqa: S603
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=writing,
                    stderr=log,
                    env={key: value for key, value in os.environ.items() if "THREADBUS" not in key},
                )
            finally:
                os.close(writing)
            ready, _, _ = select.select([announced], [], [], _START)
            line = announced.readline() if ready else b""
        if not line:
            why = f"it was silent for {_START:g} s"
            if ready:
                why = f"exit code {process.wait()}"
            process.kill()
            process.wait()
            told = self.log.strip() or "(nothing)"
            pytest.fail(
                f"The ThreadBus server did not start: {why}. It said:\n\n{told}\n\n"
                f"It was started with: {shlex.join(command)}",
                pytrace=False,
            )
        self.address = json.loads(line)["listen"]
        return process


@pytest.fixture(scope="session")
def threadbus_flags() -> Sequence[str]:
    """The server's flags; override it to have others."""
    return ["--durability", "fast"]


@pytest.fixture(scope="session")
def threadbus_server(
    tmp_path_factory: pytest.TempPathFactory, threadbus_flags: Sequence[str]
) -> Iterator[ThreadBusServer]:
    """A ThreadBus server, a process of its own: address, db, kill(), restart(), …"""
    server = ThreadBusServer(tmp_path_factory.mktemp("threadbus"), threadbus_flags)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def threadbus_thread(request: pytest.FixtureRequest, threadbus_server: ThreadBusServer) -> str:
    """A thread name that no other test has, on a server that runs."""
    if not threadbus_server.running:
        threadbus_server.restart()
    test = re.sub("[^A-Za-z0-9]+", "-", request.node.name).strip("-")
    return f"{test[:80]}-{os.urandom(4).hex()}"
