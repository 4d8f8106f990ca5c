"""Decides which of its oldest entries a thread loses.

The contracts are those of Compact and ForgetAddressed in compact_commands.py.
"""

from bus_server.errors import ThreadNotFound
from bus_server.store.asked import close_unanswered
from bus_server.store.batch import Batch
from bus_server.store.compact_commands import (
    Compact,
    Compacted,
    ForgetAddressed,
    FrontRow,
    Removal,
)

#: Most notices that Compact appends, exceeded by those of one message at most.
MAX_NOTICES = 64


def compact(batch: Batch, command: Compact) -> Compacted:
    name, head = command.name, batch.head(command.name)
    limits = command.default.of_thread(batch.settings(name))
    front = [row for row in batch.facts.fronts.get(head.thread_id, ()) if row.seq >= head.first_seq]
    counted = command.counted
    size = counted.size if counted and counted[:2] == (head.epoch, head.first_seq) else 0
    removed: list[FrontRow] = []
    asking = {key.seq for key in batch.facts.asked if key.thread_id == head.thread_id}
    notices, removed_size = 0, 0
    for row in front:
        head_seq, now = batch.head(name).seq, batch.facts.now
        if not limits.exceeded(row.seq, row.time, head_seq, size - removed_size, now):
            break
        if removed and notices >= MAX_NOTICES:
            break
        if row.seq in asking:
            notices += close_unanswered(batch, name, row.seq)
        removed.append(row)
        removed_size += row.size
    if removed:
        _remove(batch, name, removed)
    head = batch.head(name)
    cut_short = len(removed) == len(front) or notices >= MAX_NOTICES
    more = bool(removed) and cut_short and head.first_seq <= head.seq
    return Compacted(head.first_seq, removed_size, more, len(removed))


def _remove(batch: Batch, name: str, rows: list[FrontRow]) -> None:
    """Remove the oldest entries of a thread."""
    head = batch.head(name)._replace(first_seq=rows[-1].seq + 1)
    batch.facts.heads[name] = batch.commit.compacted[name] = head
    if name in batch.commit.heads:
        batch.commit.heads[name] = head
    before = batch.changes.removals.get(head.thread_id)
    rows = [*before.rows, *rows] if before else rows
    batch.changes.removals[head.thread_id] = Removal(rows[-1].seq, rows)


def forget_addressed(batch: Batch, command: ForgetAddressed) -> str:
    try:
        head = batch.head(command.name)
    except ThreadNotFound:
        return ""
    found = batch.facts.addressees.get(head.thread_id)
    if not found:
        return ""
    agents, following = found
    batch.changes.forgotten += [(head.thread_id, agent, head.first_seq) for agent in agents]
    return following
