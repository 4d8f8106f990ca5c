"""Decides requests: opens, answers, closes and withdraws them, and appends notices about them."""

import contextlib
from collections.abc import Iterable

from bus_server.errors import (
    AccessDenied,
    CursorInvalid,
    MessageNotFound,
    QuotaExceeded,
    ThreadNotFound,
    ValidationFailed,
)
from bus_server.store.asked_commands import Withdraw, WriteNotice
from bus_server.store.asked_rows import MAX_OPEN_REQUESTS, Asked, AskedKey, StoredRequest
from bus_server.store.batch import Batch
from bus_server.store.bodies import message_body
from bus_server.store.commands import MAX_SEQ, Head, PresenceRow
from threadbus.v1.agent_pb2 import AGENT_KIND_SYSTEM, PRESENCE_OFFLINE
from threadbus.v1.message_pb2 import (
    MESSAGE_KIND_NOTICE,
    PRIORITY_NORMAL,
    WAKE_ADDRESSED,
    WAKE_NOBODY,
    Message,
    Notice,
    Wake,
)
from threadbus.v1.request_pb2 import (
    REQUEST_STATE_ANSWERED,
    REQUEST_STATE_CLOSED,
    REQUEST_STATE_OPEN,
    REQUEST_STATE_WITHDRAWN,
    Request,
)

#: The sender of NOTICE entries. It is not an agent.
SYSTEM = "system"

#: What the notices tell people; WITHDRAWN apart.
_TEXTS = {
    Notice.REASON_AGENT_IDLE: "{agent} has read message {seq}, and is idle without an answer",
    Notice.REASON_AGENT_LAPSED: "{agent} has not been seen lately, and has not answered"
    " message {seq}",
    Notice.REASON_AGENT_OFFLINE: "{agent} has ended its session without an answer to message {seq}",
    Notice.REASON_AGENT_LEFT: "{agent} has left without an answer to message {seq}",
    Notice.REASON_OVERDUE: "{agent} has not answered message {seq} in time",
    Notice.REASON_WITHDRAWN: "the request of message {seq} to {agent} was withdrawn",
}


def check_quota(batch: Batch, name: str, agents: Iterable[str]) -> None:
    """Raises QuotaExceeded if one of these agents has MAX_OPEN_REQUESTS open in a thread."""
    thread_id = batch.head(name).thread_id
    for agent in agents:
        if batch.facts.open_requests.get((thread_id, agent), 0) >= MAX_OPEN_REQUESTS:
            quota = f"open requests to an agent in a thread, which {agent} has,"
            raise QuotaExceeded(quota, MAX_OPEN_REQUESTS, "withdraw some, or ask in another thread")


def open_requests(batch: Batch, seq: int, message: Message) -> None:
    """Open the requests of a message that was appended. `message`: without its content."""
    name, asker, expected = message.thread, message.sender, message.expect_reply
    thread_id, facts = batch.head(name).thread_id, batch.facts
    if message.traceparent:
        facts.traceparents[thread_id, seq] = message.traceparent
    due = 0
    if expected.HasField("within"):
        due = facts.store_now + expected.within.ToMicroseconds()
    for agent in expected.agents:
        gone = _is_gone(facts.presence.get(agent), facts.store_now)
        asked = Asked(asker, REQUEST_STATE_OPEN, facts.now, facts.store_now, due, noticed=int(gone))
        _save(batch, name, AskedKey(thread_id, seq, agent), asked)


def _is_gone(stored: PresenceRow | None, now: int) -> bool:
    """Returns whether an agent is LAPSED, OFFLINE or was never seen, as of the last checkpoint."""
    return stored is None or stored.reported == PRESENCE_OFFLINE or stored.lease_end_time <= now


def answer(batch: Batch, name: str, seq: int, agent: str, reply_to: int) -> None:
    """Answer the request that an entry of an agent replies to, if there is one that is open.

    The entry, which was appended, may reply to the message that asks, or to an edit of it.
    """
    if not batch.facts.asked:
        return
    seqs = [reply_to]
    with contextlib.suppress(MessageNotFound):  # it is not kept any more, or no answer
        seqs.append(batch.entry(name, reply_to).edit_of)
    for asking in seqs:
        key = AskedKey(batch.head(name).thread_id, asking, agent)
        asked = batch.facts.asked.get(key)
        if asked is not None and asked.state == REQUEST_STATE_OPEN:
            answered = asked._replace(state=REQUEST_STATE_ANSWERED, reply_seq=seq)
            _save(batch, name, key, answered)


def close_requests(batch: Batch, name: str) -> None:
    """Close the open requests in a thread, which has been closed."""
    for key, asked in _in_thread(batch, batch.head(name).thread_id):
        if asked.state == REQUEST_STATE_OPEN:
            _save(batch, name, key, asked._replace(state=REQUEST_STATE_CLOSED))


def close_unanswered(batch: Batch, name: str, seq: int) -> int:
    """Close the open requests of a message that is about to be removed.

    Appends a notice for each that has no OVERDUE notice yet, unless the thread is full. Returns how
    many it has appended.
    """
    appended = 0
    for key, asked in sorted(_of_message(batch, batch.head(name), seq).items()):
        if asked.state != REQUEST_STATE_OPEN:
            continue
        closed = asked._replace(state=REQUEST_STATE_CLOSED)
        if asked.has_notice(Notice.REASON_OVERDUE) or batch.head(name).seq >= MAX_SEQ:
            _save(batch, name, key, closed)
        else:
            _append_notice(batch, name, key, closed, Notice.REASON_OVERDUE, WAKE_ADDRESSED)
            appended += 1
    return appended


def leave(batch: Batch, name: str, agent: str) -> None:
    """Append notices that an agent leaves a thread, about the open requests to it."""
    for key, asked in sorted(_in_thread(batch, batch.head(name).thread_id)):
        if (
            key.agent == agent
            and asked.state == REQUEST_STATE_OPEN
            and not asked.has_notice(Notice.REASON_AGENT_LEFT)
            and batch.head(name).seq < MAX_SEQ
        ):
            _append_notice(batch, name, key, asked, Notice.REASON_AGENT_LEFT, WAKE_ADDRESSED)


def withdraw(batch: Batch, command: Withdraw) -> list[Request]:
    name, head = command.name, batch.head(command.name)
    if command.epoch and command.epoch != head.epoch:
        raise CursorInvalid(head, past_head=False)
    if command.seq > head.seq:
        raise MessageNotFound(name, command.seq, head)
    found = _of_message(batch, head, command.seq)
    if not found:
        raise ValidationFailed(("seq", f"message {command.seq} asks nobody for a reply"))
    asker = next(iter(found.values())).asker
    if command.agent != asker and not command.operator:
        raise AccessDenied(
            f"message {command.seq} was sent by {asker}: only it and operators may withdraw it"
        )
    still_open = sorted(key for key, asked in found.items() if asked.state == REQUEST_STATE_OPEN)
    batch.check_room(head, len(still_open))
    wakes = WAKE_NOBODY if command.agent == asker else WAKE_ADDRESSED
    for key in still_open:
        withdrawn = found[key]._replace(state=REQUEST_STATE_WITHDRAWN)
        _append_notice(batch, name, key, withdrawn, Notice.REASON_WITHDRAWN, wakes)
    found = _of_message(batch, head, command.seq)
    return [
        StoredRequest(name, head.epoch, key, asked).proto() for key, asked in sorted(found.items())
    ]


def write_notice(batch: Batch, command: WriteNotice) -> bool:
    name, key, reason = command.thread, command.key, command.reason
    try:
        head = batch.head(name)
    except ThreadNotFound:
        return False
    asked = batch.facts.asked.get(key)
    if (
        head.thread_id != key.thread_id
        or head.seq >= MAX_SEQ
        or asked is None
        or asked.state != REQUEST_STATE_OPEN
        or asked.has_notice(reason)
        or not _holds(batch, command, asked)
    ):
        return False
    _append_notice(batch, name, key, asked, reason, WAKE_ADDRESSED)
    return True


def _holds(batch: Batch, command: WriteNotice, asked: Asked) -> bool:
    """Returns whether the reason of a notice holds, as far as the store knows."""
    agent, evidence = command.key.agent, command.evidence
    if command.reason == Notice.REASON_OVERDUE:
        return 0 < asked.due <= batch.facts.store_now
    if command.reason == Notice.REASON_AGENT_LEFT:
        return batch.read_seq(command.thread, agent) is None
    stored = batch.facts.presence.get(agent)
    if evidence is None or stored is None:
        return evidence is not None
    return (
        stored.last_seen_time <= evidence.last_seen_time
        and stored.state_time <= evidence.state_time
        and stored.work_time <= evidence.work_time
    )


def _append_notice(
    batch: Batch,
    name: str,
    key: AskedKey,
    asked: Asked,
    reason: Notice.Reason.ValueType,
    wakes: Wake.ValueType,
) -> None:
    """Append a NOTICE entry to a thread, which has room, and save the request."""
    notice = Notice(reason=reason, request_seq=key.seq, agent=key.agent)
    entry = Message(
        thread=name,
        sender=SYSTEM,
        sender_kind=AGENT_KIND_SYSTEM,
        kind=MESSAGE_KIND_NOTICE,
        priority=PRIORITY_NORMAL,
        content=_TEXTS[reason].format(agent=key.agent, seq=key.seq),
        mentions=[asked.asker],
        notice=notice,
        traceparent=batch.facts.traceparents.get((key.thread_id, key.seq), ""),
    )
    seq = batch.append(name, SYSTEM, message_body(entry), None, wakes)
    batch.address(name, seq, [asked.asker], wakes)
    _save(batch, name, key, asked._replace(noticed=asked.noticed | 1 << reason))


def _save(batch: Batch, name: str, key: AskedKey, asked: Asked) -> None:
    facts, before = batch.facts, batch.facts.asked.get(key)
    was_open = before is not None and before.state == REQUEST_STATE_OPEN
    of_agent = key.thread_id, key.agent
    if of_agent in facts.open_requests:
        facts.open_requests[of_agent] += (asked.state == REQUEST_STATE_OPEN) - was_open
    facts.asked[key] = batch.changes.asked[key] = asked
    batch.commit.asked.setdefault(name, {})[key] = asked


def _in_thread(batch: Batch, thread_id: int) -> Iterable[tuple[AskedKey, Asked]]:
    """Returns the requests in a thread, of those that the batch knows."""
    return [each for each in batch.facts.asked.items() if each[0].thread_id == thread_id]


def _of_message(batch: Batch, head: Head, seq: int) -> dict[AskedKey, Asked]:
    """Returns the requests of a message."""
    return {key: asked for key, asked in _in_thread(batch, head.thread_id) if key.seq == seq}
