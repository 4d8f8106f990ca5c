"""Counts what a store holds, and its sizes."""

import json
import sqlite3
from collections.abc import Mapping

from bus_server import store
from bus_server.store import figures
from bus_server.store.sqlite import reads
from bus_server.store.sqlite.monitor import FileMonitor

_AGENTS = (
    f"SELECT {reads.STATE}, count(*)"  # noqa: S608
    " FROM agent AS a LEFT JOIN presence AS p ON p.agent = a.name"
    " WHERE a.unregister_time = 0 GROUP BY 1"
)
_KNOWN_AGENTS = (
    f"SELECT m.value, {reads.STATE}, count(*)"  # noqa: S608
    " FROM json_each(:presences) AS m CROSS JOIN agent AS a ON a.name = m.key"
    " LEFT JOIN presence AS p ON p.agent = a.name WHERE a.unregister_time = 0 GROUP BY 1, 2"
)
_THREADS = "SELECT count(*) FROM thread"
_REQUESTS = "SELECT count(*), coalesce(sum(due BETWEEN 1 AND :now), 0) FROM asked WHERE state = 1"


def read(
    db: sqlite3.Connection, files: FileMonitor, presences: Mapping[str, int], now: int
) -> store.Figures:
    """Returns the figures of a store, as Store.figures does. `now`: on the store's clock."""
    arguments = {"presences": json.dumps(dict(presences)), "now": now}
    with reads.snapshot(db):
        ((threads,),) = db.execute(_THREADS)
        stored, known = db.execute(_AGENTS, arguments), db.execute(_KNOWN_AGENTS, arguments)
        agents = figures.presences(stored.fetchall(), known.fetchall())
        ((open_requests, overdue_requests),) = db.execute(_REQUESTS, arguments)
        ((free,),) = db.execute("PRAGMA freelist_count")
        ((page_size,),) = db.execute("PRAGMA page_size")
    return store.Figures(
        threads=threads,
        agents=agents,
        open_requests=open_requests,
        overdue_requests=overdue_requests,
        size=files.size,
        free=free * page_size,
        log=files.log_size,
        disk_free=files.disk_free,
    )
