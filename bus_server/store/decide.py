"""Decides the commands of a batch, each with the function for its type."""

from collections.abc import Callable, Iterable
from typing import Any

from bus_server.errors import BusError
from bus_server.store import (
    agents,
    asked,
    asked_commands,
    commands,
    compact,
    compact_commands,
    posts,
    server_commands,
    servers,
    threads,
    token_commands,
    tokens,
)
from bus_server.store.batch import Batch
from bus_server.store.facts import Facts

_DECISIONS: dict[type[commands.Command[Any]], Callable[[Batch, Any], Any]] = {
    commands.Append: posts.append,
    commands.AppendMany: posts.append_many,
    commands.CreateThread: threads.create_thread,
    commands.JoinThread: threads.join_thread,
    commands.SetThreadState: threads.set_thread_state,
    commands.UpdateThread: threads.update_thread,
    commands.LeaveThread: threads.leave_thread,
    commands.DeleteThread: threads.delete_thread,
    commands.Purge: threads.purge,
    compact_commands.Compact: compact.compact,
    compact_commands.ForgetAddressed: compact.forget_addressed,
    asked_commands.Withdraw: asked.withdraw,
    asked_commands.WriteNotice: asked.write_notice,
    commands.RegisterAgent: agents.register_agent,
    token_commands.SetOperatorToken: tokens.set_operator_token,
    token_commands.CreateToken: tokens.create_token,
    token_commands.RevokeToken: tokens.revoke_token,
    token_commands.RotateToken: tokens.rotate_token,
    commands.UpdateAgent: agents.update_agent,
    commands.UnregisterAgent: agents.unregister_agent,
    commands.Checkpoint: agents.checkpoint,
    server_commands.SaveServer: servers.save_server,
    server_commands.RemoveServers: servers.remove_servers,
}


def decide(batch_commands: Iterable[commands.Command[Any]], facts: Facts) -> Batch:
    """Returns the batch: what its commands change, decided in order, and their outcomes.

    A BusError is the outcome of its command. Any other exception is raised.

    Args:
        facts: those that `facts.needs(batch_commands)` asks for. The batch takes ownership of them.
    """
    batch = Batch(facts)
    for command in batch_commands:
        outcome: Any
        try:
            outcome = _DECISIONS[type(command)](batch, command)
        except BusError as refusal:
            outcome = refusal.without_traceback()
        batch.commit.outcomes.append(outcome)
    batch.commit.agents_changed = batch.changes.concern_agents()
    return batch
