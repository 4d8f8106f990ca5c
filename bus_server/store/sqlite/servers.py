"""Reads and writes the servers on the store, and their open waits."""

import sqlite3
from collections.abc import Set

from bus_server import store
from bus_server.store import bodies
from bus_server.store.batch import Changes
from threadbus.v1.admin_service_pb2 import Wait

_NUMBERS = "SELECT number FROM wait WHERE server = ?"
_WAITS = "SELECT number, body FROM wait WHERE server = ? AND number BETWEEN ? AND ?"


def servers(db: sqlite3.Connection) -> dict[str, store.ServerLease]:
    """Returns the servers that are stored, as Store.servers does."""
    rows = db.execute("SELECT name, renew_time, lease FROM server")
    return {name: store.ServerLease(*lease) for name, *lease in rows}


def waits(db: sqlite3.Connection, server: str, known: Set[int]) -> tuple[set[int], dict[int, Wait]]:
    """Returns the open waits of a server, as Store.server_waits does."""
    numbers = {number for (number,) in db.execute(_NUMBERS, (server,))}
    missing = numbers - known
    new = dict[int, Wait]()
    if missing:
        rows = db.execute(_WAITS, (server, min(missing), max(missing)))
        new = bodies.waits_of((number, body) for number, body in rows if number in missing)
    return numbers & known | new.keys(), new


def write(db: sqlite3.Connection, changes: Changes, store_now: int) -> None:
    """Write the changes of servers and their waits. `store_now`: on the store's clock."""
    for name in changes.removed_servers:
        db.execute("DELETE FROM server WHERE name = ?", (name,))
        db.execute("DELETE FROM wait WHERE server = ?", (name,))
    for name, lease in changes.servers.items():
        db.execute(
            "INSERT INTO server (name, renew_time, lease) VALUES (?, ?, ?) ON CONFLICT DO UPDATE"
            " SET renew_time = max(renew_time + 1, excluded.renew_time), lease = excluded.lease",
            (name, store_now, lease),
        )
    db.executemany(
        "INSERT INTO wait (server, number, body) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        [(*key, body) for key, body in changes.opened_waits.items()],
    )
    close = "DELETE FROM wait WHERE server = ? AND number = ?"
    db.executemany(close, changes.closed_waits)
