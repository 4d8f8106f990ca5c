"""Connections: their settings, round trips with a deadline, and what the database's errors mean."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import AsyncConnection, conninfo

from bus_server.errors import StorageFull, StoreBug, StoreBusy, StoreFailed, StoreRefused
from bus_server.store.faults import Faults
from bus_server.store.postgres import wording
from bus_server.store.postgres.arrays import ADAPTERS

#: A statement, and its parameters by name.
Statement = tuple[str, Mapping[str, object]]
Row = tuple[Any, ...]

#: SQL for the database's time, in microseconds since the Unix epoch.
NOW = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"

#: Seconds in which a connection is made.
CONNECT_TIMEOUT = 5
#: Seconds in which the database answers a round trip, besides the time it may wait for locks. After
#: that the connection is given up: a machine that hangs keeps its connections open.
ANSWER_TIMEOUT = 6.0
#: Seconds after which the database rolls a transaction back that sends no statement. Its server
#: hangs, and others wait for its locks. A transaction pauses only while a batch is decided.
IDLE_TIMEOUT = 10

_SETTINGS = {
    # Every query looks up keys in indexes, whatever the statistics say: a plan that is made while a
    # table is empty is kept when it is large.
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
    "plan_cache_mode": "force_generic_plan",
    # A wait for the standby that was cancelled, and a session that does not end, are only warnings.
    "client_min_messages": "warning",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "idle_in_transaction_session_timeout": f"{IDLE_TIMEOUT}s",
    # The deadlines of round trips hold instead.
    "statement_timeout": "0",
    "idle_session_timeout": "0",
}

#: The name under which it is logged that a server can make no more connections.
_EXHAUSTED = "the database has no connection left, posts and reads may wait or fail"

#: SQLSTATEs of a transaction that was rolled back because of others, so that it can be run again:
#: a deadlock, a serialization failure, a key that another one has just inserted, and a statement
#: that an operator cancelled.
_CONFLICTS = ("40P01", "40001", "23505", "57014")
#: SQLSTATEs and classes of them that mean that the session is over: connection exceptions, a
#: shutdown, a session that was idle for too long, and a database that has become a standby.
_LOST = ("08", "57P01", "57P02", "57P03", "57P05", "25P03", "25006")
#: SQLSTATEs and classes of failures of the database: no memory or connections left, I/O errors,
#: damaged data.
_FAILED = ("53", "58", "XX001", "XX002")


class ConnectionLost(Exception):
    """The connection was lost or could not be made. The message says how."""


class Conflict(Exception):
    """The transaction was rolled back because of others: run it again."""


def translate_error(error: psycopg.Error) -> Exception:
    """Returns what an error of the database means: one of the store's, or one of the above."""
    state, text = error.sqlstate or "", wording.failure(error)
    fatal = error.diag.severity_nonlocalized in ("FATAL", "PANIC")
    unsaid = not state and isinstance(error, psycopg.OperationalError)
    if fatal or unsaid or state.startswith(_LOST):
        return ConnectionLost(text)
    if state in _CONFLICTS:
        return Conflict(text)
    if state == "55P03":
        return StoreBusy("the database is locked by another server or program")
    if state == "53100":
        return StorageFull()
    if state.startswith(_FAILED):
        return StoreFailed(f"{text} ({state})")
    return StoreBug(f"{text} ({state or type(error).__name__})")


@dataclass(slots=True)
class Database:
    """How to connect to the database of a store."""

    #: A connection URI or string of libpq. It may contain a password.
    url: str
    #: As the setting of this name.
    durability: str
    #: Seconds to wait for each lock that others hold.
    busy_timeout: float
    #: Whether a connection was made before. A server that does not start logs nothing here.
    _reached: bool = field(default=False, repr=False)
    _faults: Faults = field(default_factory=Faults, repr=False)

    def __str__(self) -> str:
        """Returns the URL of the database without user, password and options."""
        try:
            return wording.url(self._given())
        except ConnectionLost:
            return "the database"

    def check_url(self) -> None:
        """Raises StoreRefused if part of a password would be taken for a host or database."""
        try:
            given = self._given()
        except ConnectionLost:
            return  # `connect` says so
        if any("@" in str(given.get(part, "")) for part in ("host", "port", "dbname")):
            raise StoreRefused(
                "--store: a special character of the user or the password is not encoded: write "
                "%40 for @, %2F for /, %3A for :"
            )

    def _given(self) -> dict[str, Any]:
        try:
            return conninfo.conninfo_to_dict(self.url)
        except psycopg.ProgrammingError:  # its text may have the password
            raise ConnectionLost("this is no connection URI or string of libpq") from None

    @property
    def lock_timeout(self) -> float:
        """Seconds that a round trip may take which waits for locks."""
        return self.busy_timeout + ANSWER_TIMEOUT

    def parameters(self, **settings: str) -> str:
        """Returns libpq's parameters of a connection, as a string that may contain a password.

        `settings`: of the session, besides those that every session of a store has.

        Raises ConnectionLost if the URL is none, and psycopg.Error.
        """
        settings = _SETTINGS | {
            "lock_timeout": f"{max(1, round(self.busy_timeout * 1000))}ms",
            # on: a COMMIT is answered once it is on disk, and on the synchronous standby if any.
            "synchronous_commit": "off" if self.durability == "fast" else "on",
            **settings,
        }
        given = self._given()
        options = [given.get("options") or ""]
        options += [f"-c {name}={_quoted(value)}" for name, value in settings.items()]
        defaults: dict[str, Any] = {
            "application_name": "threadbus",
            "target_session_attrs": "read-write",
            "connect_timeout": CONNECT_TIMEOUT,
            "tcp_user_timeout": round(ANSWER_TIMEOUT * 1000),
            "keepalives_idle": 10,
        }
        always = {"options": " ".join(options), "client_encoding": "utf8"}
        return conninfo.make_conninfo(**(defaults | given | always))

    async def connect(self) -> "Connection":
        """Returns a new connection. Raises ConnectionLost if it cannot be made."""
        try:
            opened: AsyncConnection[Row] = await AsyncConnection.connect(
                self.parameters(), autocommit=True, context=ADAPTERS_CONTEXT
            )
        except psycopg.Error as error:
            raise ConnectionLost(self._failed(wording.connect_failure(error))) from error
        except UnicodeError as error:
            raise ConnectionLost("the name of its host is not valid") from error
        self._reached = True
        self._faults.end(_EXHAUSTED)
        return Connection(opened)

    def _failed(self, reason: str) -> str:
        """Returns why no connection was made. Logs it if the database has none left."""
        if wording.EXHAUSTED.search(reason):
            reason += " (a server uses up to 7: see max_connections)"
            if self._reached:
                self._faults.begin(_EXHAUSTED, f"{self}: {reason}")
        return reason


def _unanswered(statement: Statement, timeout: float) -> str:
    if statement[0] == "COMMIT":
        return f"no answer to a COMMIT for {timeout:g} s; its synchronous standby may be away"
    return f"no answer for {timeout:g} s"


def _quoted(value: str) -> str:
    """Returns a value as it is written in libpq's `options`."""
    return value.replace("\\", "\\\\").replace(" ", "\\ ")


class _Context:
    """What psycopg takes the adapters of a connection from."""

    adapters = ADAPTERS
    connection = None


ADAPTERS_CONTEXT = _Context()


class Connection:
    """A connection to the database. Used by one task at a time."""

    def __init__(self, opened: AsyncConnection[Row]) -> None:
        self._opened = opened
        #: The first warning since this was set to None.
        self.warning: str | None = None
        self._late = False
        opened.add_notice_handler(self._note)

    def _note(self, notice: psycopg.errors.Diagnostic) -> None:
        if notice.severity_nonlocalized == "WARNING":
            self.warning = self.warning or notice.message_primary

    @property
    def usable(self) -> bool:
        """Whether the connection is not lost, and not within a transaction."""
        idle = psycopg.pq.TransactionStatus.IDLE
        return self._opened.pgconn.transaction_status == idle

    async def run(self, *statements: Statement, timeout: float | None = None) -> list[list[Row]]:
        """Run statements in one round trip. Returns the rows of each.

        The statements after one that fails are not run. Do not cancel the task: psycopg would try
        to cancel the statement, and wait for that.

        Args:
            timeout: seconds after which the connection is given up; None: ANSWER_TIMEOUT.

        Raises:
            ConnectionLost: it is unknown which statements were run.
            Conflict, BusError, StoreBug: a statement failed.
        """
        timeout = ANSWER_TIMEOUT if timeout is None else timeout
        deadline = asyncio.get_running_loop().call_later(timeout, self._give_up)
        try:
            if len(statements) == 1:
                cursors = [await self._execute(*statements[0])]
            else:
                async with self._opened.pipeline():
                    cursors = [await self._execute(*each) for each in statements]
            return [await cursor.fetchall() if cursor.description else [] for cursor in cursors]
        except psycopg.Error as error:
            if self._late:
                raise ConnectionLost(_unanswered(statements[-1], timeout)) from error
            raise translate_error(error) from error
        finally:
            deadline.cancel()

    async def _execute(self, query: str, params: Mapping[str, object]) -> psycopg.AsyncCursor[Row]:
        return await self._opened.execute(query, params, prepare=True, binary=True)

    async def run_script(self, script: str) -> None:
        """Run statements without parameters, separated by semicolons. Raises as `run` does."""
        try:
            await self._opened.execute(script, prepare=False)
        except psycopg.Error as error:
            raise translate_error(error) from error

    async def listen(self, channel: str) -> None:
        """Get the notifications of a channel, an SQL identifier. Raises as `run` does."""
        await self.run((f"LISTEN {channel}", {}))

    async def receive(self, on_payload: Callable[[str], None], timeout: float) -> None:
        """Call `on_payload` with the payload of each notification, and do nothing else.

        `timeout`: seconds without a notification after which the connection is given up.

        Raises ConnectionLost, and what `on_payload` raises.
        """
        # Not with psycopg's notifies, which wakes up ten times a second.
        loop, arrived, connection = asyncio.get_running_loop(), asyncio.Event(), self._opened.pgconn
        descriptor = connection.socket
        loop.add_reader(descriptor, arrived.set)
        try:
            while True:
                while (notification := connection.notifies()) is not None:
                    on_payload(notification.extra.decode())
                async with asyncio.timeout(timeout):
                    await arrived.wait()
                arrived.clear()
                connection.consume_input()
        except TimeoutError:
            raise ConnectionLost(f"no notification for {timeout:g} s") from None
        except psycopg.Error as error:
            raise translate_error(error) from error
        finally:
            loop.remove_reader(descriptor)

    def _give_up(self) -> None:
        self._late = True
        self.cut()

    def cut(self) -> None:
        """Shut the socket down, so that the statement that runs fails at once."""
        with contextlib.suppress(OSError, psycopg.Error):
            descriptor = os.dup(self._opened.fileno())
            with socket.socket(fileno=descriptor) as duplicate:
                duplicate.shutdown(socket.SHUT_RDWR)

    async def close(self) -> None:
        """Close the connection. The database rolls back what was not committed."""
        await self._opened.close()
