"""The position of a wait in one of its threads."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from bus_server.errors import ThreadNotFound
from bus_server.presence.participant_cache import CachedParticipants
from bus_server.store import Head
from bus_server.store.epochs import shared_seq
from bus_server.tail import is_later
from bus_server.waits import Start
from threadbus.v1.agent_pb2 import Participant
from threadbus.v1.bus_service_pb2 import WaitMessagesResponse, WaitResync
from threadbus.v1.message_pb2 import Cursor
from threadbus.v1.thread_pb2 import THREAD_STATE_OPEN, ThreadPosition


class KnownHead(Protocol):
    """What is known of a thread: see Tail."""

    head: Head | None
    deleted: bool


class WaitPosition:
    """The position of a wait in one thread, and what frames have reported of it."""

    __slots__ = (
        *("after", "cached", "caught_up", "epoch", "hidden", "limit", "name", "participants"),
        *("resync", "sent_after", "sent_version", "start", "start_seq", "tail"),
    )

    def __init__(self, start: Start, tail: KnownHead, head: Head) -> None:
        self.start = start
        self.name, requested_after, requested_epoch, hidden = start
        self.tail = tail
        #: Seq of the head when the wait began, at which the wait has caught up.
        self.start_seq = head.seq
        #: The last seq to deliver. None until max_wait is over.
        self.limit: int | None = None
        #: The last seq that was delivered or filtered out.
        self.after = requested_after
        #: The lowest seq up to `after` that a filter hid; 0: none.
        self.hidden = hidden
        #: The thread's epoch, to which `after` belongs.
        self.epoch = head.epoch
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
        if requested_epoch not in ("", head.epoch):
            self.resync = WaitResync.REASON_EPOCH_CHANGED
        elif requested_after > head.seq:
            self.resync = WaitResync.REASON_CURSOR_AHEAD
        elif requested_after < head.first_seq - 1:
            self.resync = WaitResync.REASON_COMPACTED
        if self.resync is not None:
            self._go_to(_shared(self.requested, head), head)

    @property
    def requested(self) -> Cursor:
        """The cursor in the request."""
        thread, after_seq, epoch, hidden_seq = self.start
        return Cursor(thread=thread, after_seq=after_seq, epoch=epoch, hidden_seq=hidden_seq)

    @property
    def cursor(self) -> Cursor:
        """The cursor to continue from, in the epoch that `after` belongs to."""
        return Cursor(
            thread=self.name, after_seq=self.after, epoch=self.epoch, hidden_seq=self.hidden
        )

    def advance(self, upto: int, hidden: int) -> None:
        """Move to seq `upto`. `hidden`: the lowest seq on the way that a filter hid; 0: none."""
        self.after = upto
        self.hidden = self.hidden or hidden

    def follow(self) -> WaitMessagesResponse | None:
        """Continue in the thread's new epoch, or where it begins now, if this is necessary.

        Returns the frame that says so. Raises ThreadNotFound if the thread was deleted.
        """
        head, before = self.head, self.cursor
        if head.epoch != self.epoch:
            reason = WaitResync.REASON_EPOCH_CHANGED
            self._go_to(_shared(before, head), head)
            self.epoch = head.epoch
            self.start_seq = min(self.start_seq, head.seq)
            if self.limit is not None:
                self.limit = min(self.limit, head.seq)
        elif self.is_compacted():
            reason = WaitResync.REASON_COMPACTED
            self.skip_removed()
        else:
            return None
        resync = WaitResync(reason=reason, position=self.to_proto(), requested=before)
        return WaitMessagesResponse(resync=resync)

    def learn(self, head: Head) -> None:
        """Take note of a head of the thread that was just read."""
        known = self.tail.head
        if known is None or (known.thread_id <= head.thread_id and is_later(head, known)):
            self.tail.head = head

    def is_compacted(self) -> bool:
        """Returns whether the entry that follows `after` was removed. Raises ThreadNotFound."""
        return self.after < self.head.first_seq - 1

    def skip_removed(self) -> None:
        """Move past the entries that were removed. Raises ThreadNotFound."""
        self._go_to(max(self.after, self.head.first_seq - 1), self.head)

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

    def reached(self) -> bool:
        """Returns whether all was delivered for now. Raises ThreadNotFound if it was deleted."""
        return self.head.epoch == self.epoch and self.after >= self.target

    def ready(self) -> bool:
        """Returns whether there may be something to send, or the thread was deleted."""
        head = self.tail.head
        if self.tail.deleted or head is None or head.epoch != self.epoch:
            return True
        if self.after < (head.seq if self.limit is None else self.limit):
            return True
        return self.cached is not None and self.cached.version != self.sent_version

    def finished(self) -> bool:
        """Returns whether the thread accepts no posts and the wait has reached its head.

        Raises ThreadNotFound if the thread was deleted.
        """
        head = self.head
        at_end = head.epoch == self.epoch and self.after >= head.seq
        return at_end and head.state != THREAD_STATE_OPEN

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

    def _go_to(self, after: int, head: Head) -> None:
        self.after = after
        if not head.first_seq <= self.hidden <= after:  # it was removed, or is ahead
            self.hidden = 0


def _shared(cursor: Cursor, head: Head) -> int:
    """Returns the last seq up to the cursor's that its epoch is known to share with the head's.

    One before first_seq if there is none.
    """
    shared = shared_seq(head.epoch, cursor.epoch) or 0
    return max(min(cursor.after_seq, shared), head.first_seq - 1)


def cursors(positions: Sequence[WaitPosition]) -> list[Cursor]:
    """Returns the cursor in each thread that has not been deleted."""
    return [p.cursor for p in positions if not p.tail.deleted]
