"""Decides the commands about threads.

Each function decides one command. The command's docstring in commands.py is its contract.
"""

from collections.abc import Sequence
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask

from bus_server.errors import AccessDenied, CursorInvalid, ThreadExists, ThreadNotFound
from bus_server.permissions import Who
from bus_server.store.asked import close_requests, leave
from bus_server.store.batch import Batch
from bus_server.store.bodies import message_body
from bus_server.store.commands import (
    CreateThread,
    DeleteThread,
    Joined,
    JoinThread,
    LeaveThread,
    Purge,
    SetThreadState,
    UpdateThread,
    read_in,
)
from bus_server.store.compact_commands import Limits
from bus_server.store.facts import ANONYMOUS
from threadbus.v1.agent_pb2 import AGENT_KIND_HUMAN
from threadbus.v1.message_pb2 import (
    MESSAGE_KIND_THREAD,
    PRIORITY_NORMAL,
    WAKE_NOBODY,
    Message,
)
from threadbus.v1.thread_pb2 import THREAD_STATE_OPEN, Retention, SyncMode, Thread, ThreadState


def create_thread(batch: Batch, command: CreateThread) -> Thread:
    name = command.thread.name
    try:
        batch.head(name)
    except ThreadNotFound:
        batch.create_thread(command.thread)
        return batch.settings(name)
    raise ThreadExists(name)


def join_thread(batch: Batch, command: JoinThread) -> Joined:
    name, created = command.thread.name, False
    similar: Sequence[str] = ()
    try:
        head = batch.head(name)
    except ThreadNotFound as missing:
        if not command.create:
            raise
        head, created, similar = batch.create_thread(command.thread), True, missing.similar
    after = head.first_seq - 1 if command.from_first else head.seq
    if command.agent is not None:
        after = batch.start_participant(name, command.agent, after)
    return Joined(head.thread_id, created, after, similar)


def set_thread_state(batch: Batch, command: SetThreadState) -> Thread:
    _check_conditions(batch, command)
    thread = batch.settings(command.name)
    if thread.state != command.state:
        thread.state = command.state
        state = ThreadState.Name(command.state).removeprefix("THREAD_STATE_").lower()
        _change(batch, command, thread, f"state to {state}")
        if command.state != THREAD_STATE_OPEN:
            close_requests(batch, command.name)
    return batch.settings(command.name)


def update_thread(batch: Batch, command: UpdateThread) -> Thread:
    _check_conditions(batch, command)
    before, thread = batch.settings(command.name), batch.settings(command.name)
    FieldMask(paths=command.fields).MergeMessage(
        command.settings, thread, replace_message_field=True, replace_repeated_field=True
    )
    changes = [
        f"{field} to {_setting(thread, field) or 'none'}"
        for field in command.fields
        if getattr(thread, field) != getattr(before, field)
        or (field == "retention" and thread.HasField("retention") != before.HasField("retention"))
    ]
    if changes:
        _change(batch, command, thread, " and ".join(changes))
    return batch.settings(command.name)


def _setting(thread: Thread, field: str) -> str:
    """Returns a setting as text for a THREAD entry; "" if it is not set."""
    value: Any = getattr(thread, field)
    if field == "labels":
        return ", ".join(f"{key}={value[key]}" for key in sorted(value))
    if field == "retention":
        return _retention(value) if thread.HasField("retention") else "that of the server"
    if field == "sync_mode":
        return SyncMode.Name(value).removeprefix("SYNC_MODE_").lower()
    return f"“{value}”" if value else ""


def _retention(retention: Retention) -> str:
    """Returns a retention as text: what is kept."""
    age, messages, size = Limits.of(retention)
    kept = [f"{_age(age)}"] if age else []
    kept += [f"{messages:,} messages"] if messages else []
    kept += [f"{size:,} bytes"] if size else []
    return ", ".join(kept) or "everything"


def _age(age: int) -> str:
    """Returns an age as text. `age`: in microseconds."""
    units = (("days", 86_400_000_000), ("hours", 3_600_000_000), ("minutes", 60_000_000))
    unit, size = next((each for each in units if age % each[1] == 0), ("seconds", 1_000_000))
    return f"{age / size:,.6f}".rstrip("0").rstrip(".") + f" {unit}"


def _change(
    batch: Batch, command: SetThreadState | UpdateThread, thread: Thread, change: str
) -> None:
    """Replace a thread, and append a THREAD entry about the change.

    Raises QuotaExceeded if the thread is full.
    """
    head = batch.head(command.name)
    batch.check_room(head)
    entry = Message()
    entry.CopyFrom(command.entry)
    entry.thread = command.name
    entry.kind = MESSAGE_KIND_THREAD
    entry.priority = PRIORITY_NORMAL
    entry.content = f"{entry.sender} set the thread's {change}"
    seq = batch.append(command.name, entry.sender, message_body(entry), None, WAKE_NOBODY)
    read = read_in(command.position, head.epoch)
    batch.record_author(command.name, entry.sender, seq, read)
    batch.change_thread(thread)


def leave_thread(batch: Batch, command: LeaveThread) -> None:
    if batch.read_seq(command.name, command.agent) is not None:
        leave(batch, command.name, command.agent)
    batch.remove_participant(command.name, command.agent)


def delete_thread(batch: Batch, command: DeleteThread) -> None:
    _check_conditions(batch, command)
    batch.delete_thread(command.name)


def _check_conditions(batch: Batch, command: SetThreadState | UpdateThread | DeleteThread) -> None:
    """Raises CursorInvalid or AccessDenied if the conditions of a change do not hold."""
    name, conditions, head = command.name, command.conditions, batch.head(command.name)
    if conditions is None:
        return
    agent, kind, who, epoch = conditions
    if epoch and epoch != head.epoch:
        raise CursorInvalid(head, past_head=False)
    creator = batch.facts.settings[head.thread_id].creator
    if who is Who.ANYONE or kind == AGENT_KIND_HUMAN or creator in (agent, ANONYMOUS):
        return
    owners = f"{creator}, people and operators"
    if who is Who.PARTICIPANTS:
        if batch.read_seq(name, agent) is not None:
            return
        owners = f"participants, {owners}"
    raise AccessDenied(f"{name} was created by {creator}: only {owners} may do this")


def purge(batch: Batch, command: Purge) -> bool:
    more = batch.facts.leftovers or bool(batch.changes.deleted_threads)
    batch.changes.purge = batch.changes.purge or more
    return more
