"""Reads and writes of tokens."""

import sqlite3
from collections.abc import Iterable

from bus_server import store
from bus_server.store.batch import Changes
from bus_server.store.facts import OPERATOR, Facts, Needs, Token

_TOKENS = "SELECT hash, agent, expire_time, id, scopes, prefixes, end_time FROM token"
_SAVE = (
    "INSERT INTO token (hash, create_time, agent, expire_time, id, scopes, prefixes, end_time)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET agent = excluded.agent,"
    " expire_time = excluded.expire_time, id = excluded.id, scopes = excluded.scopes,"
    " prefixes = excluded.prefixes, end_time = excluded.end_time"
)
_USED = "UPDATE token SET last_use_time = ?2 WHERE hash = ?1 AND last_use_time < ?2"


def gather(db: sqlite3.Connection, needs: Needs, facts: Facts) -> None:
    """Look up the needed tokens. The needed profiles must be there."""
    agents = {name for name in needs.tokens_of if name == OPERATOR or name in facts.profiles}
    rows, ids = [], set(needs.token_ids)
    for token_hash in needs.tokens:
        rows += db.execute(f"{_TOKENS} WHERE hash = ?", (token_hash,)).fetchall()
    if needs.rotation:
        ids |= {token_id for _, _, _, token_id, *_ in rows}
    for agent in agents:
        rows += db.execute(f"{_TOKENS} WHERE agent = ?", (agent,)).fetchall()
    for token_id in ids:
        rows += db.execute(f"{_TOKENS} WHERE id = ?", (token_id,)).fetchall()
    facts.tokens = {token_hash: Token.stored(*columns) for token_hash, *columns in rows}


def write(db: sqlite3.Connection, changes: Changes, now: int) -> None:
    """Write the changes of tokens, and their last uses. `now`: microseconds since the epoch."""
    ended = [(token_hash,) for token_hash, token in changes.tokens.items() if token is None]
    db.executemany("DELETE FROM token WHERE hash = ?", ended)
    saved = [
        (token_hash, now, *token.to_store())
        for token_hash, token in changes.tokens.items()
        if token is not None
    ]
    db.executemany(_SAVE, saved)
    db.executemany(_USED, list(changes.token_uses.items()))


def owner(db: sqlite3.Connection, token_hash: bytes) -> store.TokenOwner | None:
    """Returns the owner of the token with this hash, even if expired; None if there is none."""
    row = db.execute(
        "SELECT t.agent, coalesce(a.kind, 0), t.expire_time, t.scopes, t.prefixes"
        " FROM token AS t LEFT JOIN agent AS a ON a.name = t.agent WHERE t.hash = ?",
        (token_hash,),
    ).fetchone()
    return None if row is None else store.TokenOwner.stored(*row)


def expire_times(db: sqlite3.Connection, token_hashes: Iterable[bytes]) -> dict[bytes, int]:
    """Returns when tokens expire, by hash, in microseconds on the store's clock; 0: never.

    Tokens that do not exist are left out.
    """
    found = {}
    for token_hash in token_hashes:  # not json_each as elsewhere: JSON has no bytes
        row = db.execute("SELECT expire_time FROM token WHERE hash = ?", (token_hash,)).fetchone()
        if row is not None:
            found[token_hash] = row[0]
    return found


def list_tokens(
    db: sqlite3.Connection,
    agent: str | None,
    limit: int,
    before: store.TokenPageKey,
    now: int,
) -> list[store.TokenInfo]:
    """Returns tokens that are valid at `now`, newest first, as Store.list_tokens does."""
    rows = db.execute(
        "SELECT id, agent, scopes, prefixes, create_time, end_time, last_use_time FROM token"  # noqa: S608
        " WHERE (create_time, id) < (:create_time, :token_id)"
        f"{'' if agent is None else ' AND agent = :agent'}"
        " AND expire_time = end_time AND (end_time = 0 OR end_time > :now)"
        " ORDER BY create_time DESC, id DESC LIMIT :limit",
        before._asdict() | {"agent": agent, "limit": limit, "now": now},
    )
    return [store.TokenInfo.stored(*row) for row in rows]
