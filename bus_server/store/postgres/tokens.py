"""Reads and writes of tokens."""

from collections.abc import Collection, Iterable

from bus_server import store
from bus_server.store.batch import Changes
from bus_server.store.facts import Needs
from bus_server.store.postgres.arrays import Blobs, Ints, Texts, texts
from bus_server.store.postgres.connection import Connection, Statement

_COLUMNS = "hash, agent, expire_time, id, scopes, prefixes, end_time"
_TOKENS = f"""
SELECT {_COLUMNS} FROM token WHERE hash = ANY (%(tokens)s)
UNION
SELECT {_COLUMNS} FROM token WHERE agent = ANY (%(tokens_of)s)
UNION
SELECT {_COLUMNS} FROM token WHERE id = ANY (%(token_ids)s)
UNION
SELECT t.* FROM unnest(%(rotated)s) AS n (hash)
CROSS JOIN LATERAL (SELECT id FROM token WHERE hash = n.hash LIMIT 1) AS o
CROSS JOIN LATERAL (SELECT {_COLUMNS} FROM token WHERE id = o.id) AS t
"""  # noqa: S608
_END = "DELETE FROM token WHERE hash = ANY (%(hashes)s)"
_SAVE = f"""
INSERT INTO token ({_COLUMNS}, create_time)
SELECT *, %(now)s FROM unnest(%(hashes)s, %(agents)s, %(expire_times)s, %(ids)s, %(scopes)s,
    %(prefixes)s, %(end_times)s)
ON CONFLICT (hash) DO UPDATE SET agent = excluded.agent, expire_time = excluded.expire_time,
    id = excluded.id, scopes = excluded.scopes, prefixes = excluded.prefixes,
    end_time = excluded.end_time
"""  # noqa: S608
_USED = """
UPDATE token AS t SET last_use_time = n.time FROM unnest(%(hashes)s, %(times)s) AS n (hash, time)
WHERE t.hash = n.hash AND t.last_use_time < n.time
"""
_OWNER = (
    "SELECT t.agent, coalesce((SELECT kind FROM agent WHERE name = t.agent), 0), t.expire_time,"
    " t.scopes, t.prefixes FROM token AS t WHERE t.hash = %(hash)s"
)
_EXPIRE_TIMES = "SELECT hash, expire_time FROM token WHERE hash = ANY (%(hashes)s)"
_LIST = (
    "SELECT id, agent, scopes, prefixes, create_time, end_time, last_use_time FROM token"
    " WHERE (create_time, id) < (%(create_time)s, %(token_id)s)"
    " AND expire_time = end_time AND (end_time = 0 OR end_time > %(now)s)"
)
_ORDER = " ORDER BY create_time DESC, id DESC LIMIT %(limit)s"
_LIST_ALL, _LIST_AGENTS = f"{_LIST}{_ORDER}", f"{_LIST} AND agent = %(agent)s{_ORDER}"


def statement(needs: Needs) -> Statement:
    """Returns the statement that looks up the needed tokens."""
    return _TOKENS, {
        "tokens": Blobs(needs.tokens),
        "tokens_of": texts(needs.tokens_of),
        "token_ids": texts(needs.token_ids),
        "rotated": Blobs(needs.tokens if needs.rotation else ()),
    }


def writes(changes: Changes, now: int) -> Iterable[Statement]:
    """Yields the statements that write the changes of tokens, and their last uses.

    `now`: in microseconds since the Unix epoch.
    """
    ended = [token_hash for token_hash, token in changes.tokens.items() if token is None]
    if ended:
        yield _END, {"hashes": Blobs(ended)}
    saved = [
        (token_hash, *token.to_store()) for token_hash, token in changes.tokens.items() if token
    ]
    if saved:
        hashes, agents, expire_times, ids, scopes, prefixes, end_times = zip(*saved, strict=True)
        yield (
            _SAVE,
            {
                "now": now,
                "hashes": Blobs(hashes),
                "agents": Texts(agents),
                "expire_times": Ints(expire_times),
                "ids": Texts(ids),
                "scopes": Texts(scopes),
                "prefixes": Texts(prefixes),
                "end_times": Ints(end_times),
            },
        )
    if changes.token_uses:
        used = sorted(changes.token_uses.items())
        yield _USED, {"hashes": Blobs(key for key, _ in used), "times": Ints(at for _, at in used)}


async def owner(db: Connection, token_hash: bytes) -> store.TokenOwner | None:
    """Returns the owner of the token with this hash, even if expired; None if there is none."""
    (rows,) = await db.run((_OWNER, {"hash": token_hash}))
    return store.TokenOwner.stored(*rows[0]) if rows else None


async def expire_times(db: Connection, token_hashes: Collection[bytes]) -> dict[bytes, int]:
    """Returns when tokens expire, by hash, in microseconds on the store's clock; 0: never.

    Tokens that do not exist are left out.
    """
    (rows,) = await db.run((_EXPIRE_TIMES, {"hashes": Blobs(token_hashes)}))
    return dict(rows)


async def list_tokens(
    db: Connection, agent: str | None, limit: int, before: store.TokenPageKey, now: int
) -> list[store.TokenInfo]:
    """Returns tokens that are valid at `now`, newest first, as Store.list_tokens does."""
    if "\0" in (agent or ""):
        return []
    asked = before._asdict() | {"limit": limit, "now": now}
    if agent is None:
        (rows,) = await db.run((_LIST_ALL, asked))
    else:
        (rows,) = await db.run((_LIST_AGENTS, asked | {"agent": agent}))
    return [store.TokenInfo.stored(*row) for row in rows]
