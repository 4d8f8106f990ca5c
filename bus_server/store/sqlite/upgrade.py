"""Upgrades the schema of an older file to the current version."""

import json
import sqlite3
from pathlib import Path

from bus_server.store.facts import addressees
from bus_server.store.post_hash import post_hash
from bus_server.store.sqlite.file import SCHEMA_VERSION
from threadbus.v1.agent_pb2 import Agent
from threadbus.v1.message_pb2 import Message
from threadbus.v1.thread_pb2 import Thread


def upgrade(db: sqlite3.Connection) -> None:
    """Upgrade the file's schema, each version in a transaction of its own. Raises sqlite3.Error.

    A transaction that fails changes nothing. Rows are rewritten one at a time, so that memory use
    does not grow with their number.
    """
    db.create_function("thread_body", 5, _thread_body)
    db.create_function("agent_body", 4, _agent_body)
    db.create_function("post_hash", 1, lambda body: post_hash(Message.FromString(body)))
    db.create_function("edit_of", 1, lambda body: Message.FromString(body).edit_of)
    db.create_function("addressed", 1, _addressed)
    while True:
        db.execute("BEGIN IMMEDIATE")  # from here on, no other server can upgrade the file
        try:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version >= SCHEMA_VERSION:
                return
            script = Path(__file__).with_name(f"upgrade-{version + 1}.sql").read_text("utf-8")
            for statement in script.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {version + 1}")
            db.execute("COMMIT")
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")


def _thread_body(topic: str, stage: str, labels: str, creator: str, create_time: int) -> bytes:
    """Returns the `body` column of version 6 for the columns of a thread in version 5."""
    thread = Thread(topic=topic, stage=stage, labels=json.loads(labels), creator=creator)
    thread.create_time.FromMicroseconds(create_time)
    return thread.SerializeToString()


def _agent_body(display_name: str, description: str, labels: str, create_time: int) -> bytes:
    """Returns the `body` column of version 6 for the columns of an agent in version 5."""
    agent = Agent(display_name=display_name, description=description, labels=json.loads(labels))
    agent.create_time.FromMicroseconds(create_time)
    return agent.SerializeToString()


def _addressed(body: bytes) -> str | None:
    """Returns whom a message addresses: agents, and the seq that it replies to. None: nobody."""
    message = Message.FromString(body)
    found: list[str | int] = [*addressees(message)]
    if message.reply_to:
        found.append(message.reply_to)
    return json.dumps(found) if found else None
