"""The commands about the servers on a store."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from bus_server.store.commands import Command


@dataclass(frozen=True, slots=True)
class SaveServer(Command[bool]):
    """Renew the lease of a server, and change which open waits are stored for it.

    Returns whether the server was stored before. If it was not, none of its earlier waits is.
    """

    server: str
    lease: int  # in microseconds
    opened: Mapping[int, bytes] = field(default_factory=dict)  # serialised Waits, by number
    closed: Collection[int] = ()  # numbers of waits


@dataclass(frozen=True, slots=True)
class RemoveServers(Command[None]):
    """Remove servers, with their waits, unless they have renewed their leases since."""

    #: By name: when it last renewed its lease, as far as the caller knows; None: whenever.
    servers: Mapping[str, int | None]


class ServerLease(NamedTuple):
    """When a server last renewed its lease, and for how long. In microseconds."""

    renew_time: int  # on the store's clock
    lease: int
