"""Registers, changes and unregisters agents, and manages their tokens."""

from google.protobuf.field_mask_pb2 import FieldMask

from bus_server import store
from bus_server.errors import (
    AgentExists,
    AgentNotFound,
    TokenExpired,
    TokenInvalid,
    ValidationFailed,
)
from bus_server.store.sqlite import reads
from bus_server.store.sqlite.transaction import Transaction
from threadbus.v1.agent_pb2 import Agent


def register_agent(tx: Transaction, command: store.RegisterAgent) -> store.Registered:
    agent = command.agent
    owner = reads.owner(tx.db, command.token_hash)
    if owner is not None and owner.agent != agent.name:
        raise ValidationFailed(("token", "in use for another name; make a fresh one"))
    _check_expiry(tx, owner)
    created = reads.agent(tx.db, agent.name) is None
    if owner is None and not created:
        taken = "SELECT 1 FROM token WHERE agent = ?"
        if not command.claim or tx.db.execute(taken, (agent.name,)).fetchone():
            raise AgentExists(agent.name)
    agent = register(tx, agent)
    if owner is None:
        tx.db.execute(
            "INSERT INTO token (hash, agent, create_time) VALUES (?, ?, ?)",
            (command.token_hash, agent.name, tx.now),
        )
    return store.Registered(agent, created)


def register(tx: Transaction, agent: Agent) -> Agent:
    """Register an agent if it is not registered. Returns the registered agent.

    Raises AgentExists if the name is that of an unregistered agent.
    """
    made = Agent(create_time=tx.create_time)
    made.MergeFrom(agent)
    tx.db.execute(
        "INSERT OR IGNORE INTO agent (name, kind, unregister_time, body) VALUES (?, ?, 0, ?)",
        (made.name, made.kind, reads.agent_body(made)),
    )
    registered = reads.agent(tx.db, agent.name)
    if registered is None:
        raise AgentExists(agent.name, unregistered=True)
    return registered


def set_operator_token(tx: Transaction, command: store.SetOperatorToken) -> None:
    if reads.owner(tx.db, command.token_hash) is None:
        tx.db.execute("DELETE FROM token WHERE agent = ''")
        tx.db.execute(
            "INSERT INTO token (hash, agent, create_time) VALUES (?, '', ?)",
            (command.token_hash, tx.now),
        )


def update_agent(tx: Transaction, command: store.UpdateAgent) -> Agent:
    agent = _registered(tx, command.name)
    FieldMask(paths=command.fields).MergeMessage(
        command.settings, agent, replace_repeated_field=True
    )
    tx.db.execute("UPDATE agent SET body = ? WHERE name = ?", (reads.agent_body(agent), agent.name))
    return agent


def unregister_agent(tx: Transaction, command: store.UnregisterAgent) -> None:
    _registered(tx, command.name)
    tx.db.execute("UPDATE agent SET unregister_time = ? WHERE name = ?", (tx.now, command.name))
    for table in ("token", "participant", "presence"):
        tx.db.execute(f"DELETE FROM {table} WHERE agent = ?", (command.name,))  # noqa: S608


def _registered(tx: Transaction, name: str) -> Agent:
    agent = reads.agent(tx.db, name)
    if agent is None:
        raise AgentNotFound([name])
    return agent


def _check_expiry(tx: Transaction, owner: store.TokenOwner | None) -> None:
    """Raises TokenExpired."""
    if owner is not None and 0 < owner.expire_time <= tx.store_now:
        raise TokenExpired


def rotate_token(tx: Transaction, command: store.RotateToken) -> dict[bytes, int]:
    owner = reads.owner(tx.db, command.old_hash)
    if owner is None:
        raise TokenInvalid("the token has ended")
    _check_expiry(tx, owner)  # it may have been rotated since, perhaps by another server
    tx.db.execute(
        "INSERT INTO token (hash, agent, create_time) VALUES (?, ?, ?)",
        (command.new_hash, owner.agent, tx.now),
    )
    # Only the new token lasts: one whose response was lost expires with the old one, and no old
    # token can extend its own life.
    bounds = {"agent": owner.agent, "new": command.new_hash, "end": command.expire_time}
    tx.db.execute(
        "UPDATE token SET expire_time = :end WHERE agent = :agent AND hash <> :new"
        " AND (expire_time = 0 OR expire_time > :end)",
        bounds,
    )
    ends = tx.db.execute(
        "SELECT hash, expire_time FROM token WHERE agent = :agent AND hash <> :new", bounds
    ).fetchall()
    # Expired tokens are kept only to report TokenExpired: delete them, except the caller's.
    tx.db.execute(
        "DELETE FROM token WHERE agent = ? AND expire_time BETWEEN 1 AND ? AND hash <> ?",
        (owner.agent, tx.store_now, command.old_hash),
    )
    return dict(ends)
