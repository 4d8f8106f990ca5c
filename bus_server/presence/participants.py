"""Who takes part in a thread, who waits there, and how far each one is."""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from bus_server.errors import BusError, StoreBug, ThreadNotFound
from bus_server.presence.changes import News
from bus_server.presence.positions import Positions
from bus_server.presence.presence import Presence
from bus_server.store import Entrance, Head, Joined, JoinThread
from bus_server.store.interface import Store
from bus_server.waits import OpenWait, Waits
from threadbus.v1.agent_pb2 import PRESENCE_WAITING, Participant
from threadbus.v1.agent_pb2 import Presence as State
from threadbus.v1.bus_service_pb2 import ThreadUnread
from threadbus.v1.message_pb2 import Message

logger = logging.getLogger(__name__)

#: A post is answered with so many recipients at most.
RECIPIENTS = 100
#: Of many cursors so many are dealt with before others have a turn.
STEP = 100


class Participants:
    """What the store knows of participants, with what happened since it was written."""

    def __init__(
        self, store: Store, presence: Presence, positions: Positions, waits: Waits, news: News
    ) -> None:
        self._store = store
        self._presence = presence
        self._positions = positions
        self._waits = waits
        self._news = news

    # ── What happens ────────────────────────────────────────────────────────────────────────────

    def wait_opened(self, wait: OpenWait) -> None:
        """A wait is open: a sign of life of its agent. Raises QuotaExceeded."""
        self._waits.add(wait)
        if wait.agent:
            self._presence.wait_opened(wait.agent, wait.threads)
            self.changed(*wait.threads)

    def wait_closed(self, wait: OpenWait) -> None:
        """It is over; until now it was a sign of life."""
        self._waits.remove(wait)
        if wait.agent:
            self._presence.wait_closed(wait.agent)
            self.changed(*wait.threads)

    def changed(self, *threads: str) -> None:
        """How somebody stands in these threads may have changed."""
        for thread in threads:
            self._news.thread(thread)

    def delivered(
        self, agent: str, thread: str, head: Head, upto: int, senders: Iterable[str]
    ) -> None:
        """A wait handed out messages up to a seq: what others wrote is work to do."""
        self.listed(agent, thread, head, upto)
        if agent and any(sender != agent for sender in senders):
            self._presence.delivered(agent, thread, upto)

    def listed(self, agent: str, thread: str, head: Head, upto: int) -> None:
        """Messages up to a seq were written to an answer to an agent (empty: without a name)."""
        if agent:
            self._positions.raise_to(agent, thread, head.epoch, delivered=upto)

    def posted(self, *messages: Message) -> None:
        """Messages are in their threads."""
        # Many posts of one call are mostly one sender's to one thread.
        for thread, sender, by in {(m.thread, m.sender, m.posted_by) for m in messages}:
            self._news.thread(thread)
            if not by:  # else its sender had no part in it
                self._presence.posted(sender, thread)

    def left(self, agent: str, thread: str) -> None:
        """An agent takes part no more."""
        self._positions.forget(agent, thread)
        self._news.thread(thread)

    async def read(self, agent: str, cursors: Sequence[tuple[str, int, str]]) -> None:
        """Take an agent's word for what it has read, where it can be true.

        A cursor is a thread, a seq and an epoch (empty: whichever).
        """
        heads = await self._store.heads([thread for thread, _, _ in cursors])
        for at, (thread, seq, epoch) in enumerate(cursors):
            if at % STEP == STEP - 1:
                await asyncio.sleep(0)
            head = heads.get(thread)
            if head and epoch in ("", head.epoch) and seq <= head.seq:
                self._positions.raise_to(agent, thread, head.epoch, read=seq)
                self._presence.read(agent, thread, seq)

    # ── What it tells ───────────────────────────────────────────────────────────────────────────

    async def of(self, thread: str, *, after: str = "", limit: int) -> list[Participant]:
        """Participants by name, after a name. Raises ThreadNotFound."""
        head, found = await self._news.undisturbed(
            self._store.participants, thread, after=after, limit=limit
        )
        waiting = self._waiting(thread)
        return [self._now(participant, thread, head.epoch, waiting) for participant in found]

    def _waiting(self, thread: str) -> Mapping[str, int]:
        """The agents that have an open wait on a thread, and how many."""
        return Counter(wait.agent for wait in self._waits.on(thread))

    def waiting_on(self, thread: str) -> dict[str, State.ValueType]:
        """The agents that have an open wait on a thread, and their states."""
        return {
            wait.agent: self._presence.state(wait.agent, PRESENCE_WAITING)
            for wait in self._waits.on(thread)
        }

    async def recipients(
        self, message: Message, before: Mapping[str, State.ValueType]
    ) -> list[Participant]:
        """Who will see a message that was just posted; some as they stood `before`.

        Nobody when that cannot be found out: it is stored all the same, and no error may deny it.
        """
        try:
            return await self._recipients(message, before)
        except ThreadNotFound:
            return []  # deleted meanwhile
        except (BusError, StoreBug) as error:
            logger.warning("cannot tell who will see a post (%s)", error)
            return []

    async def _recipients(
        self, message: Message, before: Mapping[str, State.ValueType]
    ) -> list[Participant]:
        thread = message.thread
        addressed = list(dict.fromkeys([*message.mentions, message.handoff_to]))
        answered = await self._answered(message)
        waiting = Counter(
            wait.agent for wait in self._waits.on(thread) if wait.filter.wants(message, answered)
        )
        first = [name for name in addressed if name and name != message.sender]
        first += sorted(waiting.keys() - {*addressed, message.sender})
        head, found = await self._news.undisturbed(
            self._store.participants, thread, first=first[:RECIPIENTS], limit=RECIPIENTS + 1
        )
        others = [participant for participant in found if participant.agent != message.sender]
        for participant in others:
            self._now(participant, thread, head.epoch, waiting)
            participant.presence = before.get(participant.agent, participant.presence)
        return others[:RECIPIENTS]

    async def _answered(self, message: Message) -> str:
        """Whose message it answers."""
        if not message.reply_to:
            return ""
        head = (await self._store.heads([message.thread])).get(message.thread)
        if head is None:
            return ""
        return (await self._store.senders(head.thread_id, [message.reply_to])).get(
            message.reply_to, ""
        )

    def _now(
        self, participant: Participant, thread: str, epoch: str, waiting: Mapping[str, int]
    ) -> Participant:
        """A participant as it stands now; `waiting`: how many waits who has open."""
        name = participant.agent
        participant.presence = self._presence.state(name, participant.presence)
        participant.wait_count = waiting.get(name, 0)
        participant.waiting = name in waiting
        position = self._positions.of(name, thread, epoch)
        participant.delivered_seq = max(participant.delivered_seq, position.delivered)
        participant.read_seq = max(participant.read_seq, position.read)
        return participant

    async def entrance(self, join: JoinThread, joined: Joined) -> Entrance | None:
        """What is found in the thread that was joined; None if that was deleted since."""
        thread = join.thread.name
        self._news.thread(thread)
        entrance = await self._news.undisturbed(self._store.entrance, join, joined)
        if entrance is not None:
            waiting = self._waiting(thread)
            for participant in entrance.participants:
                self._now(participant, thread, entrance.thread.epoch, waiting)
        return entrance

    async def unread(self, agent: str, limit: int) -> list[ThreadUnread]:
        """Threads that an agent has not read to their heads, newest first."""
        found = []
        unread = await self._news.undisturbed(self._store.unread, agent, limit)
        for thread, epoch in unread:
            read = self._positions.of(agent, thread.thread, epoch).read
            thread.read_seq = max(thread.read_seq, read)
            if thread.read_seq < thread.head_seq:
                found.append(thread)
        return found
