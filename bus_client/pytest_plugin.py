"""A pytest plugin with a real server, for tests of programs that use ThreadBus.

The plugin is installed with the package; its fixtures need no import:

    import asyncio

    def test_a_reviewer_survives_a_crash_of_the_server(threadbus_server, threadbus_thread):
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

- `threadbus_server`: a `ThreadBusServer` in a process of its own on a free port. All tests of a run
  share it (with pytest-xdist: all tests of a worker). Needs the extra `server`.
- `threadbus_thread`: a thread name that no other test has. The thread is created by joining it.
  This fixture restarts the server if a test has left it stopped.
- `threadbus_flags`: the server's flags, see `threadbus serve --help`. Override it in a conftest.py
  with scope "session". The default is `--durability fast`: messages survive a killed server, but
  not a power failure.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

# pytest loads this module in every run where the package is installed, so modules that only a
# server needs are imported lazily.
if TYPE_CHECKING:
    import subprocess

    from bus_client import BusClient

_START_TIMEOUT = 60.0  # seconds for a server to start on a busy machine
_STOP_TIMEOUT = 20.0  # seconds for a server to stop before it is killed


class ThreadBusServer:
    """A server for tests. Creating the object starts it; the test fails if it does not start.

    Methods block. The server's process gets none of the THREADBUS_… environment variables.

    Attributes:
        address: Where it listens, `127.0.0.1:PORT`, or with TLS `tls://127.0.0.1:PORT`; restart()
            keeps it.
        db: Its database file, in a temporary folder.
        credentials: A credentials file for the tests' agents, to keep their tokens out of the
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
        """The operator's token, which permits every call, such as posting on behalf of others."""
        return self.db.with_name(f"{self.db.name}.operator-token").read_text("ascii").strip()

    @property
    def log(self) -> str:
        """The server's log since its first start."""
        return self._log.read_text("utf-8", "replace")

    @property
    def running(self) -> bool:
        """Whether its process is running."""
        return self._process.poll() is None

    def client(self, **options: Any) -> BusClient:
        """Returns a BusClient for this server, not connected yet. `options` are BusClient's."""
        import bus_client

        return bus_client.BusClient(self.address, **{"credentials": self.credentials} | options)

    def kill(self) -> None:
        """Kill the server with SIGKILL, as a crash would."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Stop the server with SIGTERM: it completes posts and ends waits. Kill it after 20 s."""
        import subprocess

        self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.kill()

    def restart(self) -> None:
        """Start the server again on the same address and file. Stop it first if it is running."""
        self.stop()
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        import json
        import select
        import shlex
        import subprocess

        # -P: the server must not import modules from the current folder.
        command = [sys.executable, "-P", "-m", "bus_server", *self._flags, "--json"]
        command += ["--listen", self.address.removeprefix("tls://"), "--db", str(self.db)]
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
            ready, _, _ = select.select([announced], [], [], _START_TIMEOUT)
            line = announced.readline() if ready else b""
        if not line:
            why = f"it printed nothing for {_START_TIMEOUT:g} s"
            if ready:
                why = f"exit code {process.wait()}"
            process.kill()
            process.wait()
            log_text = self.log.strip() or "(nothing)"
            pytest.fail(
                f"The ThreadBus server did not start: {why}. Its log:\n\n{log_text}\n\n"
                f"Its command was: {shlex.join(command)}",
                pytrace=False,
            )
        told = json.loads(line)
        self.address = f"tls://{told['listen']}" if told["tls"] else told["listen"]
        return process


@pytest.fixture(scope="session")
def threadbus_flags() -> Sequence[str]:
    """The flags of `threadbus serve` for the server. Override this fixture to change them."""
    return ["--durability", "fast"]


@pytest.fixture(scope="session")
def threadbus_server(
    tmp_path_factory: pytest.TempPathFactory, threadbus_flags: Sequence[str]
) -> Iterator[ThreadBusServer]:
    """A ThreadBusServer: a server in a process of its own, shared by all tests of the run."""
    server = ThreadBusServer(tmp_path_factory.mktemp("threadbus"), threadbus_flags)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def threadbus_thread(request: pytest.FixtureRequest, threadbus_server: ThreadBusServer) -> str:
    """A thread name that no other test has, on a running server."""
    if not threadbus_server.running:
        threadbus_server.restart()
    test = re.sub("[^A-Za-z0-9]+", "-", request.node.name).strip("-")
    return f"{test[:80]}-{os.urandom(4).hex()}"
