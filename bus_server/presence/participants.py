"""The participants of threads: the agents, their open waits, and their positions.

Combines what the store has as of the last checkpoint with what memory has since then.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping, Sequence

from bus_server.errors import BusError, StoreBug, ThreadNotFound
from bus_server.filter import edited
from bus_server.memberships import Memberships
from bus_server.presence.changes import Changes
from bus_server.presence.positions import UnsavedPositions
from bus_server.presence.presence import Presence
from bus_server.presence.remote_waits import RemoteWaits
from bus_server.store import (
    NOT_STARTED,
    Append,
    Entrance,
    Head,
    Joined,
    JoinThread,
    Membership,
)
from bus_server.store.interface import Store
from bus_server.waits import OpenWait, Start, Waits
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
        memberships: Memberships,
    ) -> None:
        self._store = store
        self._memberships = memberships
        self._presence = presence
        self._positions = positions
        self._waits = waits
        self._remote = remote
        self._changes = changes

    # ── Recording ───────────────────────────────────────────────────────────────────────────────

    def wait_opened(self, wait: OpenWait) -> None:
        """Record an open wait, which is a sign of life of its agent unless it observes.

        Raises QuotaExceeded when there are too many; then nothing is recorded.
        """
        self._waits.add(wait)
        self._changes.add_wait()
        if wait.agent and not wait.observe:
            self._presence.wait_opened(wait.agent, None if wait.all_my_threads else wait.threads)
            self._waits_changed(wait)

    def wait_closed(self, wait: OpenWait) -> None:
        """Record the end of a wait. Call it once for each `wait_opened` that did not raise."""
        self._waits.remove(wait)
        self._changes.add_wait()
        if wait.agent and not wait.observe:
            self._presence.wait_closed(wait.agent)
            self._waits_changed(wait)

    def _waits_changed(self, wait: OpenWait) -> None:
        self.changed(*wait.threads)
        if wait.all_my_threads:
            self._changes.add_agent(wait.agent)

    def changed(self, *threads: str) -> None:
        """Mark threads whose participants may have changed."""
        for thread in threads:
            self._changes.add_thread(thread)

    def delivered(self, agent: str, thread: str, head: Head, upto: int, work: bool) -> None:
        """Record that a wait of `agent` was sent messages up to seq `upto`.

        No-op for anonymous callers (`agent` is empty).

        Args:
            work: whether one of them, of another sender, wakes the agent: it has work.
        """
        self.listed(agent, thread, head, upto)
        if agent and work:
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
            self._changes.on_agent(sender)  # a post can say what its sender has read
            if not for_another:
                self._presence.posted(sender, thread)

    def left(self, agent: str, thread: str) -> None:
        """Record that an agent left a thread."""
        self._positions.forget(agent, thread)
        self._changes.add_thread(thread)

    async def read(self, agent: str, cursors: Sequence[Start]) -> None:
        """Record how far an agent reports having read each thread.

        A cursor is ignored if its thread does not exist, the agent is not a participant of it, its
        epoch does not match, or its seq is past the head. Raises what the store raises; then
        nothing is recorded.

        Args:
            cursors: (thread, seq, epoch, hidden) for each thread. An empty epoch matches any. From
                `hidden` on, a filter hid some: they are passed over; 0: it hid none.
        """
        heads = await self._store.participations(agent, [cursor[0] for cursor in cursors])
        for number, (thread, seq, epoch, hidden) in enumerate(cursors, start=1):
            if number % CURSORS_PER_TURN == 0:
                await asyncio.sleep(0)
            head = heads.get(thread)
            if head and epoch in ("", head.epoch) and seq <= head.seq:
                read, passed_over = (hidden - 1, seq) if hidden else (seq, 0)
                self._positions.raise_to(
                    agent, thread, head.epoch, read=read, passed_over=passed_over
                )
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
        """Returns the presence of each agent that has an open wait on a thread, by name.

        Without those that wait on all their threads at another server, or only observe.
        """
        on_all = filter(self._waits.on_all, self._memberships.waiting_on(thread))
        agents = {*self._wait_counts(thread), *on_all}
        return {agent: self._presence.get(agent, PRESENCE_WAITING) for agent in agents}

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

    async def memberships(
        self, agent: str, after: int, limit: int
    ) -> list[tuple[str, Head, Membership]]:
        """Returns up to `limit` threads of which an agent is a participant, by ascending id.

        `after`: only threads with greater ids. Raises what the store raises.
        """
        query = self._store.memberships
        found = await self._changes.read_consistently(query, agent, after, limit)
        return [
            (thread, head, self._unsaved(agent, thread, head, membership))
            for thread, head, membership in found
        ]

    def _unsaved(self, agent: str, thread: str, head: Head, stored: Membership) -> Membership:
        """Returns a membership with the positions that are not in the store yet."""
        position = self._positions.get(agent, thread, head.epoch)
        return stored._replace(
            read_seq=max(stored.read_seq, position.read or NOT_STARTED),
            passed_over=max(stored.passed_over, position.passed_over),
        )

    async def unread(
        self, agent: str, limit: int, prefixes: Sequence[str] = ()
    ) -> list[ThreadUnread]:
        """Returns up to `limit` threads in which an agent has unread entries that wake it.

        Most recently active first. `prefixes`: only threads whose names begin with one of them;
        empty: all.
        """
        query = self._store.unread
        found = await self._changes.read_consistently(query, agent, limit, prefixes)
        read: dict[str, int] = {}
        for thread, epoch in found:
            unsaved = self._positions.get(agent, thread.thread, epoch).read
            if unsaved > thread.read_seq:
                read[thread.thread] = unsaved
        if not read:
            return [thread for thread, _ in found]
        # What is unread after the unsaved positions. Rows of other epochs have no such position.
        rest = await query(agent, limit, (), read)
        after = {(thread.thread, epoch): thread for thread, epoch in rest}
        return [
            unread
            for thread, epoch in found
            if (unread := after.get((thread.thread, epoch)) if thread.thread in read else thread)
        ]

    # ── Private ─────────────────────────────────────────────────────────────────────────────────

    async def _recipients(
        self, post: Append, before: Mapping[str, agent_pb2.Presence.ValueType]
    ) -> list[Participant]:
        thread, message = post.thread, post.whole_header()
        addressed = list(dict.fromkeys([*message.mentions, message.handoff_to]))
        related = await self._related(message)

        def wants(wait: OpenWait) -> bool:
            return wait.filter.wants(related)

        waiting = Counter(wait.agent for wait in self._waits.on(thread) if wants(wait)) + Counter(
            self._remote.on(thread)
        )
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
            on_all = sum(map(wants, self._waits.on_all(participant.agent)))
            self._refresh(participant, thread, head.epoch, waiting, on_all)
            participant.presence = before.get(participant.agent, participant.presence)
        return others[:MAX_RECIPIENTS]

    async def _related(self, message: Message) -> list[tuple[Message, str]]:
        """Returns a message and the one that it edits, with the senders of what they reply to.

        The sender is "" if there is none.
        """
        related = [message]
        if not message.reply_to and not message.edit_of:
            return [(message, "")]
        head = (await self._store.heads([message.thread])).get(message.thread)
        if head is None:
            return [(message, "")]
        if message.edit_of:
            related += await edited(self._store, head.thread_id, message.edit_of)
        replied_to = [each.reply_to for each in related if each.reply_to]
        senders = await self._store.senders(head.thread_id, replied_to)
        return [(each, senders.get(each.reply_to, "")) for each in related]

    def _wait_counts(self, thread: str) -> Mapping[str, int]:
        """Returns the number of open waits of each agent that has any on a thread."""
        counts = Counter(wait.agent for wait in self._waits.on(thread))
        counts.update(self._remote.on(thread))
        return counts

    def _refresh(
        self,
        participant: Participant,
        thread: str,
        epoch: str,
        wait_counts: Mapping[str, int],
        on_all: int | None = None,
    ) -> Participant:
        """Update a Participant that was read from the store, and return it.

        Args:
            participant: what to update.
            thread, epoch: its thread.
            wait_counts: the numbers of waits on the thread, by agent.
            on_all: the number of this server's waits on all threads of the agent that count; None:
                each does.
        """
        name = participant.agent
        participant.presence = self._presence.get(name, participant.presence)
        count = wait_counts.get(name, 0)
        if participant.HasField("join_time"):
            count += len(self._waits.on_all(name)) if on_all is None else on_all
            count += self._remote.on_all(name)
        participant.wait_count, participant.waiting = count, count > 0
        position = self._positions.get(name, thread, epoch)
        participant.delivered_seq = max(participant.delivered_seq, position.delivered)
        participant.read_seq = max(participant.read_seq, position.read)
        participant.passed_over = max(participant.passed_over, position.passed_over)
        return participant
