"""What a store says of itself in numbers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from threadbus.v1.agent_pb2 import PRESENCE_LAPSED, PRESENCE_UNSPECIFIED, PRESENCE_WAITING, Presence


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The numbers of what a store holds, and its sizes in bytes. Zeros: it was not read yet."""

    threads: int = 0
    #: Registered agents, by their presence.
    agents: Mapping[Presence.ValueType, int]
    #: Requests that are open, and those of them that are overdue.
    open_requests: int = 0
    overdue_requests: int = 0
    #: Of the database, and how many of them can be reused.
    size: int = 0
    free: int = 0
    #: Of the write-ahead log, if it belongs to the store.
    log: int = 0
    #: Free for this process in the file system of the database; None: that is another machine's.
    disk_free: int | None = None


def presences(
    stored: Iterable[tuple[int, int]], known: Iterable[tuple[int, int, int]]
) -> dict[Presence.ValueType, int]:
    """Returns how many agents have each presence.

    Args:
        stored: each presence that follows from the store alone, with the number of agents.
        known: the agents of which more is known: what `Store.figures` was given, their presence as
            in `stored`, and their number.
    """
    counts = dict(stored)
    for presence, before, count in known:
        counts[before] -= count
        if presence == PRESENCE_UNSPECIFIED:
            presence = PRESENCE_WAITING if before == PRESENCE_LAPSED else before
        counts[presence] = counts.get(presence, 0) + count
    return {Presence.ValueType(each): counts[each] for each in sorted(counts) if counts[each]}
