"""Gathers the facts that a batch needs: begins its transaction and takes its locks.

All statements go to the database together. READ COMMITTED: each one sees what was committed before
it began, so that the facts are as of after the locks. Locks are taken in one order: agents, names
of threads, threads by id, rows of agents by name; then, while writing, participants and presence.
"""

import hashlib
from collections import deque
from collections.abc import Iterable

from bus_server.store.batch import LARGE, entry_of, text_of
from bus_server.store.commands import MAX_SEQ
from bus_server.store.facts import Entry, Facts, Known, Needs, Request, Token
from bus_server.store.postgres import asked, compact, participants, reads, tokens
from bus_server.store.postgres.arrays import Ints, Texts, texts, without_nul
from bus_server.store.postgres.clock import DatabaseClock, monotonic
from bus_server.store.postgres.connection import NOW, Connection, Row, Statement
from threadbus.v1.agent_pb2 import AgentKind
from threadbus.v1.message_pb2 import WAKE_ALL, Message, Wake

#: How many locks the names of threads share: a batch may create thousands of threads, and the
#: database has room for 6,400 locks by default.
NAME_LOCKS = 500

# Locked until the end of the transaction. Transactions that create or delete threads of one name
# take turns, so that a newer thread has a greater id. So do those that change agents or tokens.
_LOCK = "SELECT pg_advisory_xact_lock(key) FROM unnest(%(keys)s) AS key"
_HEADS = (
    f"SELECT {reads.HEAD} FROM thread AS t WHERE t.name = ANY (%(threads)s)"  # noqa: S608
    " ORDER BY t.id FOR NO KEY UPDATE"
)
# The facts of posts and joins in one statement: each statement costs a tenth of a millisecond of
# CPU time. An agent that is no participant yet stays as it is until the end of the transaction: it
# must not be unregistered at the same time. These rows come last, as they are the newest.
_FACTS = f"""
SELECT 'now', NULL::bigint, NULL::text, NULL::text, {NOW}, NULL::bigint, NULL::bytea
UNION ALL
SELECT 'similar', NULL, n.name, s.name, NULL, NULL, NULL
FROM unnest(%(threads)s) AS n (name) CROSS JOIN LATERAL ({reads.SIMILAR}
    AND NOT EXISTS (SELECT 1 FROM thread WHERE name = n.name) ORDER BY name LIMIT 5) AS s
UNION ALL
SELECT 'participant', t.id, n.agent, NULL, p.read_seq, NULL, NULL
FROM unnest(%(joined)s, %(members)s) AS n (thread, agent)
CROSS JOIN LATERAL (SELECT id FROM thread WHERE name = n.thread LIMIT 1) AS t
CROSS JOIN LATERAL (
    SELECT read_seq FROM participant WHERE thread_id = t.id AND agent = n.agent LIMIT 1
) AS p
UNION ALL
SELECT 'request', t.id, n.sender, n.request_id, r.seq, m.time, r.post_hash
FROM unnest(%(posted)s, %(senders)s, %(request_ids)s) AS n (thread, sender, request_id)
CROSS JOIN LATERAL (SELECT id FROM thread WHERE name = n.thread LIMIT 1) AS t
CROSS JOIN LATERAL (
    SELECT seq, post_hash FROM request
    WHERE thread_id = t.id AND sender = n.sender AND request_id = n.request_id LIMIT 1
) AS r
CROSS JOIN LATERAL (
    SELECT time FROM message WHERE thread_id = t.id AND seq = r.seq LIMIT 1
) AS m
UNION ALL
SELECT 'agent', NULL, name, NULL, kind, unregister_time, NULL
FROM agent WHERE name = ANY (%(agents)s)
UNION ALL
SELECT 'agent', NULL, a.name, NULL, a.kind, a.unregister_time, NULL
FROM unnest(%(joined)s, %(members)s) AS n (thread, agent)
CROSS JOIN LATERAL (
    SELECT name, kind, unregister_time FROM agent WHERE name = n.agent AND (
        SELECT read_seq FROM participant WHERE agent = n.agent
        AND thread_id = (SELECT id FROM thread WHERE name = n.thread)
    ) IS NULL FOR SHARE
) AS a
"""  # noqa: S608
_SETTINGS = f"SELECT {reads.THREAD} FROM thread AS t WHERE t.name = ANY (%(settings)s)"  # noqa: S608
# With the entries to which agents with open requests reply, as these may be edits.
_ENTRIES = """
SELECT t.id, m.seq, m.sender, e.edit_of, q.wakes, CASE WHEN e.edit_of IS NULL THEN m.body END, (
    SELECT CASE WHEN octet_length(body) <= %(large)s THEN body END FROM message
    WHERE thread_id = t.id AND seq = coalesce(nullif(e.edit_seq, 0), n.seq)
)
FROM unnest(%(edited)s, %(edited_seqs)s, %(repliers)s) AS n (thread, seq, replier)
CROSS JOIN LATERAL (SELECT id FROM thread WHERE name = n.thread LIMIT 1) AS t
CROSS JOIN LATERAL (
    SELECT seq, sender, body FROM message WHERE thread_id = t.id AND seq = n.seq AND (
        n.replier = '' OR EXISTS (
            SELECT 1 FROM asked WHERE agent = n.replier AND thread_id = t.id AND state = 1
        )
    ) LIMIT 1
) AS m
LEFT JOIN LATERAL (
    SELECT edit_of, edit_seq FROM entry WHERE thread_id = t.id AND seq = n.seq LIMIT 1
) AS e ON true
LEFT JOIN LATERAL (
    SELECT wakes FROM quiet WHERE thread_id = t.id AND seq = n.seq LIMIT 1
) AS q ON true
"""
_AUTHORS = """
SELECT t.id, m.seq, m.sender FROM unnest(%(answering)s, %(answered_seqs)s) AS n (thread, seq)
CROSS JOIN LATERAL (SELECT id FROM thread WHERE name = n.thread LIMIT 1) AS t
CROSS JOIN LATERAL (
    SELECT seq, sender FROM message WHERE thread_id = t.id AND seq = n.seq LIMIT 1
) AS m
"""
_THREAD_IDS = "SELECT nextval('thread_id') FROM generate_series(1, %(new_threads)s)"
_LEFTOVERS = "SELECT 1 FROM purge LIMIT 1"
_SERVERS = (
    "SELECT name, renew_time FROM server WHERE name = ANY (%(servers)s) ORDER BY name FOR UPDATE"
)


async def gather(
    db: Connection, needs: Needs, clock: DatabaseClock, epoch: str, timeout: float
) -> Facts:
    """Begin a transaction. Returns the needed facts, as of after its locks were taken.

    Args:
        clock: is adjusted to the database's.
        epoch: the store's.
        timeout: seconds in which the locks are taken and the facts read.

    Raises what Connection.run raises. Then the transaction is to be rolled back.
    """
    steps: list[Statement] = [("BEGIN", {})]
    lock = _lock_keys(needs, epoch)
    if lock:
        steps.append((_LOCK, {"keys": lock}))
    steps.append((_HEADS, {"threads": texts(needs.threads)}))
    steps.append(_facts(needs))
    optional: list[tuple[object, Statement]] = [
        (needs.settings, (_SETTINGS, {"settings": texts(needs.settings)})),
        (needs.entries or needs.replies, _entries(needs)),
        (needs.authors, _authors(needs)),
        (needs.new_threads, (_THREAD_IDS, {"new_threads": needs.new_threads})),
        (needs.profiles, reads.agents_statement(needs.profiles, 0)),
        (needs.tokens or needs.tokens_of or needs.token_ids, tokens.statement(needs)),
        (needs.leftovers, (_LEFTOVERS, {})),
        (needs.servers, (_SERVERS, {"servers": texts(needs.servers)})),
        (asked.any_needed(needs), asked.statement(needs)),
        (needs.presence, participants.presence_of(needs.presence)),
        (needs.asks, asked.count_statement(needs)),
        (needs.fronts, compact.fronts(needs)),
        (needs.addressees, compact.addressees(needs)),
    ]
    steps += [step for needed, step in optional if needed]
    sent = monotonic()
    found = iter((await db.run(*steps, timeout=timeout))[2 if lock else 1 :])
    heads, rows = next(found), next(found)
    optionals = [next(found) if needed else [] for needed, _ in optional]
    settings, entries, authors, new_threads, profiles, found_tokens, *others = optionals
    leftovers, servers, requests, presence, open_requests, fronts, addressees = others
    now = rows[0][4]
    clock.observe(sent, now)
    facts = Facts(now, clock.now())
    facts.heads = {name: reads.head(*head) for name, *head in heads}
    facts.similar = {name: [] for name in needs.threads - facts.heads.keys()}
    _read_facts(rows, facts)
    facts.settings = {row[1]: reads.thread(row) for row in settings}
    for thread_id, seq, sender, edit_of, wakes, body, newest in entries:
        entry = (
            Entry(sender, edit_of, editable=True, wakes=Wake.ValueType(wakes or WAKE_ALL))
            if edit_of is not None
            else entry_of(Message.FromString(body))
        )
        facts.entries[thread_id, seq] = entry._replace(text=text_of(newest))
    facts.authors = {(thread_id, seq): sender for thread_id, seq, sender in authors}
    facts.thread_ids = deque(thread_id for (thread_id,) in new_threads)
    facts.profiles = {agent.name: agent for agent in map(reads.agent_of, profiles)}
    facts.tokens = {token_hash: Token.stored(*columns) for token_hash, *columns in found_tokens}
    facts.leftovers = bool(leftovers)
    facts.servers = dict(servers)
    asked.add(facts, requests)
    compact.add_fronts(facts, fronts)
    compact.add_addressees(facts, addressees)
    facts.open_requests = {(thread_id, agent): n for thread_id, agent, n in open_requests}
    edited = Needs(replies=set(_edited(needs.replies, facts)))
    if edited.replies:
        (rows,) = await db.run(asked.statement(edited), timeout=timeout)
        asked.add(facts, rows)
    facts.presence = {row.agent: row for row in map(participants.to_presence, presence)}
    return facts


def _edited(
    replies: Iterable[tuple[str, str, int]], facts: Facts
) -> Iterable[tuple[str, str, int]]:
    """Yields the replies to edits, as if to the messages that these edit."""
    for thread, agent, seq in replies:
        head = facts.heads.get(thread)
        entry = head and facts.entries.get((head.thread_id, seq))
        if entry and entry.edit_of:
            yield thread, agent, entry.edit_of


def _lock_keys(needs: Needs, epoch: str) -> Ints:
    """Returns the keys of the locks that a batch takes, in the order in which it takes them."""
    keys = Ints()
    if needs.profiles or needs.tokens or needs.tokens_of or needs.token_ids:
        keys.append(lock_key(f"{epoch} agents"))
    names = {lock_key(name) % NAME_LOCKS for name in needs.created_or_deleted}
    keys += sorted(lock_key(f"{epoch} thread {number}") for number in names)
    return keys


def lock_key(name: str) -> int:
    """Returns the key of an advisory lock. They are shared by all that is in a database."""
    digest = hashlib.sha256(f"threadbus {name}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def _facts(needs: Needs) -> Statement:
    members = without_nul(sorted(needs.participants, key=lambda member: member[::-1]))
    requests = without_nul(needs.requests)
    return _FACTS, {
        "threads": texts(needs.threads),
        "joined": Texts(thread for thread, _ in members),
        "members": Texts(agent for _, agent in members),
        "posted": Texts(thread for thread, _, _ in requests),
        "senders": Texts(sender for _, sender, _ in requests),
        "request_ids": Texts(request_id for _, _, request_id in requests),
        "agents": texts(needs.agents | needs.profiles),
    }


def _entries(needs: Needs) -> Statement:
    wanted = {(thread, seq, "") for thread, seq in needs.entries}
    wanted |= {(thread, seq, agent) for thread, agent, seq in needs.replies}
    edited = without_nul(each for each in wanted if each[1] <= MAX_SEQ)
    return _ENTRIES, {
        "edited": Texts(thread for thread, _, _ in edited),
        "edited_seqs": Ints(seq for _, seq, _ in edited),
        "repliers": Texts(agent for _, _, agent in edited),
        "large": LARGE,
    }


def _authors(needs: Needs) -> Statement:
    answered = without_nul((thread, seq) for thread, seq in needs.authors if seq <= MAX_SEQ)
    return _AUTHORS, {
        "answering": Texts(thread for thread, _ in answered),
        "answered_seqs": Ints(seq for _, seq in answered),
    }


def _read_facts(rows: Iterable[Row], facts: Facts) -> None:
    for kind, thread_id, name, other, number, time, post_hash in rows:
        if kind == "participant":
            facts.read_seqs[thread_id, name] = number
        elif kind == "request":
            facts.requests[thread_id, name, other] = Request(number, time, post_hash)
        elif kind == "agent":
            facts.agents[name] = Known(AgentKind.ValueType(number), time == 0)
        elif kind == "similar" and name in facts.similar:
            facts.similar[name].append(other)
