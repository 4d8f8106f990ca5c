"""Writes what a batch changes: the statements, all of which go to the database with the COMMIT."""

from collections.abc import Iterable, Sequence

from bus_server import store
from bus_server.store import bodies
from bus_server.store.batch import Batch, Changes
from bus_server.store.clock import TOLERANCE
from bus_server.store.postgres import asked, compact, leftovers, servers, tokens
from bus_server.store.postgres.activity import GRANULARITY
from bus_server.store.postgres.arrays import Blobs, Ints, Texts, texts, without_nul
from bus_server.store.postgres.connection import NOW, Statement
from bus_server.store.postgres.history import CONFIRMED

_DELETE_THREADS = """
WITH gone AS (DELETE FROM thread WHERE id = ANY (%(ids)s) RETURNING id)
INSERT INTO purge (thread_id) SELECT id FROM gone
"""
_CREATE_THREADS = """
INSERT INTO thread (id, name, epoch, state, sync_mode, last_seq, last_time, active_time, body,
    retained)
SELECT id, name, epoch, state, sync_mode, 0, %(now)s, %(now)s, body, retained > 0
FROM unnest(%(ids)s, %(names)s, %(epochs)s, %(states)s, %(modes)s, %(bodies)s, %(retained)s)
    AS n (id, name, epoch, state, sync_mode, body, retained)
"""
_CHANGE_THREADS = """
UPDATE thread AS t
SET state = n.state, sync_mode = n.sync_mode, body = n.body, retained = n.retained > 0
FROM unnest(%(ids)s, %(states)s, %(modes)s, %(bodies)s, %(retained)s)
    AS n (id, state, sync_mode, body, retained)
WHERE t.id = n.id
"""
_REMOVE_PARTICIPANTS = """
DELETE FROM participant AS p USING unnest(%(thread_ids)s, %(agents)s) AS n (thread_id, agent)
WHERE p.thread_id = n.thread_id AND p.agent = n.agent
"""
# What posts change, and the number of the batch, in one statement: each statement costs a tenth of
# a millisecond of CPU time. Its parts do not see one another's rows. An entry row is there from the
# start, or is inserted with the first edit: an edit changes nothing else of one that is there.
_POSTS = f"""
WITH head AS (
    UPDATE thread AS t SET last_seq = n.seq, last_time = %(now)s, active_time = CASE
        WHEN active_time BETWEEN %(recent)s AND %(now)s THEN active_time ELSE %(now)s END
    FROM unnest(%(head_ids)s, %(head_seqs)s) AS n (id, seq) WHERE t.id = n.id
), message AS (
    INSERT INTO message (thread_id, seq, time, sender, body)
    SELECT thread_id, seq, %(now)s, sender, body
    FROM unnest(%(message_threads)s, %(message_seqs)s, %(message_senders)s, %(message_bodies)s)
        AS n (thread_id, seq, sender, body)
), entry AS (
    INSERT INTO entry (thread_id, seq, edit_of, edit_seq)
    SELECT * FROM unnest(%(entry_threads)s, %(entry_seqs)s, %(edit_ofs)s, %(edit_seqs)s)
    ON CONFLICT (thread_id, seq) DO UPDATE SET edit_seq = excluded.edit_seq
), request AS (
    INSERT INTO request (thread_id, sender, request_id, seq, post_hash)
    SELECT * FROM unnest(
        %(request_threads)s, %(request_senders)s, %(request_ids)s, %(request_seqs)s, %(hashes)s)
), added AS (
    INSERT INTO participant (thread_id, agent, read_seq, join_time)
    SELECT thread_id, agent, read_seq, %(now)s
    FROM unnest(%(added_threads)s, %(added_agents)s, %(added_seqs)s)
        AS n (thread_id, agent, read_seq)
), raised AS (
    UPDATE participant AS p SET read_seq = greatest(p.read_seq, n.read_seq)
    FROM unnest(%(raised_threads)s, %(raised_agents)s, %(raised_seqs)s)
        AS n (thread_id, agent, read_seq)
    WHERE p.thread_id = n.thread_id AND p.agent = n.agent
)
INSERT INTO writer (id, batch, seen_time, confirmed)
VALUES (%(writer)s, %(batch)s, {NOW}, {CONFIRMED})
ON CONFLICT (id) DO UPDATE
SET batch = excluded.batch, seen_time = excluded.seen_time, confirmed = excluded.confirmed
"""  # noqa: S608
#: The number of an entry is that of the last one before the batch, and its place in the batch.
_ADDRESS = """
INSERT INTO addressed (thread_id, agent, wakes, seq)
SELECT thread_id, agent, wakes = 1, seq
FROM unnest(%(threads)s, %(agents)s, %(wakes)s, %(seqs)s) AS n (thread_id, agent, wakes, seq)
"""
_QUIET = """
INSERT INTO quiet (thread_id, seq, wakes, number)
SELECT thread_id, seq, wakes, row_number() OVER (PARTITION BY thread_id ORDER BY seq) + coalesce((
    SELECT number FROM quiet WHERE thread_id = n.thread_id ORDER BY seq DESC LIMIT 1
), 0) FROM unnest(%(threads)s, %(seqs)s, %(wakes)s) AS n (thread_id, seq, wakes)
"""


def _if_newer(time: str, *columns: str) -> str:
    """Returns SQL that sets these columns of presence to new values if `time` is not older."""
    newer = f"excluded.{time} >= p.{time} OR p.{time} > %(now)s"
    return ", ".join(
        f"{column} = CASE WHEN {newer} THEN excluded.{column} {_CALLED.get(column, '')}"
        f" ELSE p.{column} END"
        for column in columns
    )


# See PresenceRow.
_ENDED = (
    "WHEN excluded.state_time = 0 AND p.reported = 6 AND excluded.last_seen_time > p.state_time"
)
_CALLED = {
    "reported": f"{_ENDED} THEN 0",
    "state_time": f"{_ENDED} THEN excluded.last_seen_time",
}
_SAVE_PRESENCE = f"""
INSERT INTO presence AS p (agent, last_seen_time, lease_end_time, state_time, reported,
    status_text, work_time, working_end_time, sends_heartbeats)
SELECT n.agent, n.last_seen_time, n.lease_end_time, n.state_time, n.reported,
    coalesce(n.status_text, (SELECT status_text FROM presence WHERE agent = n.agent)),
    n.work_time, n.working_end_time, n.sends_heartbeats > 0
FROM unnest(%(agents)s, %(seen)s, %(ends)s, %(state_times)s, %(reported)s, %(texts)s,
        %(work_times)s, %(working_ends)s, %(beats)s)
    AS n (agent, last_seen_time, lease_end_time, state_time, reported, status_text,
        work_time, working_end_time, sends_heartbeats)
WHERE coalesce((SELECT unregister_time FROM agent WHERE name = n.agent), 0) = 0
ON CONFLICT (agent) DO UPDATE SET
    {_if_newer("last_seen_time", "lease_end_time", "last_seen_time")},
    {_if_newer("state_time", "status_text", "reported", "sends_heartbeats", "state_time")},
    {_if_newer("work_time", "working_end_time", "work_time")}
"""  # noqa: S608
# Rows are locked in the order of their keys.
_SAVE_POSITIONS = """
UPDATE participant AS p SET delivered_seq = greatest(p.delivered_seq, n.delivered_seq),
    read_seq = greatest(p.read_seq, CASE WHEN n.read_seq > 0 THEN n.read_seq ELSE -1 END),
    passed_over = greatest(p.passed_over, n.passed_over)
FROM (
    SELECT t.id AS thread_id, g.agent, g.delivered_seq, g.read_seq, g.passed_over
    FROM unnest(%(agents)s, %(threads)s, %(epochs)s, %(delivered)s, %(read)s, %(passed)s)
        AS g (agent, thread, epoch, delivered_seq, read_seq, passed_over)
    CROSS JOIN LATERAL (
        SELECT id FROM thread WHERE name = g.thread AND epoch = g.epoch LIMIT 1
    ) AS t ORDER BY t.id, g.agent
) AS n WHERE p.thread_id = n.thread_id AND p.agent = n.agent
"""
_REGISTER = """
INSERT INTO agent (name, kind, unregister_time, body)
SELECT name, kind, 0, body FROM unnest(%(names)s, %(kinds)s, %(bodies)s) AS n (name, kind, body)
"""
_REGISTER_AGAIN = """
UPDATE agent AS a SET kind = n.kind, unregister_time = 0, body = n.body
FROM unnest(%(names)s, %(kinds)s, %(bodies)s) AS n (name, kind, body) WHERE a.name = n.name
"""
_CHANGE_AGENTS = """
UPDATE agent AS a SET body = n.body FROM unnest(%(names)s, %(bodies)s) AS n (name, body)
WHERE a.name = n.name
"""
# First the agents: another transaction that is making one of them a participant holds its row, and
# what that has written is then seen by the next statements.
_UNREGISTER = (
    "UPDATE agent SET unregister_time = %(now)s WHERE name = ANY (%(names)s)",
    "DELETE FROM participant WHERE agent = ANY (%(names)s)",
    "DELETE FROM presence WHERE agent = ANY (%(names)s)",
)


def statements(batch: Batch, writer: int, number: int) -> list[Statement]:
    """Returns the statements that write a batch, up to and with the COMMIT.

    Args:
        writer: the id of the row of this store in the table writer.
        number: the number of the batch.
    """
    changes, now, store_now = batch.changes, batch.facts.now, batch.facts.store_now
    posts = _posts(batch) | {"writer": writer, "batch": number}
    return [
        *_write_threads(changes, now),
        *_remove_participants(changes),
        (_POSTS, posts),
        *_write_addressed(changes),
        *asked.writes(changes),
        *_save_presence(changes.presence, store_now),
        *_save_positions(changes),
        *_write_agents(changes, now),
        *tokens.writes(changes, now),
        *([leftovers.PURGE] if changes.purge else []),
        *servers.changes_statements(changes, store_now),
        *compact.writes(changes),
        ("COMMIT", {}),
    ]


def _write_threads(changes: Changes, now: int) -> Iterable[Statement]:
    # A thread that is deleted in the batch that created it is not written: ids come from a
    # sequence, which does not give one again.
    deleted = changes.deleted_threads - changes.created_threads.keys()
    if deleted:
        yield _DELETE_THREADS, {"ids": Ints(sorted(deleted))}
    created = {
        thread_id: thread
        for thread_id, thread in changes.created_threads.items()
        if thread_id not in changes.deleted_threads
    }
    for threads, query in ((created, _CREATE_THREADS), (changes.changed_threads, _CHANGE_THREADS)):
        if threads:
            yield (
                query,
                {
                    "ids": Ints(threads),
                    "names": Texts(thread.name for thread in threads.values()),
                    "epochs": Texts(thread.epoch for thread in threads.values()),
                    "states": Ints(thread.state for thread in threads.values()),
                    "modes": Ints(thread.sync_mode for thread in threads.values()),
                    "bodies": Blobs(map(bodies.thread_body, threads.values())),
                    "retained": Ints(each.HasField("retention") for each in threads.values()),
                    "now": now,
                },
            )


def _remove_participants(changes: Changes) -> Iterable[Statement]:
    removed = sorted(without_nul(changes.removed))
    if removed:
        thread_ids, agents = zip(*removed, strict=True)
        yield _REMOVE_PARTICIPANTS, {"thread_ids": Ints(thread_ids), "agents": Texts(agents)}


def _posts(batch: Batch) -> dict[str, object]:
    """Returns the parameters of _POSTS, without those of the writer."""
    changes, commit, now = batch.changes, batch.commit, batch.facts.now
    heads = sorted((head.thread_id, head.seq) for head in commit.heads.values())
    messages = [
        (commit.heads[name].thread_id, seq, sender, body)
        for name, entries in commit.entries.items()
        for seq, (sender, body) in entries.items()
    ]
    entries = {key: (edit_of, 0) for key, edit_of in changes.large.items()}
    for name, edited in commit.edited.items():
        for seq, edit_seq in edited.items():
            key = commit.heads[name].thread_id, seq
            entries[key] = entries.get(key, (0, 0))[0], edit_seq
    added, raised = sorted(changes.added.items()), sorted(changes.raised.items())
    return {
        "now": now,
        "recent": now - GRANULARITY + 1,
        "head_ids": Ints(thread_id for thread_id, _ in heads),
        "head_seqs": Ints(seq for _, seq in heads),
        "message_threads": Ints(thread_id for thread_id, _, _, _ in messages),
        "message_seqs": Ints(seq for _, seq, _, _ in messages),
        "message_senders": Texts(sender for _, _, sender, _ in messages),
        "message_bodies": Blobs(body for _, _, _, body in messages),
        "entry_threads": Ints(thread_id for thread_id, _ in entries),
        "entry_seqs": Ints(seq for _, seq in entries),
        "edit_ofs": Ints(edit_of for edit_of, _ in entries.values()),
        "edit_seqs": Ints(edit_seq for _, edit_seq in entries.values()),
        "request_threads": Ints(thread_id for thread_id, _, _ in changes.requests),
        "request_senders": Texts(sender for _, sender, _ in changes.requests),
        "request_ids": Texts(request_id for _, _, request_id in changes.requests),
        "request_seqs": Ints(request.seq for request in changes.requests.values()),
        "hashes": Blobs(request.post_hash for request in changes.requests.values()),
        "added_threads": Ints(thread_id for (thread_id, _), _ in added),
        "added_agents": Texts(agent for (_, agent), _ in added),
        "added_seqs": Ints(read_seq for _, read_seq in added),
        "raised_threads": Ints(thread_id for (thread_id, _), _ in raised),
        "raised_agents": Texts(agent for (_, agent), _ in raised),
        "raised_seqs": Ints(read_seq for _, read_seq in raised),
    }


def _write_addressed(changes: Changes) -> Iterable[Statement]:
    if changes.addressed:
        threads, agents, wakes, seqs = zip(*changes.addressed, strict=True)
        yield (
            _ADDRESS,
            {
                "threads": Ints(threads),
                "agents": Texts(agents),
                "wakes": Ints(map(int, wakes)),
                "seqs": Ints(seqs),
            },
        )
    if changes.quiet:
        yield (
            _QUIET,
            {
                "threads": Ints(thread_id for thread_id, _ in changes.quiet),
                "seqs": Ints(seq for _, seq in changes.quiet),
                "wakes": Ints(changes.quiet.values()),
            },
        )


def _save_presence(found: Sequence[store.PresenceRow], store_now: int) -> Iterable[Statement]:
    rest = list(found)
    while rest:
        # A statement can write each row once: the second row of an agent comes with the next one.
        rows: dict[str, store.PresenceRow] = {}
        rest = [row for row in rest if rows.setdefault(row.agent, row) is not row]
        each = [rows[agent] for agent in sorted(rows)]
        yield (
            _SAVE_PRESENCE,
            {
                "agents": Texts(row.agent for row in each),
                "state_times": Ints(row.state_time for row in each),
                "reported": Ints(row.reported for row in each),
                "work_times": Ints(row.work_time for row in each),
                "working_ends": Ints(row.working_end_time for row in each),
                "beats": Ints(row.sends_heartbeats for row in each),
                "texts": Blobs(
                    None if row.status_text is None else row.status_text.encode() for row in each
                ),
                "seen": Ints(row.last_seen_time for row in each),
                "ends": Ints(row.lease_end_time for row in each),
                "now": store_now + TOLERANCE,
            },
        )


def _save_positions(changes: Changes) -> Iterable[Statement]:
    possible = set(without_nul(changes.positions))
    positions = [(key, each) for key, each in changes.positions.items() if key in possible]
    if positions:
        yield (
            _SAVE_POSITIONS,
            {
                "agents": Texts(agent for (agent, _, _), _ in positions),
                "threads": Texts(thread for (_, thread, _), _ in positions),
                "epochs": Texts(epoch for (_, _, epoch), _ in positions),
                "delivered": Ints(position.delivered for _, position in positions),
                "read": Ints(position.read for _, position in positions),
                "passed": Ints(position.passed_over for _, position in positions),
            },
        )


def _write_agents(changes: Changes, now: int) -> Iterable[Statement]:
    for agents, query in (
        (changes.registered, _REGISTER),
        (changes.registered_again, _REGISTER_AGAIN),
        (changes.changed_agents, _CHANGE_AGENTS),
    ):
        if agents:
            each = [agents[name] for name in sorted(agents)]
            yield (
                query,
                {
                    "names": Texts(agent.name for agent in each),
                    "kinds": Ints(agent.kind for agent in each),
                    "bodies": Blobs(map(bodies.agent_body, each)),
                },
            )
    if changes.unregistered:
        for query in _UNREGISTER:
            yield query, {"names": texts(sorted(changes.unregistered)), "now": now}
