"""The participants of threads: the agents, their open waits, and their positions.

Combines what the store has as of the last checkpoint with what memory has since then.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping, Sequence, Set

from bus_server.errors import BusError, StoreBug, ThreadNotFound
from bus_server.presence.changes import Changes
from bus_server.presence.positions import UnsavedPositions
from bus_server.presence.presence import Presence
from bus_server.presence.remote_waits import RemoteWaits
from bus_server.store import Append, Entrance, Head, Joined, JoinThread
from bus_server.store.interface import Store
from bus_server.waits import OpenWait, Waits
from threadbus.v1 import agent_pb2
from threadbus.v1.agent_pb2 import PRESENCE_WAITING, Participant
from threadbus.v1.bus_service_pb2 import ThreadUnread
from threadbus.v1.message_pb2 import Message

logger = logging.getLogger(__name__)

#: Maximum number of recipients in the response to a post.
MAX_RECIPIENTS = 100
#: Number of a call's read cursors that are processed before other tasks get a turn.
CURSORS_PER_TURN = 100


class Participants:
    """The participants of threads: reads, and a record of what changes them.

    Nothing here is locked: only the event loop's thread may use it.
    """

    def __init__(
        self,
        store: Store,
        presence: Presence,
        positions: UnsavedPositions,
        waits: Waits,
        remote: RemoteWaits,
        changes: Changes,
    ) -> None:
        self._store = store
        self._presence = presence
        self._positions = positions
        self._waits = waits
        self._remote = remote
        self._changes = changes

    # ── Recording ───────────────────────────────────────────────────────────────────────────────

    def wait_opened(self, wait: OpenWait) -> None:
        """Record an open wait, which is a sign of life of its agent.

        Raises QuotaExceeded when there are too many; then nothing is recorded.
        """
        self._waits.add(wait)
        self._changes.add_wait()
        if wait.agent:
            self._presence.wait_opened(wait.agent, wait.threads)
            self.changed(*wait.threads)

    def wait_closed(self, wait: OpenWait) -> None:
        """Record the end of a wait. Call it once for each `wait_opened` that did not raise."""
        self._waits.remove(wait)
        self._changes.add_wait()
        if wait.agent:
            self._presence.wait_closed(wait.agent)
            self.changed(*wait.threads)

    def changed(self, *threads: str) -> None:
        """Mark threads whose participants may have changed."""
        for thread in threads:
            self._changes.add_thread(thread)

    def delivered(self, agent: str, thread: str, head: Head, upto: int, senders: Set[str]) -> None:
        """Record that a wait of `agent` was sent messages, by these senders, up to seq `upto`.

        They are work for the agent unless it sent all of them. No-op for anonymous callers
        (`agent` is empty).
        """
        self.listed(agent, thread, head, upto)
        if agent and senders != {agent}:
            self._presence.delivered(agent, thread, upto)

    def listed(self, agent: str, thread: str, head: Head, upto: int) -> None:
        """Record that a response to `agent` carried messages up to seq `upto`.

        No-op for anonymous callers (`agent` is empty).
        """
        if agent:
            self._positions.raise_to(agent, thread, head.epoch, delivered=upto)

    def posted(self, *posts: Append) -> None:
        """Record that posts were committed.

        Their senders' work on the threads is done, unless an operator posted on their behalf.
        """
        # The posts of one call mostly have one sender and one thread.
        for thread, sender, for_another in {(p.thread, p.sender, p.register_sender) for p in posts}:
            self._changes.add_thread(thread)
            if not for_another:
                self._presence.posted(sender, thread)

    def left(self, agent: str, thread: str) -> None:
        """Record that an agent left a thread."""
        self._positions.forget(agent, thread)
        self._changes.add_thread(thread)

    async def read(self, agent: str, cursors: Sequence[tuple[str, int, str]]) -> None:
        """Record how far an agent reports having read each thread.

        A cursor is ignored if its thread does not exist, the agent is not a participant of it, its
        epoch does not match, or its seq is past the head. Raises what the store raises; then
        nothing is recorded.

        Args:
            cursors: (thread, seq, epoch) for each thread. An empty epoch matches any.
        """
        heads = await self._store.participations(agent, [thread for thread, _, _ in cursors])
        for number, (thread, seq, epoch) in enumerate(cursors, start=1):
            if number % CURSORS_PER_TURN == 0:
                await asyncio.sleep(0)
            head = heads.get(thread)
            if head and epoch in ("", head.epoch) and seq <= head.seq:
                self._positions.raise_to(agent, thread, head.epoch, read=seq)
                self._presence.read(agent, thread, seq)

    # ── Reading ─────────────────────────────────────────────────────────────────────────────────

    async def of(self, thread: str, *, after: str = "", limit: int) -> list[Participant]:
        """Returns up to `limit` participants of a thread with names after `after`, sorted by name.

        Raises ThreadNotFound.
        """
        head, found = await self._changes.read_consistently(
            self._store.participants, thread, after=after, limit=limit
        )
        waiting = self._wait_counts(thread)
        return [self._refresh(participant, thread, head.epoch, waiting) for participant in found]

    def waiting_on(self, thread: str) -> dict[str, agent_pb2.Presence.ValueType]:
        """Returns the presence of each agent that has an open wait on a thread, by name."""
        return {
            agent: self._presence.get(agent, PRESENCE_WAITING)
            for agent in self._wait_counts(thread)
        }

    async def recipients(
        self, post: Append, before: Mapping[str, agent_pb2.Presence.ValueType]
    ) -> list[Participant]:
        """Returns the recipients of a post that was just committed, at most MAX_RECIPIENTS.

        Agents in `before` are returned with the presence there, not with the one after the message
        was delivered. Returns [] if the thread has been deleted or the store cannot be read: an
        error would say that the message is not stored.
        """
        try:
            return await self._recipients(post, before)
        except ThreadNotFound:
            return []  # the thread has been deleted
        except (BusError, StoreBug) as error:
            logger.warning("cannot read the recipients of a post (%s)", error)
            return []

    async def entrance(self, join: JoinThread, joined: Joined) -> Entrance | None:
        """Returns the thread, context and participants for the response to `join`.

        None if the thread has been deleted since it was joined.
        """
        thread = join.thread.name
        self._changes.add_thread(thread)
        entrance = await self._changes.read_consistently(self._store.entrance, join, joined)
        if entrance is not None:
            waiting = self._wait_counts(thread)
            for participant in entrance.participants:
                self._refresh(participant, thread, entrance.thread.epoch, waiting)
        return entrance

    async def unread(self, agent: str, limit: int) -> list[ThreadUnread]:
        """Returns up to `limit` threads in which an agent has unread entries.

        Most recently active first.
        """
        found = []
        unread = await self._changes.read_consistently(self._store.unread, agent, limit)
        for thread, epoch in unread:
            read = self._positions.get(agent, thread.thread, epoch).read
            thread.read_seq = max(thread.read_seq, read)
            if thread.read_seq < thread.head_seq:
                found.append(thread)
        return found

    # ── Private ─────────────────────────────────────────────────────────────────────────────────

    async def _recipients(
        self, post: Append, before: Mapping[str, agent_pb2.Presence.ValueType]
    ) -> list[Participant]:
        thread, message = post.thread, post.whole_header()
        addressed = list(dict.fromkeys([*message.mentions, message.handoff_to]))
        replied_to = await self._replied_to(message)
        waiting = Counter(
            wait.agent for wait in self._waits.on(thread) if wait.filter.wants(message, replied_to)
        ) + Counter(self._remote.on(thread))
        first = [name for name in addressed if name and name != post.sender]
        first += sorted(waiting.keys() - {*addressed, post.sender})
        head, found = await self._changes.read_consistently(
            self._store.participants,
            thread,
            first=first[:MAX_RECIPIENTS],
            limit=MAX_RECIPIENTS + 1,  # the sender may be one of them
        )
        others = [participant for participant in found if participant.agent != post.sender]
        for participant in others:
            self._refresh(participant, thread, head.epoch, waiting)
            participant.presence = before.get(participant.agent, participant.presence)
        return others[:MAX_RECIPIENTS]

    async def _replied_to(self, message: Message) -> str:
        """Returns the sender of the message that `message` replies to; "" if there is none."""
        if not message.reply_to:
            return ""
        head = (await self._store.heads([message.thread])).get(message.thread)
        if head is None:
            return ""
        return (await self._store.senders(head.thread_id, [message.reply_to])).get(
            message.reply_to, ""
        )

    def _wait_counts(self, thread: str) -> Mapping[str, int]:
        """Returns the number of open waits of each agent that has any on a thread."""
        counts = Counter(wait.agent for wait in self._waits.on(thread))
        counts.update(self._remote.on(thread))
        return counts

    def _refresh(
        self, participant: Participant, thread: str, epoch: str, wait_counts: Mapping[str, int]
    ) -> Participant:
        """Update a Participant that was read from the store, and return it."""
        name = participant.agent
        participant.presence = self._presence.get(name, participant.presence)
        participant.wait_count = wait_counts.get(name, 0)
        participant.waiting = name in wait_counts
        position = self._positions.get(name, thread, epoch)
        participant.delivered_seq = max(participant.delivered_seq, position.delivered)
        participant.read_seq = max(participant.read_seq, position.read)
        return participant
