"""How far agents are in threads: what each was handed and has read, until it is written."""

from collections.abc import Mapping

from bus_server.presence.changes import News
from bus_server.store import Position

#: A Position as it is kept. Of plain tuples of texts and numbers the garbage collector takes no
#: notice, and there may be hundreds of thousands: going through as many objects takes it a second.
_Kept = tuple[str, int, int]


class Positions:
    """Positions not yet written. Losing them costs an agent repeats, never gaps."""

    def __init__(self, news: News) -> None:
        self._news = news
        #: By agent and thread; of a thread that was made anew only the newer history counts.
        self._unsaved: dict[tuple[str, str], _Kept] = {}
        #: What is being written.
        self._saving: dict[tuple[str, str], _Kept] = {}

    def raise_to(
        self, agent: str, thread: str, epoch: str, *, delivered: int = 0, read: int = 0
    ) -> None:
        """An agent is so far in a thread. Counts where it is further than was known."""
        _, was_delivered, was_read = _of(self._unsaved, agent, thread, epoch)
        self._unsaved[agent, thread] = epoch, max(delivered, was_delivered), max(read, was_read)
        self._news.unsaved.set()
        self._news.thread(thread)

    def of(self, agent: str, thread: str, epoch: str) -> Position:
        """Where an agent is, as far as that is not written."""
        saving = _of(self._saving, agent, thread, epoch)
        return _of(self._unsaved, agent, thread, epoch).up_to(saving.delivered, saving.read)

    def unwritten(self, agent: str, thread: str) -> Position | None:
        """Where an agent is in a thread, if the store does not know it yet."""
        newest = self._unsaved.get((agent, thread)) or self._saving.get((agent, thread))
        return self.of(agent, thread, newest[0]) if newest else None

    def forget(self, agent: str, thread: str) -> None:
        """An agent left a thread: should it come back, it begins anew."""
        self._unsaved.pop((agent, thread), None)
        self._saving.pop((agent, thread), None)

    def unsaved(self) -> Mapping[tuple[str, str], tuple[str, int, int]]:
        """The Positions to be written, as plain tuples. Say `saved` or `keep` when that is done.

        What is forgotten meanwhile vanishes from it.
        """
        self._saving, self._unsaved = self._unsaved, {}
        return self._saving

    def saved(self) -> None:
        """It is written."""
        self._saving = {}

    def keep(self) -> None:
        """It could not be written: it comes again with the next `unsaved`."""
        saving, self._saving = self._saving, {}
        for (agent, thread), (epoch, delivered, read) in saving.items():
            newer = self._unsaved.setdefault((agent, thread), (epoch, delivered, read))
            if newer[0] == epoch:
                self.raise_to(agent, thread, epoch, delivered=delivered, read=read)


def _of(kept: Mapping[tuple[str, str], _Kept], agent: str, thread: str, epoch: str) -> Position:
    position = kept.get((agent, thread))
    if position is None or position[0] != epoch:
        return Position(epoch, 0, 0)
    return Position(*position)
