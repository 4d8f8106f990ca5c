"""What a copy of a store to another engine consists of: its tables, and the two ends.

Everything of a store is copied, except:

- `purge`, and the rows of the deleted threads in it: nobody can see them any more.
- `server`, `wait`: of servers that run, and none may.
- `writer` of PostgreSQL: of the sessions of servers.
- `clock` of SQLite: copied from file to file. Elsewhere, times on the store's clock are moved to
  that of the target.
- `store` and `meta`: the store's epoch is copied; what else is there says where the store is.
- The last id that a thread was given: copied, so that ids are not used again.
"""

import enum
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

#: The values of a row, in the order of the table's columns.
Row = tuple[Any, ...]
#: The values of a row's key.
Key = tuple[Any, ...]


class Kind(enum.Enum):
    """What a column holds. In rows, all but texts and bytes are integers."""

    INT = "64 bits"
    SMALL = "32 bits"
    FLAG = "0 or 1; in PostgreSQL a boolean"
    ORDER = "a time; in SQLite an order time (sqlite/order.py)"
    CLOCK = "a time on the store's clock, or 0 or 1, which are none"
    NAME = "a text without U+0000"
    TEXT = "any text; in PostgreSQL its UTF-8"
    BYTES = "bytes"


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A table that is copied, as its rows are between the engines."""

    name: str
    key: tuple[str, ...]
    columns: Mapping[str, Kind]

    @property
    def is_of_threads(self) -> bool:
        """Whether its rows belong to threads."""
        return self.key[0] == "thread_id"

    @property
    def body(self) -> int | None:
        """The place of the body in a row; None: there is none."""
        return list(self.columns).index("body") if "body" in self.columns else None

    def key_of(self, row: Row) -> dict[str, Any]:
        """Returns the key of a row, by column."""
        values = dict(zip(self.columns, row, strict=True))
        return {column: values[column] for column in self.key}

    def kinds(self, *kinds: Kind) -> tuple[int, ...]:
        """Returns the places of the columns of these kinds in a row."""
        return tuple(at for at, kind in enumerate(self.columns.values()) if kind in kinds)


_INT, _SMALL, _FLAG, _ORDER = Kind.INT, Kind.SMALL, Kind.FLAG, Kind.ORDER
_CLOCK, _NAME, _TEXT, _BYTES = Kind.CLOCK, Kind.NAME, Kind.TEXT, Kind.BYTES

#: last_seq and last_time: in PostgreSQL they are columns, in SQLite they follow from the messages.
THREAD = Table(
    "thread",
    ("id",),
    {
        "id": _INT,
        "name": _NAME,
        "epoch": _NAME,
        "state": _SMALL,
        "sync_mode": _SMALL,
        "last_seq": _INT,
        "last_time": _ORDER,
        "active_time": _ORDER,
        "first_seq": _INT,
        "retained": _FLAG,
        "body": _BYTES,
    },
)
MESSAGE = Table(
    "message",
    ("thread_id", "seq"),
    {"thread_id": _INT, "seq": _INT, "time": _ORDER, "sender": _NAME, "body": _BYTES},
)
#: Tables to which posts append, and whose oldest rows are removed: either shows in the heads of
#: threads.
_LOGS = (
    MESSAGE,
    Table(
        "request",
        ("thread_id", "sender", "request_id"),
        {
            "thread_id": _INT,
            "sender": _NAME,
            "request_id": _NAME,
            "seq": _INT,
            "post_hash": _BYTES,
        },
    ),
    Table(
        "entry",
        ("thread_id", "seq"),
        {"thread_id": _INT, "seq": _INT, "edit_of": _INT, "edit_seq": _INT},
    ),
    Table(
        "addressed",
        ("thread_id", "agent", "wakes", "seq"),
        {"thread_id": _INT, "agent": _NAME, "wakes": _FLAG, "seq": _INT},
    ),
    Table(
        "quiet",
        ("thread_id", "seq"),
        {"thread_id": _INT, "seq": _INT, "number": _INT, "wakes": _SMALL},
    ),
)
#: The other tables: a store has changed if one of them has.
STATE = (
    THREAD,
    Table(
        "asked",
        ("thread_id", "seq", "agent"),
        {
            "thread_id": _INT,
            "seq": _INT,
            "agent": _NAME,
            "asker": _NAME,
            "state": _SMALL,
            "create_time": _INT,
            "open_time": _CLOCK,
            "due": _CLOCK,
            "reply_seq": _INT,
            "noticed": _SMALL,
        },
    ),
    Table(
        "participant",
        ("thread_id", "agent"),
        {
            "thread_id": _INT,
            "agent": _NAME,
            "read_seq": _INT,
            "join_time": _INT,
            "delivered_seq": _INT,
            "passed_over": _INT,
        },
    ),
    Table(
        "agent",
        ("name",),
        {"name": _NAME, "kind": _SMALL, "unregister_time": _INT, "body": _BYTES},
    ),
    Table(
        "presence",
        ("agent",),
        {
            "agent": _NAME,
            "status_text": _TEXT,
            "last_seen_time": _CLOCK,
            "lease_end_time": _CLOCK,
            "state_time": _CLOCK,
            "reported": _SMALL,
            "work_time": _CLOCK,
            "working_end_time": _CLOCK,
            "sends_heartbeats": _FLAG,
        },
    ),
    Table(
        "token",
        ("hash",),
        {
            "hash": _BYTES,
            "agent": _NAME,
            "create_time": _INT,
            "expire_time": _CLOCK,
            "id": _NAME,
            "scopes": _NAME,
            "prefixes": _NAME,
            "end_time": _CLOCK,
            "last_use_time": _INT,
        },
    ),
)
#: All tables that are copied, in this order.
TABLES = (*STATE, *_LOGS)


class Mark(NamedTuple):
    """What an unfinished copy has about itself, until it is finished."""

    #: Of the source as it was when the copy began.
    fingerprint: str
    #: Microseconds that are added to times on the source's clock.
    shift: int


class Clock(NamedTuple):
    """The row of SQLite's table clock."""

    boot: str
    base: int


class End(Protocol):
    """One end of a copy. Its methods raise StoreRefused if its store fails."""

    #: Where the store is, without a password.
    name: str
    #: Whether ORDER columns hold order times.
    has_order_times: bool
    #: The row of the table clock; None if the engine has none, or there is no row.
    clock: Clock | None

    def now(self) -> int:
        """Returns the time of the store's clock, in microseconds."""

    def rows(
        self, table: Table, after: Key | None = None, *, order_times: bool = True
    ) -> Generator[Row]:
        """Yields the rows of a table in the order of their keys, but those of deleted threads.

        They are read while they are yielded. Exhaust or close one iterator before the next.

        Args:
            after: only rows with greater keys.
            order_times: give ORDER columns as they are stored; else as the wall clock's times.
        """

    def count(self, table: Table) -> int:
        """Returns the number of rows that `rows` yields for a table."""


class Source(End, Protocol):
    """The end that is read. No server can write to its store while it is open."""

    #: Of the store.
    epoch: str
    #: Differs from that of any other store. Two ends with the same are one store.
    identity: str

    def last_thread_id(self) -> int:
        """Returns the greatest id that a thread was given; 0: none was."""

    def check_unchanged(self) -> None:
        """Raises StoreRefused if the store was written to since it was opened."""


class Target(End, Protocol):
    """The end that is written: an unfinished copy, which no server serves."""

    #: None: the copy has not begun, and there are no rows.
    mark: Mark | None

    def begin(self, mark: Mark) -> None:
        """Delete all rows, and set the mark."""

    def last_key(self, table: Table) -> Key | None:
        """Returns the greatest key of a table; None: it has no rows."""

    def insert(self, table: Table, rows: Sequence[Row]) -> None:
        """Insert rows in one transaction. The next ones must have greater keys."""

    def finish(self, last_thread_id: int, clock: Clock | None) -> None:
        """Check the indexes, put the rest in place, and make it a store that can be served."""
