"""Who takes part in the threads that are watched for it: looked up once for all, when it changed.

A level, not a log: those who watch are told that there is something newer, at most once a second.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence

from bus_server.presence.changes import News
from bus_server.presence.participants import Participants
from bus_server.tail import Watch
from threadbus.v1.agent_pb2 import Participant
from threadbus.v1.bus_service_pb2 import ParticipantUpdate, WaitMessagesResponse

#: Seconds between two looks.
PACE = 1.0
#: Participants read at a time, and told in a frame at most.
PAGE = 1_000


class Roster:
    """The participants of one thread. `version` grows with every change."""

    def __init__(self, thread: str) -> None:
        self.thread = thread
        self.version = 0
        self.watches: set[Watch] = set()
        self._read_version = -1
        self._read: dict[str, Participant] = {}
        #: Update frames by the id() of the state they start from, which is kept with them.
        self._updates: dict[int, tuple[Mapping[str, Participant], list[bytes]]] = {}
        self._reading = asyncio.Lock()

    def concerns(self, agents: set[str]) -> bool:
        """Whether one of these agents takes part."""
        return not agents.isdisjoint(self._read)

    async def read(self, participants: Participants) -> Mapping[str, Participant]:
        """Who takes part, by name, as of this version or later. Raises ThreadNotFound."""
        async with self._reading:
            if self._read_version != self.version:
                version, found = self.version, dict[str, Participant]()
                page = await participants.of(self.thread, limit=PAGE)
                while page:
                    found |= {participant.agent: participant for participant in page}
                    page = await participants.of(self.thread, after=page[-1].agent, limit=PAGE)
                self._read, self._read_version, self._updates = found, version, {}
            return self._read

    def updates(self, before: Mapping[str, Participant]) -> Sequence[bytes]:
        """Frames that tell what is new since an earlier `read` (or nothing), serialised.

        Those who were told the same share them: a change costs as much for one as for all.
        """
        key = id(before) if before else 0
        if key not in self._updates:  # `before` is kept with it: nothing else gets its id
            self._updates[key] = before, list(self._frames(before))
        return self._updates[key][1]

    def _frames(self, before: Mapping[str, Participant]) -> Iterator[bytes]:
        now = self._read
        changed = [found for name, found in now.items() if before.get(name) != found]
        left = [name for name in before if name not in now]
        for at in range(0, max(len(changed), len(left)), PAGE):
            update = ParticipantUpdate(
                thread=self.thread,
                participants=changed[at : at + PAGE],
                left=left[at : at + PAGE],
            )
            yield WaitMessagesResponse(participants=update).SerializeToString()


class Rosters:
    """The rosters of the threads that are watched."""

    def __init__(self, news: News) -> None:
        self._news = news
        self._rosters: dict[str, Roster] = {}

    @contextlib.contextmanager
    def watch(self, threads: Sequence[str], watch: Watch) -> Iterator[list[Roster]]:
        """Hold the rosters of these threads."""
        rosters = [self._rosters.setdefault(thread, Roster(thread)) for thread in threads]
        for roster in rosters:
            roster.watches.add(watch)
        try:
            yield rosters
        finally:
            for roster in rosters:
                roster.watches.discard(watch)
                if not roster.watches:
                    self._rosters.pop(roster.thread, None)

    def changed(self) -> None:
        """Anything may have changed: another server wrote to the store."""
        for thread in self._rosters:
            self._news.thread(thread)

    async def run(self) -> None:
        """Tell those who watch, for ever."""
        while True:
            await self._news.some.wait()
            agents, threads = self._news.take()
            for roster in list(self._rosters.values()):
                if roster.thread in threads or roster.concerns(agents):
                    roster.version += 1
                    # The watches of one thread may share a Condition, whose waits wake together.
                    for watch in {w.condition: w for w in roster.watches}.values():
                        await watch.notify()
            await asyncio.sleep(PACE)
