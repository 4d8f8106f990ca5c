"""Decides the commands about tokens.

Each function decides one command. The command's docstring in token_commands.py is its contract.
"""

import secrets

from bus_server.errors import (
    AgentExists,
    AgentNotFound,
    TokenExpired,
    TokenInvalid,
    ValidationFailed,
)
from bus_server.permissions import SCOPES
from bus_server.store.batch import Batch
from bus_server.store.facts import OPERATOR, Token
from bus_server.store.token_commands import (
    KEPT_EXPIRED,
    REVOKED,
    CreateToken,
    RevokeToken,
    RotateToken,
    SetOperatorToken,
    TokenInfo,
)
from threadbus.v1.agent_pb2 import AGENT_KIND_AGENT, Agent


def create_token(batch: Batch, command: CreateToken) -> TokenInfo:
    name, tokens = command.agent, batch.changes.tokens
    if name and batch.profile(name) is None:
        if name in batch.changes.unregistered:  # see register_agent
            raise AgentExists(name)
        batch.register(Agent(name=name, kind=AGENT_KIND_AGENT))
    for token_hash, token in batch.tokens_of(name).items():
        if _expired_long_ago(batch, token):
            tokens[token_hash] = None
    scopes, prefixes, end = command.scopes, command.prefixes, command.end_time
    token_id = secrets.token_hex(8)
    tokens[command.token_hash] = Token(name, end, token_id, scopes, prefixes, end)
    return TokenInfo(token_id, name, scopes, prefixes, batch.facts.now, end)


def revoke_token(batch: Batch, command: RevokeToken) -> list[bytes]:
    found = batch.tokens_with_id(command.token_id)
    if not any(token.expire_time != REVOKED for token in found.values()):
        raise ValidationFailed(("token_id", "no token has this id: list them with ListTokens"))
    if command.own_hash in found:
        reason = (
            "the token that this call is made with: revoke it with another token of an operator"
        )
        raise ValidationFailed(("token_id", reason))
    for token_hash, token in found.items():
        batch.changes.tokens[token_hash] = token._replace(expire_time=REVOKED)
    return list(found)


def set_operator_token(batch: Batch, command: SetOperatorToken) -> None:
    found = batch.token(command.token_hash)
    if found is not None and found.expire_time == REVOKED:
        raise TokenInvalid("the operator's token in the server's file was revoked")
    if found is None:
        if command.replace:
            for token_hash, token in batch.tokens_of(OPERATOR).items():
                if token.token_id == _id_in_file(token_hash):
                    batch.changes.tokens[token_hash] = None
        token_id = _id_in_file(command.token_hash)
        batch.changes.tokens[command.token_hash] = Token(OPERATOR, 0, token_id, SCOPES)


def rotate_token(batch: Batch, command: RotateToken) -> dict[bytes, int]:
    agent = command.agent
    if agent:
        if batch.profile(agent) is None:
            raise AgentNotFound([agent])
        replaced, new = batch.tokens_of(agent), agents_token(agent)
    else:
        old = batch.token(command.old_hash)
        if old is None:
            raise TokenInvalid("the token was revoked")
        # Another call may have rotated the token since this one was authenticated.
        check_expiry(batch, old)
        replaced = batch.tokens_with_id(old.token_id)
        new = old._replace(expire_time=old.end_time)
    # All earlier tokens expire, including one from a rotation whose response was lost. None of them
    # can extend its own life.
    tokens = batch.changes.tokens
    ends: dict[bytes, int] = {}
    for token_hash, token in replaced.items():
        # Before its lifetime is over, if it has one: only the newest token expires with that.
        latest = [token.expire_time, token.end_time - 1, command.expire_time]
        ends[token_hash] = min(time for time in latest if time > 0)
        kept = token._replace(expire_time=ends[token_hash])
        tokens[token_hash] = None if _expired_long_ago(batch, token) else kept
    tokens[command.new_hash] = new
    return ends


def agents_token(agent: str) -> Token:
    """Returns a token that permits an agent to post and read everywhere, and does not expire."""
    return Token(agent, 0, secrets.token_hex(8), ("post", "read"))


def check_expiry(batch: Batch, token: Token | None) -> None:
    """Raises TokenInvalid or TokenExpired if there is a token that was revoked, or has expired."""
    if token is not None and token.expire_time == REVOKED:
        raise TokenInvalid("the token was revoked")
    if token is not None and 0 < token.expire_time <= batch.facts.store_now:
        raise TokenExpired


def _expired_long_ago(batch: Batch, token: Token) -> bool:
    """Returns whether a token need not be kept any longer."""
    return REVOKED < token.expire_time <= batch.facts.store_now - round(KEPT_EXPIRED * 1e6)


def _id_in_file(token_hash: bytes) -> str:
    """Returns the id of a token that comes from a server's file. Those of others are random."""
    return token_hash[:8].hex()
