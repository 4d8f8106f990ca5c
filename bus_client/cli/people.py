"""Agents and participants as words and lines for people: who is there, and how far."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import bus_client
from bus_client.cli.text import safe
from bus_client.cli.transcript import UNKNOWN_TIME, aligned, kind_name, moment

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

    from bus_client import Agent, BusClient, Participant, Presence, Thread

_MOST_TOLD = 8  # recipients by name; the others are counted
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


def presence_name(presence: Presence.ValueType) -> str:
    """`waiting`, `awaiting human`, …; the number of one that is newer than this program."""
    if presence == bus_client.Presence.PRESENCE_UNSPECIFIED:
        return "never seen"
    if presence not in bus_client.Presence.values():
        return str(presence)
    name = bus_client.Presence.Name(presence).removeprefix("PRESENCE_")
    return name.lower().replace("_", " ")


def ago(time: Timestamp) -> str:
    """How long that is ago: `3 min`; `unknown time` if it is no time."""
    then = moment(time)
    if then is None:
        return UNKNOWN_TIME
    seconds = max((datetime.now(UTC) - then).total_seconds(), 0)
    for length, unit in _UNITS:
        if seconds >= length:
            return f"{seconds // length:.0f} {unit}"
    return f"{seconds:.0f} s"


def agent_lines(agents: Iterable[Agent]) -> Iterator[str]:
    """A line for each agent: name, kind, whether it is there, name for people, what it does."""
    rows = [
        (
            safe(agent.name),
            kind_name(agent),
            _standing(agent.presence, agent),
            safe(agent.display_name),
            safe(agent.status_text or agent.description),
        )
        for agent in agents
    ]
    return aligned(rows)


def participant_lines(participants: Iterable[Participant], thread: Thread) -> Iterator[str]:
    """A line for each participant: name, whether it is there, how far it has read."""
    rows = [
        (
            "",
            safe(participant.agent),
            *_waits(participant),
            _read(participant, thread),
        )
        for participant in participants
    ]
    return aligned(rows)


async def recipient_words(bus: BusClient, recipients: Sequence[Participant]) -> list[str]:
    """Who will see a message, in a few words each: `reviewer waiting`, `tester lapsed 3 min`."""
    told = recipients[:_MOST_TOLD]
    gone = (bus_client.Presence.PRESENCE_LAPSED, bus_client.Presence.PRESENCE_OFFLINE)
    agents = await asyncio.gather(
        *(_agent(bus, found.agent) for found in told if found.presence in gone)
    )
    known = {agent.name: agent for agent in agents if agent is not None}
    words = [f"{safe(found.agent)} {_recipient(found, known.get(found.agent))}" for found in told]
    more = len(recipients) - len(told)
    return [*words, f"{more} more"] if more else words


async def _agent(bus: BusClient, name: str) -> Agent | None:
    try:
        return await bus.get_agent(name)
    except bus_client.BusError:
        return None  # it was posted: what could not be asked is left out


def _recipient(found: Participant, agent: Agent | None) -> str:
    if found.presence == bus_client.Presence.PRESENCE_WAITING and not found.waiting:
        return "waiting (not for it)"  # elsewhere, or for other messages
    return _standing(found.presence, agent) + _times(found)


def _standing(presence: Presence.ValueType, agent: Agent | None) -> str:
    gone = (bus_client.Presence.PRESENCE_LAPSED, bus_client.Presence.PRESENCE_OFFLINE)
    if presence in gone and agent is not None and agent.HasField("last_seen_time"):
        return f"{presence_name(presence)} {ago(agent.last_seen_time)}"
    return presence_name(presence)


def _waits(participant: Participant) -> tuple[str, str]:
    """Whether it is there, and whether it waits here; how often, if that is more than once."""
    name, here = presence_name(participant.presence), "waits here" if participant.waiting else ""
    if participant.presence == bus_client.Presence.PRESENCE_WAITING:
        return name + _times(participant), here
    return name, here + _times(participant)


def _times(participant: Participant) -> str:
    return f" ({participant.wait_count})" if participant.wait_count > 1 else ""


def _read(participant: Participant, thread: Thread) -> str:
    behind = thread.head_seq - participant.read_seq
    if behind <= 0:
        return "has read all"
    handed = f", was handed #{participant.delivered_seq}" if participant.delivered_seq else ""
    return f"has read #{participant.read_seq} of #{thread.head_seq}{handed}"
