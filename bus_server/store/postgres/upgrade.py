"""Writes what the script of an upgrade cannot: it depends on the bodies of messages."""

from collections.abc import Sequence

from bus_server.store.facts import ANONYMOUS, addressees
from bus_server.store.postgres.arrays import Ints, Texts
from bus_server.store.postgres.connection import Connection, Row, Statement
from threadbus.v1.message_pb2 import Message

#: Maximum number of messages that are read at a time, and bytes of them.
ROWS = 1_000
BYTES = 8 * 1024 * 1024

_READ = """
SELECT thread_id, seq, sender, body FROM (
    SELECT thread_id, seq, sender, body, row_number() OVER w AS place,
        sum(octet_length(body)) OVER w AS size
    FROM message WHERE (thread_id, seq) > (%(thread)s, %(seq)s)
    WINDOW w AS (ORDER BY thread_id, seq) ORDER BY thread_id, seq LIMIT %(rows)s
) AS m WHERE place = 1 OR size <= %(bytes)s ORDER BY thread_id, seq
"""
_ADDRESS = """
INSERT INTO addressed (thread_id, agent, wakes, seq)
SELECT n.thread_id, n.agent, true, n.seq
FROM unnest(%(threads)s, %(agents)s, %(seqs)s) AS n (thread_id, agent, seq)
UNION
SELECT n.thread_id, m.sender, true, n.seq
FROM unnest(%(reply_threads)s, %(replied)s, %(repliers)s, %(reply_seqs)s)
    AS n (thread_id, reply_to, sender, seq)
CROSS JOIN LATERAL (
    SELECT sender FROM message WHERE thread_id = n.thread_id AND seq = n.reply_to LIMIT 1
) AS m WHERE m.sender NOT IN (n.sender, %(anonymous)s)
"""


async def fill_addressed(db: Connection) -> None:
    """Fill the table addressed from the messages, within the caller's transaction.

    They are read in parts, so that memory use does not grow with their number.
    """
    thread_id = seq = 0
    while True:
        key = {"thread": thread_id, "seq": seq}
        (rows,) = await db.run((_READ, key | {"rows": ROWS, "bytes": BYTES}))
        if not rows:
            return
        await db.run(_address(rows))
        thread_id, seq, *_ = rows[-1]


def _address(rows: Sequence[Row]) -> Statement:
    """Returns the statement that stores whom messages address."""
    messages = [(*key, Message.FromString(body)) for *key, body in rows]
    named = [
        (thread_id, agent, seq)
        for thread_id, seq, sender, message in messages
        for agent in sorted(addressees(message) - {sender})
    ]
    replies = [
        (thread_id, message.reply_to, sender, seq)
        for thread_id, seq, sender, message in messages
        if message.reply_to
    ]
    return _ADDRESS, {
        "threads": Ints(thread_id for thread_id, _, _ in named),
        "agents": Texts(agent for _, agent, _ in named),
        "seqs": Ints(seq for _, _, seq in named),
        "reply_threads": Ints(thread_id for thread_id, _, _, _ in replies),
        "replied": Ints(reply_to for _, reply_to, _, _ in replies),
        "repliers": Texts(sender for _, _, sender, _ in replies),
        "reply_seqs": Ints(seq for _, _, _, seq in replies),
        "anonymous": ANONYMOUS,
    }
