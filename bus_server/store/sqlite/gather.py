"""Gathers the facts that a batch needs, within its transaction."""

import json
import sqlite3
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from bus_server.store.asked_rows import AskedKey
from bus_server.store.batch import LARGE, entry_of, text_of
from bus_server.store.facts import Entry, Facts, Known, Needs, Request
from bus_server.store.sqlite import asked, compact, leftovers, participants, reads, servers, tokens
from bus_server.store.sqlite.order import WALL
from bus_server.store.sqlite.remembered import Remembered
from threadbus.v1.agent_pb2 import AgentKind
from threadbus.v1.message_pb2 import WAKE_ALL, Message, Wake

#: Up to this many keys are looked up one by one, which is faster for so few. More are looked up
#: together, as a JSON array.
FEW = 3

# CROSS JOIN makes SQLite look up each key, instead of scanning the table.
_REQUEST = (
    "SELECT r.thread_id, r.sender, r.request_id, r.seq,"
    " (SELECT time FROM message WHERE id = r.thread_id << 32 | r.seq), r.post_hash FROM"
)
_ONE_REQUEST = (
    f"{_REQUEST} request AS r WHERE r.thread_id = ? AND r.sender = ? AND r.request_id = ?"
)
_REQUESTS = (
    f"{_REQUEST} json_each(?) AS n CROSS JOIN request AS r ON r.thread_id = n.value ->> 0"
    " AND r.sender = n.value ->> 1 AND r.request_id = n.value ->> 2"
)
_PARTICIPANT = "SELECT p.thread_id, p.agent, p.read_seq FROM"
_ONE_PARTICIPANT = f"{_PARTICIPANT} participant AS p WHERE p.thread_id = ? AND p.agent = ?"
_PARTICIPANTS = (
    f"{_PARTICIPANT} json_each(?) AS n CROSS JOIN participant AS p"
    " ON p.thread_id = n.value ->> 0 AND p.agent = n.value ->> 1"
)


def gather(
    db: sqlite3.Connection, needs: Needs, remembered: Remembered, now: int, store_now: int
) -> Facts:
    """Returns the needed facts. Those that are remembered are not read from the database.

    `now` and `store_now` are as in Facts.
    """
    facts = Facts(now, store_now)
    agents = needs.agents | needs.profiles
    if needs.threads:
        _gather_heads(db, needs.threads, remembered, facts)
        if needs.participants:
            agents |= _gather_participants(db, needs, remembered, facts)
        if needs.requests:
            _gather_requests(db, needs, facts)
        if needs.settings:
            changing = [facts.heads[name].thread_id for name in needs.settings & facts.heads.keys()]
            facts.settings = reads.threads_by_id(db, changing)
        for thread, seq in needs.entries:
            _gather_entry(db, thread, seq, facts)
        if needs.fronts or needs.addressees:
            compact.gather(db, needs, facts)
        if needs.asked or needs.asks or needs.closing or needs.asking or facts.fronts:
            asked.gather(db, needs, facts)
        _gather_replied(db, needs, facts)
        for thread, seq in needs.authors:
            _gather_author(db, thread, seq, facts)
        if needs.new_threads:
            first = _next_thread_id(db)
            facts.thread_ids = deque(range(first, first + needs.new_threads))
    if agents:
        _gather_agents(db, agents, needs.profiles, facts)
    if needs.tokens or needs.tokens_of or needs.token_ids:
        tokens.gather(db, needs, facts)
    if needs.leftovers:
        facts.leftovers = leftovers.exist(db)
    for row in participants.presence_of(db, needs.presence):
        facts.presence[row.agent] = row
    if needs.servers:
        facts.servers = {
            name: renew_time
            for name, (renew_time, _) in servers.servers(db).items()
            if name in needs.servers
        }
    return facts


def _gather_heads(
    db: sqlite3.Connection, threads: Collection[str], remembered: Remembered, facts: Facts
) -> None:
    heads, unknown = facts.heads, []
    for name in threads:
        head = remembered.heads.get(name)
        if head is None:
            unknown.append(name)
        else:
            heads[name] = head
    if not unknown:
        return
    if len(unknown) > FEW:
        heads |= reads.heads(db, unknown)
    else:
        heads |= {name: head for name in unknown if (head := reads.head(db, name)) is not None}
    missing = [name for name in unknown if name not in heads]
    facts.similar = {name: reads.similar(db, [name]) for name in missing}


def _gather_participants(
    db: sqlite3.Connection, needs: Needs, remembered: Remembered, facts: Facts
) -> set[str]:
    """Gather the needed participants. Returns the agents of those that do not participate yet."""
    unknown, others = [], set()
    for thread, agent in needs.participants:
        head = facts.heads.get(thread)
        if head is None:
            others.add(agent)
            continue
        key = head.thread_id, agent
        read_seq = remembered.read_seqs.get(key)
        if read_seq is None:
            unknown.append(key)
        else:
            facts.read_seqs[key] = read_seq
    if unknown:
        for thread_id, agent, read_seq in _look_up(db, unknown, _ONE_PARTICIPANT, _PARTICIPANTS):
            facts.read_seqs[thread_id, agent] = read_seq
        others |= {key[1] for key in unknown if key not in facts.read_seqs}
    return others


def _gather_requests(db: sqlite3.Connection, needs: Needs, facts: Facts) -> None:
    keys = [
        (facts.heads[thread].thread_id, sender, request_id)
        for thread, sender, request_id in needs.requests
        if thread in facts.heads
    ]
    for row in _look_up(db, keys, _ONE_REQUEST, _REQUESTS):
        thread_id, sender, request_id, seq, time, post_hash = row
        facts.requests[thread_id, sender, request_id] = Request(seq, time & WALL, post_hash)


def _look_up(
    db: sqlite3.Connection, keys: Sequence[tuple[Any, ...]], one: str, many: str
) -> Iterable[tuple[Any, ...]]:
    """Returns the rows with these keys, in any order.

    Args:
        one: the query for one key, with a placeholder for each of its fields.
        many: the query for several keys, with a placeholder for a JSON array of them.
    """
    if len(keys) > FEW:
        return db.execute(many, (json.dumps(keys),))
    return [row for key in keys for row in db.execute(one, key)]


def _gather_entry(db: sqlite3.Connection, thread: str, seq: int, facts: Facts) -> None:
    head = facts.heads.get(thread)
    if head is None or seq > head.seq:
        return  # a seq of more than 32 bits would give an id of another thread
    key = (head.thread_id << 32 | seq,)
    row = db.execute(
        "SELECT m.sender, e.edit_of, q.wakes, (SELECT CASE WHEN length(body) <= ? THEN body END"
        " FROM message WHERE id = m.id - (m.id & 4294967295) + coalesce(nullif(e.edit_seq, 0),"
        " m.id & 4294967295)) FROM message AS m LEFT JOIN entry AS e ON e.id = m.id"
        " LEFT JOIN quiet AS q ON q.thread_id = m.id >> 32 AND q.seq = m.id & 4294967295"
        " WHERE m.id = ?",
        (LARGE, *key),
    ).fetchone()
    if row is None:
        return
    sender, edit_of, wakes, newest = row
    if edit_of is not None:
        entry = Entry(sender, edit_of, editable=True, wakes=Wake.ValueType(wakes or WAKE_ALL))
    else:  # there is no entry row, so the body is small
        ((body,),) = db.execute("SELECT body FROM message WHERE id = ?", key)
        entry = entry_of(Message.FromString(body))
    facts.entries[head.thread_id, seq] = entry._replace(text=text_of(newest))


def _gather_replied(db: sqlite3.Connection, needs: Needs, facts: Facts) -> None:
    """Gather what agents with open requests reply to: a message that asks, or an edit of one."""
    for thread, agent, seq in needs.replies:
        head = facts.heads.get(thread)
        if head is not None and asked.has_open(db, head.thread_id, agent):
            _gather_entry(db, thread, seq, facts)
            entry = facts.entries.get((head.thread_id, seq))
            if entry is not None:
                key = AskedKey(head.thread_id, entry.edit_of or seq, agent)
                asked.gather_one(db, key, facts)


def _gather_author(db: sqlite3.Connection, thread: str, seq: int, facts: Facts) -> None:
    head = facts.heads.get(thread)
    if head is not None and seq <= head.seq:  # as in _gather_entry
        for found, sender in reads.senders(db, head.thread_id, [seq]).items():
            facts.authors[head.thread_id, found] = sender


def _next_thread_id(db: sqlite3.Connection) -> int:
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'thread'").fetchone()
    return 1 if row is None else row[0] + 1


def _gather_agents(
    db: sqlite3.Connection, names: Collection[str], profiles: Collection[str], facts: Facts
) -> None:
    rows = db.execute(
        "SELECT name, kind, unregister_time FROM agent"
        " WHERE name IN (SELECT value FROM json_each(?))",
        (json.dumps(list(names)),),
    )
    for name, kind, unregister_time in rows:
        facts.agents[name] = Known(AgentKind.ValueType(kind), unregister_time == 0)
    for name in profiles:
        profile = reads.agent(db, name)
        if profile is not None:
            facts.profiles[name] = profile
