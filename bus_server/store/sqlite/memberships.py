"""Reads of which threads agents take part."""

import json
import sqlite3
from collections.abc import Sequence

from bus_server import store
from bus_server.store.sqlite import activity, reads
from threadbus.v1.thread_pb2 import ThreadState

#: The columns of a Membership.
_MEMBERSHIP = "m.read_seq, m.passed_over, max({}, {})".format(
    *(
        "coalesce((SELECT max(seq) FROM addressed WHERE thread_id = m.thread_id"  # noqa: S608
        f" AND agent = m.agent AND wakes = {wakes}), 0)"
        for wakes in (0, 1)
    )
)
_MEMBERSHIPS = (
    f"SELECT {reads.HEAD_COLUMNS}, {_MEMBERSHIP} FROM participant AS m"  # noqa: S608
    " JOIN thread AS t ON t.id = m.thread_id"
    " WHERE m.agent = ? AND m.thread_id > ? ORDER BY m.thread_id LIMIT ?"
)
# With +, all participants of a thread are read, rather than looked up agent by agent: there may be
# more agents.
_MEMBERS = (
    f"SELECT t.name, m.agent, {_MEMBERSHIP} FROM json_each(?) AS n"  # noqa: S608
    " JOIN thread AS t ON t.name = n.value JOIN participant AS m ON m.thread_id = t.id"
    " AND +m.agent IN (SELECT value FROM json_each(?))"
)
_STATES = [state for state in ThreadState.values() if state]


def memberships(
    db: sqlite3.Connection, agent: str, after: int, limit: int
) -> list[tuple[str, store.Head, store.Membership]]:
    """Returns threads of which an agent is a participant, as Store.memberships does."""
    rows = db.execute(_MEMBERSHIPS, (agent, after, limit))
    return [(row[0], reads.to_head(*row[1:7]), store.Membership(*row[7:])) for row in rows]


def members(
    db: sqlite3.Connection, names: Sequence[str], agents: Sequence[str]
) -> dict[str, dict[str, store.Membership]]:
    """Returns which agents are participants of threads, as Store.members does."""
    found: dict[str, dict[str, store.Membership]] = {}
    for name, agent, *rest in db.execute(_MEMBERS, (json.dumps(names), json.dumps(agents))):
        found.setdefault(name, {})[agent] = store.Membership(*rest)
    return found


def recently_active(db: sqlite3.Connection, since: int) -> tuple[list[str], int]:
    """Returns the threads with new entries, as Store.recently_active does.

    Order times do not decrease, so what was committed after a call is not older than the newest
    entry then.
    """
    newest = max(
        db.execute("SELECT max(active_time) FROM thread WHERE state = ?", (state,)).fetchone()[0]
        or 0
        for state in _STATES
    )
    names = [
        name
        for state in _STATES
        for (name,) in db.execute(
            "SELECT name FROM thread WHERE state = ? AND active_time > ?",
            (state, (since or newest) - activity.GRANULARITY),
        )
    ]
    return names, newest
