"""Gathers the facts that a batch needs, within its transaction."""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from bus_server.store.batch import entry_of
from bus_server.store.facts import OPERATOR, Entry, Facts, Known, Needs, Request, Token
from bus_server.store.sqlite import leftovers, reads
from bus_server.store.sqlite.order import WALL
from bus_server.store.sqlite.remembered import Remembered
from threadbus.v1.agent_pb2 import AgentKind
from threadbus.v1.message_pb2 import Message

#: As many keys are looked up one at a time, which is faster for so few; more of them together, as a
#: JSON array.
FEW = 3

_REQUEST = (
    "SELECT r.thread_id, r.sender, r.request_id, r.seq,"
    " (SELECT time FROM message WHERE id = r.thread_id << 32 | r.seq), r.post_hash FROM"
)
_REQUEST_KEY = "r.thread_id = {} AND r.sender = {} AND r.request_id = {}"
_PARTICIPANT = "SELECT p.thread_id, p.agent, p.read_seq FROM"
_PARTICIPANT_KEY = "p.thread_id = {} AND p.agent = {}"


def gather(
    db: sqlite3.Connection, needs: Needs, remembered: Remembered, now: int, store_now: int
) -> Facts:
    """Returns the facts that are needed, and not read if they are known. The times: as in Facts."""
    facts = Facts(now, store_now)
    if needs.threads:
        _gather_threads(db, needs, remembered, facts)
    _gather_agents(db, needs, facts)
    if needs.tokens:
        _gather_tokens(db, needs, facts)
    if needs.leftovers:
        facts.leftovers = leftovers.exist(db)
    return facts


def _gather_threads(
    db: sqlite3.Connection, needs: Needs, remembered: Remembered, facts: Facts
) -> None:
    """Gather heads, and what is stored by thread."""
    heads = facts.heads
    heads |= {name: remembered.heads[name] for name in needs.threads & remembered.heads.keys()}
    unknown = needs.threads - heads.keys()
    if len(unknown) > FEW:
        heads |= reads.heads(db, unknown)
    else:
        for name in unknown:
            head = reads.head(db, name)
            if head is not None:
                heads[name] = head
    missing = needs.threads - heads.keys()
    facts.similar = {name: reads.similar(db, [name]) for name in missing}
    if needs.new_threads:
        facts.next_thread_id = _next_thread_id(db)
    changing = [heads[name].thread_id for name in needs.settings & heads.keys()]
    if changing:
        facts.settings = reads.threads_by_id(db, changing)
    requests = [
        (heads[thread].thread_id, sender, request_id)
        for thread, sender, request_id in needs.requests
        if thread in heads
    ]
    for row in _look_up(db, requests, _REQUEST, "request AS r", _REQUEST_KEY):
        thread_id, sender, request_id, seq, time, post_hash = row
        facts.requests[thread_id, sender, request_id] = Request(seq, time & WALL, post_hash)
    participants = []
    for thread, agent in needs.participants:
        if thread in heads:
            key = heads[thread].thread_id, agent
            if key in remembered.read_seqs:
                facts.read_seqs[key] = remembered.read_seqs[key]
            else:
                participants.append(key)
    for row in _look_up(db, participants, _PARTICIPANT, "participant AS p", _PARTICIPANT_KEY):
        thread_id, agent, read_seq = row
        facts.read_seqs[thread_id, agent] = read_seq
    for thread, seq in needs.entries:
        if thread in heads and seq <= heads[thread].seq:
            _gather_entry(db, heads[thread].thread_id, seq, facts)


def _look_up(
    db: sqlite3.Connection, keys: Sequence[tuple[Any, ...]], select: str, table: str, key: str
) -> Iterable[tuple[Any, ...]]:
    """Returns the rows of a table with these keys."""
    if not keys:
        return ()
    fields = range(len(keys[0]))
    if len(keys) > FEW:
        # CROSS: SQLite must begin with the keys.
        match = key.format(*(f"n.value ->> {field}" for field in fields))
        query = f"{select} json_each(?) AS n CROSS JOIN {table} ON {match}"
        return db.execute(query, (json.dumps(keys),))
    query = f"{select} {table} WHERE {key.format(*('?' for _ in fields))}"
    return [row for each in keys for row in db.execute(query, each)]


def _gather_entry(db: sqlite3.Connection, thread_id: int, seq: int, facts: Facts) -> None:
    key = (thread_id << 32 | seq,)
    row = db.execute(
        "SELECT m.sender, e.edit_of FROM message AS m LEFT JOIN entry AS e ON e.id = m.id"
        " WHERE m.id = ?",
        key,
    ).fetchone()
    if row is None:
        return
    sender, edit_of = row
    if edit_of is None:  # its body is small
        ((body,),) = db.execute("SELECT body FROM message WHERE id = ?", key)
        facts.entries[thread_id, seq] = entry_of(Message.FromString(body))
    else:
        facts.entries[thread_id, seq] = Entry(sender, edit_of, editable=True)


def _next_thread_id(db: sqlite3.Connection) -> int:
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'thread'").fetchone()
    return 1 if row is None else row[0] + 1


def _gather_agents(db: sqlite3.Connection, needs: Needs, facts: Facts) -> None:
    """Gather agents: those needed, and those that are needed as participants and are none."""
    ids = {name: head.thread_id for name, head in facts.heads.items()}
    names = needs.agents | needs.profiles
    for thread, agent in needs.participants:
        if (ids.get(thread), agent) not in facts.read_seqs:
            names.add(agent)
    if not names:
        return
    facts.agents = {
        name: Known(AgentKind.ValueType(kind), unregister_time == 0)
        for name, kind, unregister_time in db.execute(
            "SELECT name, kind, unregister_time FROM agent"
            " WHERE name IN (SELECT value FROM json_each(?))",
            (json.dumps(list(names)),),
        )
    }
    for name in needs.profiles & facts.agents.keys():
        profile = reads.agent(db, name)
        if profile is not None:
            facts.profiles[name] = profile


def _gather_tokens(db: sqlite3.Connection, needs: Needs, facts: Facts) -> None:
    query = "SELECT hash, agent, expire_time FROM token"
    agents = {name for name in needs.tokens_of if name == OPERATOR or name in facts.profiles}
    for token_hash in needs.tokens:
        row = db.execute(f"{query} WHERE hash = ?", (token_hash,)).fetchone()
        if row is not None:
            facts.tokens[token_hash] = Token(*row[1:])
            if needs.rotation:
                agents.add(row[1])
    for agent in agents:
        for token_hash, *token in db.execute(f"{query} WHERE agent = ?", (agent,)):
            facts.tokens[token_hash] = Token(*token)
