"""What the loop of a wait uses: the parts of the server, and the frames of its call."""

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from bus_server.encoding import BatchEncoder
from bus_server.memberships import Memberships
from bus_server.presence.participant_cache import ParticipantCache
from bus_server.presence.participants import Participants
from bus_server.recent import Recent
from bus_server.statistics import Statistics
from bus_server.store.interface import Store
from bus_server.tail import Tails

if TYPE_CHECKING:
    from bus_server.tracing import Tracing


class Frames(Protocol):
    """The outgoing frames of a call."""

    @property
    def timeout(self) -> float:
        """The default timeout of `reserve`, in seconds."""

    async def reserve(self, size: int, timeout: float | None = None) -> None:
        """Wait for room for a frame of about `size` bytes, and reserve it.

        Raises StoreBusy if there is none within `timeout` seconds (None: within `self.timeout`), or
        if too many calls wait for room.
        """

    def send(self, frame: bytes) -> Awaitable[None]:
        """Send a serialised WaitMessagesResponse. Completes when the next one may be sent.

        Raises StoreBusy if no room was reserved, and there is none in time.
        """

    def release(self) -> None:
        """Release the room reserved for a frame that will not be sent."""


@dataclass(frozen=True, slots=True)
class WaitResources:
    """The objects that all wait loops of a server share."""

    store: Store
    tails: Tails
    recent: Recent
    encoder: BatchEncoder
    participants: Participants
    cache: ParticipantCache
    memberships: Memberships
    statistics: Statistics
    #: Makes spans of deliveries. None: nothing does.
    tracing: "Tracing | None" = None

    def wrote(self, frame: bytes, agent: str, messages: int, place: tuple[str, int] | None) -> None:
        """Count, and trace, a frame of messages that was just written to a wait.

        Args:
            agent: the caller of the wait; empty: it is anonymous.
            messages: how many there are in the frame.
            place: as in `Statistics.wrote`.
        """
        committed = self.statistics.wrote(messages, place)
        if self.tracing is not None and place is not None:
            self.tracing.delivered(frame, agent, committed)
