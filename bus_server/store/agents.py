"""Decides the commands about agents, tokens and checkpoints.

Each function decides one command. The command's docstring in commands.py is its contract.
"""

from google.protobuf.field_mask_pb2 import FieldMask

from bus_server.errors import (
    AgentExists,
    AgentNotFound,
    TokenExpired,
    TokenInvalid,
    ValidationFailed,
)
from bus_server.store.batch import Batch
from bus_server.store.commands import (
    Checkpoint,
    RegisterAgent,
    Registered,
    RotateToken,
    SetOperatorToken,
    UnregisterAgent,
    UpdateAgent,
)
from bus_server.store.facts import OPERATOR, Token
from threadbus.v1.agent_pb2 import Agent


def register_agent(batch: Batch, command: RegisterAgent) -> Registered:
    name = command.agent.name
    token = batch.token(command.token_hash)
    if token is not None and token.agent != name:
        raise ValidationFailed(("token", "in use for another name; generate a new one"))
    _check_expiry(batch, token)
    if batch.was_unregistered(name):
        raise AgentExists(name, unregistered=True)
    agent = batch.profile(name)
    created = agent is None
    if token is None and not created and (not command.claim or batch.tokens_of(name)):
        raise AgentExists(name)
    if agent is None:
        agent = batch.register(command.agent)
    if token is None:
        batch.changes.tokens[command.token_hash] = Token(name, 0)
    return Registered(agent, created)


def update_agent(batch: Batch, command: UpdateAgent) -> Agent:
    agent = _registered(batch, command.name)
    FieldMask(paths=command.fields).MergeMessage(
        command.settings, agent, replace_repeated_field=True
    )
    batch.change_agent(agent)
    return agent


def unregister_agent(batch: Batch, command: UnregisterAgent) -> None:
    batch.unregister(_registered(batch, command.name))


def set_operator_token(batch: Batch, command: SetOperatorToken) -> None:
    if batch.token(command.token_hash) is None:
        if command.replace:
            batch.changes.tokens |= dict.fromkeys(batch.tokens_of(OPERATOR))
        batch.changes.tokens[command.token_hash] = Token(OPERATOR, 0)


def rotate_token(batch: Batch, command: RotateToken) -> dict[bytes, int]:
    old = batch.token(command.old_hash)
    if old is None:
        raise TokenInvalid("the token was revoked")
    # Another call may have rotated the token since this one was authenticated.
    _check_expiry(batch, old)
    # All earlier tokens expire, including one from a rotation whose response was lost. None of them
    # can extend its own life.
    end, tokens = command.expire_time, batch.changes.tokens
    ends: dict[bytes, int] = {}
    for token_hash, token in batch.tokens_of(old.agent).items():
        ends[token_hash] = min(token.expire_time or end, end)
        tokens[token_hash] = token._replace(expire_time=ends[token_hash])
        # Expired tokens are kept only to report TokenExpired: delete them, except the caller's.
        if 0 < ends[token_hash] <= batch.facts.store_now and token_hash != command.old_hash:
            tokens[token_hash] = None
    tokens[command.new_hash] = Token(old.agent, 0)
    return ends


def checkpoint(batch: Batch, command: Checkpoint) -> None:
    batch.changes.presence += command.presence
    for (agent, thread), position in command.positions.items():
        key = agent, thread, position.epoch
        earlier = batch.changes.positions.get(key, position)
        batch.changes.positions[key] = earlier.up_to(position.delivered, position.read)


def _registered(batch: Batch, name: str) -> Agent:
    """Returns a copy of an agent. Raises AgentNotFound."""
    agent = batch.profile(name)
    if agent is None:
        raise AgentNotFound([name])
    return agent


def _check_expiry(batch: Batch, token: Token | None) -> None:
    """Raises TokenExpired if there is a token and it has expired."""
    if token is not None and 0 < token.expire_time <= batch.facts.store_now:
        raise TokenExpired
