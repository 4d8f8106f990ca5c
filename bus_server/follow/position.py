"""The position of a wait in one of its threads."""

from collections.abc import Mapping

from bus_server.errors import ThreadNotFound
from bus_server.presence.participant_cache import CachedParticipants
from bus_server.store import Head
from bus_server.tail import Tail
from bus_server.waits import Start
from threadbus.v1.agent_pb2 import Participant
from threadbus.v1.bus_service_pb2 import WaitResync
from threadbus.v1.message_pb2 import Cursor
from threadbus.v1.thread_pb2 import THREAD_STATE_OPEN, ThreadPosition


class WaitPosition:
    """The position of a wait in one thread, and what frames have reported of it."""

    __slots__ = (
        *("after", "cached", "caught_up", "limit", "name", "participants"),
        *("requested_after", "requested_epoch", "resync", "sent_after", "sent_version"),
        *("start_seq", "tail"),
    )

    def __init__(self, start: Start, tail: Tail, head: Head) -> None:
        self.name, self.requested_after, self.requested_epoch = start
        self.tail = tail
        #: Seq of the head when the wait began, at which the wait has caught up.
        self.start_seq = head.seq
        #: The last seq to deliver. None until max_wait is over.
        self.limit: int | None = None
        #: The last seq that was delivered or filtered out.
        self.after = self.requested_after
        #: `after` as reported by the last frame.
        self.sent_after = self.after
        self.caught_up = False
        #: Why the wait cannot continue from the requested cursor; None if it can.
        self.resync: WaitResync.Reason.ValueType | None = None
        #: The thread's participants in the cache; None if the wait did not ask for them.
        self.cached: CachedParticipants | None = None
        #: Their version that was last sent, -1: none yet; and the participants in it.
        self.sent_version = -1
        self.participants: Mapping[str, Participant] = {}
        if self.requested_epoch not in ("", head.epoch):
            self.resync = WaitResync.REASON_EPOCH_CHANGED
        elif self.requested_after > head.seq:
            self.resync = WaitResync.REASON_CURSOR_AHEAD
        if self.resync is not None:
            self.after = head.first_seq - 1

    @property
    def requested(self) -> Cursor:
        """The cursor in the request."""
        return Cursor(thread=self.name, after_seq=self.requested_after, epoch=self.requested_epoch)

    @property
    def cursor(self) -> Cursor:
        """The cursor to continue from. Raises ThreadNotFound if the thread was deleted."""
        return Cursor(thread=self.name, after_seq=self.after, epoch=self.head.epoch)

    @property
    def head(self) -> Head:
        """The thread's head. Raises ThreadNotFound if the thread was deleted."""
        if self.tail.deleted or self.tail.head is None:
            raise ThreadNotFound([self.name])
        return self.tail.head

    @property
    def target(self) -> int:
        """The last seq to deliver for now. Raises ThreadNotFound if the thread was deleted."""
        return self.head.seq if self.limit is None else self.limit

    def ready(self) -> bool:
        """Returns whether there may be something to send, or the thread was deleted."""
        head = self.tail.head
        if self.tail.deleted or head is None:
            return True
        if self.after < (head.seq if self.limit is None else self.limit):
            return True
        return self.cached is not None and self.cached.version != self.sent_version

    def finished(self) -> bool:
        """Returns whether the thread accepts no posts and the wait has reached its head.

        Raises ThreadNotFound if the thread was deleted.
        """
        return self.head.state != THREAD_STATE_OPEN and self.after >= self.head.seq

    def to_proto(self, cursor: Cursor | None = None) -> ThreadPosition:
        """Returns the position for the next frame, and records it as sent.

        `cursor` replaces the current cursor. Raises ThreadNotFound if the thread was deleted.
        """
        self.sent_after = self.after
        return ThreadPosition(
            cursor=cursor or self.cursor,
            head_seq=self.head.seq,
            first_seq=self.head.first_seq,
            state=self.head.state,
        )
