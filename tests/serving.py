"""Real servers for the tests: each a process of its own, on a free port, over a real file."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

from tests.forked import Forked
from tests.ports import free_port

if TYPE_CHECKING:
    # The types of stubs made with an aio channel; the names exist for type checkers only.
    from threadbus.v1.admin_service_pb2_grpc import AdminServiceAsyncStub as AdminStub
    from threadbus.v1.agent_service_pb2_grpc import AgentServiceAsyncStub as AgentStub
    from threadbus.v1.bus_service_pb2_grpc import BusServiceAsyncStub as BusStub
    from threadbus.v1.thread_service_pb2_grpc import ThreadServiceAsyncStub as ThreadStub
else:
    from threadbus.v1.admin_service_pb2_grpc import AdminServiceStub as AdminStub
    from threadbus.v1.agent_service_pb2_grpc import AgentServiceStub as AgentStub
    from threadbus.v1.bus_service_pb2_grpc import BusServiceStub as BusStub
    from threadbus.v1.thread_service_pb2_grpc import ThreadServiceStub as ThreadStub

__all__ = ["AdminStub", "AgentStub", "BusStub", "ServerProcess", "ThreadStub"]


#: Returns the URL of the database that stands for a file; None: tests run on files.
database_of: Callable[[Path], str] | None = None
#: Whether the running test has the fixture `chosen_store`, or is about files.
declared = True


def store_flags(db: Path, url: str | None = None) -> list[str]:
    """Returns the flags for a server over a file, or over the database that stands for it.

    `url`: that of the database; empty: the file itself; None: as the tests are run.
    """
    if url is None and database_of is not None:
        url = database_of(db)
    elif url is None:
        # With --store postgresql, such a test is not run.
        assert declared, "a test that starts a server needs the fixture chosen_store"
    if not url:
        return ["--db", str(db)]
    token_file = db.with_name(f"{db.name}.operator-token")
    return ["--store", url, "--operator-token-file", str(token_file)]


class ServerProcess:
    """A server process. `start` returns once it listens; a restart keeps port and file.

    `listen`: where; empty: a free port of 127.0.0.1.
    """

    def __init__(
        self,
        db: Path,
        *flags: str,
        listen: str = "",
        tree: Path | None = None,
        environment: Mapping[str, str] | None = None,
        fresh: bool = False,
        url: str | None = None,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        self.db = db
        #: As for `store_flags`.
        self.url = url
        #: Environment variables of this server only.
        self.environment = environment or {}
        #: As for `Forked`. Without effect if the server is not forked.
        self.prepare = prepare
        #: The folder of its code, if it is not this tree's.
        self.tree = tree
        #: Run by an interpreter of its own, which inherits this process's umask, limits and ignored
        #: signals; else forked, which is faster.
        self.fresh = fresh or bool(tree or environment) or sys.platform != "linux"
        self.flags = flags
        self.address = listen or f"127.0.0.1:{free_port()}"
        self.announcement = ""
        self.log: list[str] = []
        self.process: subprocess.Popen[str] | Forked | None = None

    def start(self) -> Self:
        """Start, and wait until it logs that it listens."""
        self.process = self.spawn() if self.fresh else self._fork()
        assert self.process.stdout is not None
        self.announcement = self.process.stdout.readline().strip()
        where = re.match(r"listening on (\S+) · ", self.announcement)
        if where is None:
            self.kill()
            raise AssertionError(f"the server did not start: {''.join(self.log)}")
        self.address = where[1]
        return self

    def spawn(self) -> subprocess.Popen[str]:
        """Start without waiting, in a new interpreter: for servers that should refuse to start."""
        process = subprocess.Popen(
            [sys.executable, "-m", "bus_server", *self._arguments()],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.tree,
            env=self._environ(),
        )
        assert process.stderr is not None
        self._start_to_read(process.stderr)
        return process

    def _fork(self) -> Forked:
        process = Forked(self._arguments(), self._environ(), self.prepare)
        self._start_to_read(process.stderr)
        return process

    def _arguments(self) -> list[str]:
        return ["--listen", self.address, *store_flags(self.db, self.url), *self.flags]

    def _environ(self) -> dict[str, str]:
        inherited = {key: value for key, value in os.environ.items() if "THREADBUS" not in key}
        return inherited | dict(self.environment)

    def _start_to_read(self, log: IO[str]) -> None:
        self._log_reader = threading.Thread(target=self._read, args=(log,), daemon=True)
        self._log_reader.start()

    def _read(self, log: IO[str]) -> None:
        with log:
            self.log.extend(log)

    @property
    def problems(self) -> list[str]:
        """Returns the lines logged, but for those about draining and stopping."""
        return [line for line in self.log if " INFO " not in line]

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it with SIGKILL, and wait for its end."""
        if self.process is not None:
            self.process.kill()
            self._reap()

    def stop(self) -> int:
        """Send SIGTERM and wait; returns the exit code."""
        self.signal(signal.SIGTERM)
        return self._reap()

    def _reap(self) -> int:
        assert self.process is not None
        code = self.process.wait(30)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._log_reader.join(10)
        self.process = None
        return code

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.kill()
