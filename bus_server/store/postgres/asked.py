"""Reads and writes of requests."""

from collections.abc import Iterable, Sequence
from typing import Any

from bus_server import store
from bus_server.store.batch import Changes
from bus_server.store.bodies import BEGINNING, traceparent_of
from bus_server.store.commands import MAX_SEQ
from bus_server.store.compact_commands import COMPACT_ROWS
from bus_server.store.facts import Facts, Needs
from bus_server.store.postgres.arrays import Ints, Texts, texts, without_nul
from bus_server.store.postgres.connection import Connection, Row, Statement
from threadbus.v1.request_pb2 import RequestState

_COLUMNS = (
    "a.thread_id, a.seq, a.agent, a.asker, a.state, a.create_time, a.open_time, a.due, a.reply_seq,"
    " a.noticed"
)
#: The beginning of the message that asks; NULL where no notice can follow.
_BEGINNING = f"""(SELECT substring(body FOR {BEGINNING}) FROM message
    WHERE thread_id = a.thread_id AND seq = a.seq)"""  # noqa: S608
_NO_BEGINNING = "NULL::bytea"
_THREAD = "CROSS JOIN LATERAL (SELECT id FROM thread WHERE name = n.thread LIMIT 1) AS t"
_GATHER = f"""
SELECT {_COLUMNS}, {_BEGINNING} FROM unnest(%(threads)s, %(agents)s) AS n (thread, agent)
{_THREAD} CROSS JOIN LATERAL (
    SELECT * FROM asked WHERE agent = n.agent AND thread_id = t.id AND state = 1 OFFSET 0
) AS a
UNION
SELECT {_COLUMNS}, {_NO_BEGINNING} FROM unnest(%(closing)s) AS n (thread)
{_THREAD} CROSS JOIN LATERAL (
    SELECT * FROM asked WHERE thread_id = t.id AND state = 1 OFFSET 0
) AS a
UNION
SELECT {_COLUMNS}, {_NO_BEGINNING}
FROM unnest(%(replying)s, %(repliers)s, %(replied)s) AS n (thread, agent, seq)
{_THREAD} CROSS JOIN LATERAL (
    SELECT * FROM asked WHERE thread_id = t.id AND seq = n.seq AND agent = n.agent OFFSET 0
) AS a
UNION
SELECT {_COLUMNS}, {_BEGINNING} FROM unnest(%(asking)s, %(asking_seqs)s) AS n (thread, seq)
{_THREAD} CROSS JOIN LATERAL (
    SELECT * FROM asked WHERE thread_id = t.id AND seq = n.seq OFFSET 0
) AS a
UNION
SELECT {_COLUMNS}, {_BEGINNING} FROM unnest(%(fronts)s) AS n (thread)
CROSS JOIN LATERAL (SELECT id, first_seq FROM thread WHERE name = n.thread LIMIT 1) AS t
CROSS JOIN LATERAL (
    SELECT * FROM asked WHERE thread_id = t.id AND state = 1
    AND seq BETWEEN t.first_seq AND t.first_seq + {COMPACT_ROWS} - 1 OFFSET 0
) AS a
"""  # noqa: S608
_COUNT_OPEN = f"""
SELECT t.id, n.agent, (SELECT count(*) FROM (
    SELECT 1 FROM asked WHERE agent = n.agent AND thread_id = t.id AND state = 1
    LIMIT {store.MAX_OPEN_REQUESTS}
) AS r) FROM unnest(%(threads)s, %(agents)s) AS n (thread, agent) {_THREAD}
"""  # noqa: S608
_READ = (
    "(SELECT greatest(read_seq, passed_over) FROM participant"
    " WHERE thread_id = a.thread_id AND agent = a.agent)"
)
_SAVE = """
INSERT INTO asked (thread_id, seq, agent, asker, state, create_time, open_time, due, reply_seq,
    noticed)
SELECT * FROM unnest(%(threads)s, %(seqs)s, %(agents)s, %(askers)s, %(states)s, %(create_times)s,
    %(open_times)s, %(dues)s, %(reply_seqs)s, %(noticed)s)
ON CONFLICT (thread_id, seq, agent) DO UPDATE SET state = excluded.state,
    reply_seq = excluded.reply_seq, noticed = excluded.noticed
"""


def any_needed(needs: Needs) -> bool:
    """Returns whether any requests are needed."""
    return bool(needs.asked or needs.closing or needs.asking or needs.replies or needs.fronts)


def statement(needs: Needs) -> Statement:
    """Returns the statement that looks up the needed requests."""
    asked = without_nul(needs.asked)
    asking = without_nul(key for key in needs.asking if key[1] <= MAX_SEQ)
    replies = without_nul(reply for reply in needs.replies if reply[2] <= MAX_SEQ)
    return _GATHER, {
        "threads": Texts(thread for thread, _ in asked),
        "agents": Texts(agent for _, agent in asked),
        "closing": texts(needs.closing),
        "replying": Texts(thread for thread, _, _ in replies),
        "repliers": Texts(agent for _, agent, _ in replies),
        "replied": Ints(seq for _, _, seq in replies),
        "fronts": texts(needs.fronts),
        "asking": Texts(thread for thread, _ in asking),
        "asking_seqs": Ints(seq for _, seq in asking),
    }


def count_statement(needs: Needs) -> Statement:
    """Returns the statement that counts the open requests of agents to be asked."""
    asks = without_nul(needs.asks)
    return _COUNT_OPEN, {
        "threads": Texts(thread for thread, _ in asks),
        "agents": Texts(agent for _, agent in asks),
    }


def add(facts: Facts, rows: Iterable[Row]) -> None:
    """Add the requests that `statement` found to the facts."""
    for *row, beginning in rows:
        key = store.AskedKey(*row[:3])
        facts.asked[key] = _asked(row[3:])
        if beginning is not None and (traceparent := traceparent_of(beginning)):
            facts.traceparents[key[:2]] = traceparent


def writes(changes: Changes) -> Iterable[Statement]:
    """Yields the statement that writes the changes of requests."""
    if changes.asked:
        rows = [(*key, *asked) for key, asked in sorted(changes.asked.items())]
        threads, seqs, agents, askers, states, created, opened, dues, replies, noticed = zip(
            *rows, strict=True
        )
        yield (
            _SAVE,
            {
                "threads": Ints(threads),
                "seqs": Ints(seqs),
                "agents": Texts(agents),
                "askers": Texts(askers),
                "states": Ints(states),
                "create_times": Ints(created),
                "open_times": Ints(opened),
                "dues": Ints(dues),
                "reply_seqs": Ints(replies),
                "noticed": Ints(noticed),
            },
        )


def _asked(columns: Sequence[Any]) -> store.Asked:
    """Returns a request from its columns."""
    asker, state, *rest = columns
    return store.Asked(asker, RequestState.ValueType(state), *rest)


def _list(wanted: store.RequestsWanted) -> str:
    """Returns the query for such requests. Each state by itself: an index has each in order."""
    matches = ["a.asker = %(asker)s"] if wanted.asker else []
    matches += ["a.agent = %(agent)s"] if wanted.agent else []
    # Only then is there an index for it. Plans do not depend on statistics: see connection.py.
    state = "a.state" if matches or wanted.thread else "a.state + 0"
    matches += ["t.name ^@ ANY (%(prefixes)s)"] if wanted.prefixes else []
    source = "asked AS a JOIN thread AS t ON t.id = a.thread_id"
    if wanted.thread:
        source = """(SELECT id, name, epoch FROM thread WHERE name = %(thread)s OFFSET 0) AS t
    CROSS JOIN LATERAL (SELECT * FROM asked WHERE thread_id = t.id OFFSET 0) AS a"""
    return f"""
SELECT r.* FROM unnest(%(states)s) AS s (state) CROSS JOIN LATERAL (
    SELECT t.name, t.epoch, {_READ} AS read_seq, {_COLUMNS}
    FROM {source}
    WHERE {state} = s.state
    AND (a.open_time, a.thread_id, a.seq, a.agent)
        < (%(time)s, %(thread_id)s, %(seq)s, %(last)s)
    {"".join(f"AND {match} " for match in matches)}
    ORDER BY a.open_time DESC, a.thread_id DESC, a.seq DESC, a.agent DESC LIMIT %(limit)s
) AS r ORDER BY r.open_time DESC, r.thread_id DESC, r.seq DESC, r.agent DESC LIMIT %(limit)s
"""  # noqa: S608


async def requests(
    db: Connection, wanted: store.RequestsWanted, limit: int, before: store.RequestPageKey
) -> list[store.StoredRequest]:
    """Returns requests, newest first, as Store.requests does."""
    if any("\0" in name for name in (wanted.asker, wanted.agent, wanted.thread)):
        return []
    given: dict[str, object] = {
        "states": Ints(set(wanted.states)),
        "asker": wanted.asker,
        "agent": wanted.agent,
        "thread": wanted.thread,
        "prefixes": texts(wanted.prefixes),
        "limit": limit,
    }
    given |= dict(zip(("time", "thread_id", "seq", "last"), before, strict=True))
    (rows,) = await db.run((_list(wanted), given))
    return [
        store.StoredRequest(
            name, epoch, store.AskedKey(*columns[:3]), _asked(columns[3:]), read_seq
        )
        for name, epoch, read_seq, *columns in rows
    ]
