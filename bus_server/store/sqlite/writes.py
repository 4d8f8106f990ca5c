"""Runs the commands of a batch, each by its function."""

import sqlite3
from collections.abc import Callable, Iterable
from typing import Any

from bus_server import store
from bus_server.errors import BusError
from bus_server.store.sqlite import activity, agents, participants, posts, threads
from bus_server.store.sqlite.transaction import Transaction

_COMMANDS: dict[type[store.Command[Any]], Callable[[Transaction, Any], Any]] = {
    store.Append: posts.append,
    store.AppendMany: posts.append_many,
    store.CreateThread: threads.create_thread,
    store.JoinThread: threads.join_thread,
    store.SetThreadState: threads.set_thread_state,
    store.UpdateThread: threads.update_thread,
    store.LeaveThread: participants.leave_thread,
    store.DeleteThread: threads.delete_thread,
    store.Purge: threads.purge,
    store.RegisterAgent: agents.register_agent,
    store.SetOperatorToken: agents.set_operator_token,
    store.UpdateAgent: agents.update_agent,
    store.UnregisterAgent: agents.unregister_agent,
    store.RotateToken: agents.rotate_token,
    store.Checkpoint: participants.checkpoint,
}

_APPENDS = (store.Append, store.AppendMany)


def run(
    db: sqlite3.Connection,
    commands: Iterable[store.Command[Any]],
    now: int,
    store_now: int | None = None,
    order: int | None = None,
) -> store.Commit:
    """Run commands in order, within a transaction. Returns their Commit.

    `now` is in microseconds since the epoch; `store_now` is the same moment on the store's clock,
    and `order` as an order time (None: equal to `now`).
    """
    tx = Transaction(
        db, now, now if store_now is None else store_now, now if order is None else order
    )
    for command in commands:
        outcome: Any
        try:
            if type(command) not in _APPENDS:
                tx.flush()  # the next command may read what was appended before it
            outcome = _COMMANDS[type(command)](tx, command)
        except BusError as refusal:
            outcome = refusal.without_traceback()
        tx.commit.outcomes.append(outcome)
    tx.flush()
    activity.touch(db, [head.thread_id for head in tx.commit.heads.values()], tx.order)
    return tx.commit
