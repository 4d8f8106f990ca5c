"""Where a wait is in one of its threads, and what it has told of it."""

from collections.abc import Mapping

from bus_server.errors import ThreadNotFound
from bus_server.presence.participant_cache import CachedParticipants
from bus_server.store import Head
from bus_server.tail import Tail
from threadbus.v1.agent_pb2 import Participant
from threadbus.v1.bus_service_pb2 import WaitResync
from threadbus.v1.message_pb2 import Cursor
from threadbus.v1.thread_pb2 import THREAD_STATE_OPEN, ThreadPosition


class WaitPosition:
    """Where the wait is in one thread."""

    __slots__ = (
        *("after", "asked_after", "asked_epoch", "caught_up", "limit", "name"),
        *("participants", "resync", "roster", "roster_version", "start_seq", "tail", "told"),
    )

    def __init__(self, name: str, requested: Cursor, tail: Tail, head: Head) -> None:
        # Not the cursor itself, which would keep the whole request in memory.
        self.name = name
        self.asked_after, self.asked_epoch = requested.after_seq, requested.epoch
        self.tail = tail
        self.start_seq = head.seq
        #: Nothing past this is delivered: set when max_wait is over.
        self.limit: int | None = None
        #: What a frame last told.
        self.told = requested.after_seq
        self.caught_up = False
        self.resync: WaitResync.Reason.ValueType | None = None
        #: Who takes part, if that is to be told; which version of it was told last, and who in it.
        self.roster: CachedParticipants | None = None
        self.roster_version = -1
        self.participants: Mapping[str, Participant] = {}
        self.after = requested.after_seq
        if requested.epoch not in ("", head.epoch):
            self.resync = WaitResync.REASON_EPOCH_CHANGED
        elif requested.after_seq > head.seq:
            self.resync = WaitResync.REASON_CURSOR_AHEAD
        if self.resync is not None:
            self.after = head.first_seq - 1

    @property
    def requested(self) -> Cursor:
        """The cursor that was asked for."""
        return Cursor(thread=self.name, after_seq=self.asked_after, epoch=self.asked_epoch)

    @property
    def head(self) -> Head:
        if self.tail.gone or self.tail.head is None:
            raise ThreadNotFound([self.name])
        return self.tail.head

    def has_news(self) -> bool:
        """Whether there is something to send."""
        head = self.tail.head
        if self.tail.gone or head is None:
            return True
        if self.after < (head.seq if self.limit is None else self.limit):
            return True
        return self.roster is not None and self.roster.version != self.roster_version

    def is_over(self) -> bool:
        """Whether the thread takes no posts, and all of it was delivered."""
        return self.head.state != THREAD_STATE_OPEN and self.after >= self.head.seq

    @property
    def target(self) -> int:
        """Deliver up to here."""
        return self.head.seq if self.limit is None else self.limit

    @property
    def cursor(self) -> Cursor:
        return Cursor(thread=self.name, after_seq=self.after, epoch=self.head.epoch)

    def tell(self, cursor: Cursor | None = None) -> ThreadPosition:
        """The position, for a frame that is sent now."""
        self.told = self.after
        return ThreadPosition(
            cursor=cursor or self.cursor,
            head_seq=self.head.seq,
            first_seq=self.head.first_seq,
            state=self.head.state,
        )
