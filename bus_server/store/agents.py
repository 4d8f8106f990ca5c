"""Decides the commands about agents, and checkpoints.

Each function decides one command. The command's docstring in commands.py is its contract.
"""

from google.protobuf.field_mask_pb2 import FieldMask

from bus_server.errors import (
    AccessDenied,
    AgentExists,
    AgentNotFound,
    ValidationFailed,
)
from bus_server.store.batch import Batch
from bus_server.store.commands import (
    Checkpoint,
    RegisterAgent,
    Registered,
    UnregisterAgent,
    UpdateAgent,
)
from bus_server.store.token_commands import REVOKED
from bus_server.store.tokens import agents_token, check_expiry
from threadbus.v1.agent_pb2 import AGENT_KIND_HUMAN, Agent


def register_agent(batch: Batch, command: RegisterAgent) -> Registered:
    name = command.agent.name
    token = batch.token(command.token_hash)
    ended = token is None and command.token_hash in batch.changes.tokens
    if ended or (token is not None and token.agent != name):
        raise ValidationFailed(("token", "in use for another name; generate a new one"))
    if token is not None and token.expire_time == REVOKED and batch.was_unregistered(name):
        token = None  # an operator, as checked below, registers the agent again
    check_expiry(batch, token)
    if batch.was_unregistered(name) and not command.operator:
        raise AgentExists(name, unregistered=True)
    # A batch cannot unregister a name and register it again, because of the order in which Changes
    # are written: this is refused, as if it were decided first.
    if name in batch.changes.unregistered:
        raise AgentExists(name)
    agent = batch.profile(name)
    created = agent is None
    valid = any(
        not 0 < other.expire_time <= batch.facts.store_now
        for other in batch.tokens_of(name).values()
    )
    if token is None and not created and (not command.operator or valid):
        raise AgentExists(name)
    if created and command.agent.kind == AGENT_KIND_HUMAN and not command.operator:
        raise AccessDenied(
            "only operators register people: threadbus register NAME --human --token-file FILE, "
            "with the file of the operator's token"
        )
    if agent is None:
        agent = batch.register(command.agent)
    if token is None:
        batch.changes.tokens[command.token_hash] = agents_token(name)
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


def checkpoint(batch: Batch, command: Checkpoint) -> None:
    batch.changes.presence += command.presence
    batch.changes.token_uses |= command.token_uses
    for (agent, thread), position in command.positions.items():
        key = agent, thread, position.epoch
        earlier = batch.changes.positions.get(key, position)
        batch.changes.positions[key] = earlier.up_to(position)


def _registered(batch: Batch, name: str) -> Agent:
    """Returns a copy of an agent. Raises AgentNotFound."""
    agent = batch.profile(name)
    if agent is None:
        raise AgentNotFound([name])
    return agent
