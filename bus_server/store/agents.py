"""Registering agents, their tokens, and what they have read."""

import json
import sqlite3

from bus_server import store
from bus_server.errors import AgentExists, ValidationFailed
from bus_server.store import reads
from bus_server.store.transaction import Transaction
from threadbus.v1.agent_pb2 import Agent


def register_agent(tx: Transaction, command: store.RegisterAgent) -> Agent:
    agent = command.agent
    owner = reads.owner(tx.db, command.token_hash)
    if owner is not None and owner.agent != agent.name:
        raise ValidationFailed(("token", "in use for another name; make a fresh one"))
    if owner is None:
        if reads.agent(tx.db, agent.name) is not None:
            taken = "SELECT 1 FROM token WHERE agent = ?"
            if not command.claim or tx.db.execute(taken, (agent.name,)).fetchone():
                raise AgentExists(agent.name)
        tx.db.execute(
            "INSERT INTO token (hash, agent, create_time) VALUES (?, ?, ?)",
            (command.token_hash, agent.name, tx.now),
        )
    return register(tx, agent)


def register(tx: Transaction, agent: Agent) -> Agent:
    """Register an agent unless it is; answers it as it is registered."""
    tx.db.execute(
        "INSERT OR IGNORE INTO agent (name, kind, display_name, description, labels, create_time)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (
            agent.name,
            agent.kind,
            agent.display_name,
            agent.description,
            json.dumps(dict(agent.labels)),
            tx.now,
        ),
    )
    registered = reads.agent(tx.db, agent.name)
    if registered is None:
        raise sqlite3.DatabaseError(f"agent {agent.name} vanished")
    return registered


def set_operator_token(tx: Transaction, command: store.SetOperatorToken) -> None:
    if reads.owner(tx.db, command.token_hash) is None:
        tx.db.execute("DELETE FROM token WHERE agent = ''")
        tx.db.execute(
            "INSERT INTO token (hash, agent, create_time) VALUES (?, '', ?)",
            (command.token_hash, tx.now),
        )


def save_reads(tx: Transaction, command: store.SaveReads) -> None:
    tx.db.executemany(
        "UPDATE participant SET read_seq = :seq WHERE agent = :agent AND read_seq < :seq"
        " AND thread_id = (SELECT id FROM thread WHERE name = :thread AND epoch = :epoch)",
        [
            {"agent": agent, "thread": thread, "epoch": epoch, "seq": seq}
            for (agent, thread, epoch), seq in command.reads.items()
        ],
    )
