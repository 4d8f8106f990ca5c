"""Formats agents and participants for people, with presence and read position."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import bus_client
from bus_client.cli.text import safe
from bus_client.cli.transcript import UNKNOWN_TIME, aligned, kind_name, to_utc

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

    from bus_client import Agent, BusClient, Participant, Presence, Thread

_MOST_NAMED = 8  # recipients that are named; the others are only counted
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


def presence_name(presence: Presence.ValueType) -> str:
    """Returns a presence as text, such as `awaiting human`; `never seen` for UNSPECIFIED.

    For a value that this version does not know: its number.
    """
    if presence == bus_client.Presence.PRESENCE_UNSPECIFIED:
        return "never seen"
    if presence not in bus_client.Presence.values():
        return str(presence)
    name = bus_client.Presence.Name(presence).removeprefix("PRESENCE_")
    return name.lower().replace("_", " ")


def ago(time: Timestamp) -> str:
    """Returns the time since `time`, such as `3 min`; `unknown time` for an invalid time."""
    then = to_utc(time)
    if then is None:
        return UNKNOWN_TIME
    return age((datetime.now(UTC) - then).total_seconds())


def age(seconds: float) -> str:
    """Returns a time in whole days, hours, minutes or seconds, such as `3 min`; at least `0 s`."""
    seconds = max(seconds, 0)
    for length, unit in _UNITS:
        if seconds >= length:
            return f"{seconds // length:.0f} {unit}"
    return f"{seconds:.0f} s"


def agent_lines(agents: Iterable[Agent]) -> Iterator[str]:
    """Yields a line for each agent: name, kind, presence, display name, status or description."""
    rows = [
        (
            safe(agent.name),
            kind_name(agent),
            _presence(agent.presence, agent),
            safe(agent.display_name),
            safe(agent.status_text or agent.description),
        )
        for agent in agents
    ]
    return aligned(rows)


def participant_lines(participants: Iterable[Participant], thread: Thread) -> Iterator[str]:
    """Yields a line for each participant: name, presence, whether it waits, read position."""
    rows = [
        (
            "",
            safe(participant.agent),
            *_waiting(participant),
            _read(participant, thread),
        )
        for participant in participants
    ]
    return aligned(rows)


def is_gone(participant: Participant) -> bool:
    """Returns whether a participant is lapsed or offline, or was never seen."""
    unseen = bus_client.Presence.PRESENCE_UNSPECIFIED
    return participant.presence in (unseen, *_absent())


async def describe_recipients(bus: BusClient, recipients: Sequence[Participant]) -> list[str]:
    """Returns who will see a message: `reviewer waiting`, `tester lapsed 3 min`, …, `4 more`.

    Asks the server when lapsed and offline agents were last seen; omits that if the call fails.
    """
    named = recipients[:_MOST_NAMED]
    agents = await asyncio.gather(
        *(_agent(bus, found.agent) for found in named if found.presence in _absent())
    )
    known = {agent.name: agent for agent in agents if agent is not None}
    words = [f"{safe(found.agent)} {_recipient(found, known.get(found.agent))}" for found in named]
    more = len(recipients) - len(named)
    return [*words, f"{more} more"] if more else words


async def _agent(bus: BusClient, name: str) -> Agent | None:
    try:
        return await bus.get_agent(name)
    except bus_client.BusError:
        return None  # the post succeeded: do not fail because of a detail


def _recipient(found: Participant, agent: Agent | None) -> str:
    if found.presence == bus_client.Presence.PRESENCE_WAITING and not found.waiting:
        return "waiting (not for it)"  # on another thread, or for other messages
    return _presence(found.presence, agent) + _wait_count(found)


def _absent() -> tuple[Presence.ValueType, ...]:
    return bus_client.Presence.PRESENCE_LAPSED, bus_client.Presence.PRESENCE_OFFLINE


def _presence(presence: Presence.ValueType, agent: Agent | None) -> str:
    """Returns an agent's presence; if lapsed or offline, with the time since it was last seen."""
    if presence in _absent() and agent is not None and agent.HasField("last_seen_time"):
        return f"{presence_name(presence)} {ago(agent.last_seen_time)}"
    return presence_name(presence)


def _waiting(participant: Participant) -> tuple[str, str]:
    """Returns a participant's presence, and `waits here` if it has a wait on this thread, else "".

    The number of its waits on this thread is added if there are several.
    """
    name, here = presence_name(participant.presence), "waits here" if participant.waiting else ""
    if participant.presence == bus_client.Presence.PRESENCE_WAITING:
        return name + _wait_count(participant), here
    return name, here + _wait_count(participant)


def _wait_count(participant: Participant) -> str:
    return f" ({participant.wait_count})" if participant.wait_count > 1 else ""


def _read(participant: Participant, thread: Thread) -> str:
    behind = thread.head_seq - participant.read_seq
    if behind <= 0:
        return "has read all"
    ahead = participant.delivered_seq > participant.read_seq
    sent = f", was sent #{participant.delivered_seq}" if ahead else ""
    return f"has read #{participant.read_seq} of #{thread.head_seq}{sent}"
