"""Agents' positions in threads that the next checkpoint will write."""

from collections.abc import Mapping
from dataclasses import dataclass

from bus_server.presence.changes import Changes
from bus_server.store import Position

#: A Position as stored here. There may be hundreds of thousands. The garbage collector does not
#: track plain tuples of strings and numbers; it would take a second to traverse as many Positions.
_Row = tuple[str, int, int, int]


@dataclass(frozen=True, slots=True)
class PositionStatistics:
    """The number of positions in UnsavedPositions."""

    #: Positions not yet in the store, including those that a running checkpoint is writing.
    unsaved: int


class UnsavedPositions:
    """Delivered, read and passed-over seqs that are not in the store yet.

    They are lost when the process is killed. Agents then receive messages again, but miss none.
    Nothing here is locked: only the event loop's thread may use it.
    """

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        #: By agent and thread. Only the position of the last epoch is kept if a thread was deleted
        #: and created again.
        self._unsaved: dict[tuple[str, str], _Row] = {}
        #: The positions that a running checkpoint is writing.
        self._saving: dict[tuple[str, str], _Row] = {}

    def raise_to(
        self,
        agent: str,
        thread: str,
        epoch: str,
        *,
        delivered: int = 0,
        read: int = 0,
        passed_over: int = 0,
    ) -> None:
        """Raise the agent's seqs in a thread; lower values are ignored.

        A position of another epoch is replaced.
        """
        key = agent, thread
        known = self._unsaved.get(key)
        if known is not None and known[0] == epoch:
            delivered, read = max(delivered, known[1]), max(read, known[2])
            passed_over = max(passed_over, known[3])
        self._unsaved[key] = epoch, delivered, read, passed_over
        self._changes.unsaved.set()
        self._changes.add_thread(thread)
        if read or passed_over:
            self._changes.on_agent(agent)

    def get(self, agent: str, thread: str, epoch: str) -> Position:
        """Returns the agent's unsaved position in a thread of this epoch.

        Its seqs are 0 if there is none.
        """
        saving = _get(self._saving, agent, thread, epoch)
        return _get(self._unsaved, agent, thread, epoch).up_to(saving)

    def unwritten(self, agent: str, thread: str) -> Position | None:
        """Returns the agent's unsaved position in a thread, in the last epoch recorded.

        None if there is none.
        """
        newest = self._unsaved.get((agent, thread)) or self._saving.get((agent, thread))
        return self.get(agent, thread, newest[0]) if newest else None

    def forget(self, agent: str, thread: str) -> None:
        """Drop the agent's position: it left the thread, and has no position if it joins again."""
        self._unsaved.pop((agent, thread), None)
        self._saving.pop((agent, thread), None)

    def forget_agent(self, agent: str) -> None:
        """Drop all positions of an agent: it was unregistered."""
        for rows in (self._unsaved, self._saving):
            for key in [key for key in rows if key[0] == agent]:
                del rows[key]

    def begin_save(self) -> Mapping[tuple[str, str], _Row]:
        """Returns the positions to write, by agent and thread, as those of Position.

        The caller must call `finish_save` or `abort_save` next. A position that is dropped by
        `forget` before then disappears from the mapping.
        """
        self._saving, self._unsaved = self._unsaved, {}
        return self._saving

    def finish_save(self) -> None:
        """Drop the positions that `begin_save` returned: they are in the store."""
        self._saving = {}

    def abort_save(self) -> None:
        """Mark what `begin_save` returned as unsaved again: not all of it could be written."""
        saving, self._saving = self._saving, {}
        for key, row in saving.items():
            newer = self._unsaved.setdefault(key, row)
            if newer[0] == row[0]:
                self._unsaved[key] = _row(Position(*newer).up_to(Position(*row)))

    def statistics(self) -> PositionStatistics:
        """Returns the current statistics."""
        return PositionStatistics(unsaved=len(self._unsaved.keys() | self._saving.keys()))


def _get(rows: Mapping[tuple[str, str], _Row], agent: str, thread: str, epoch: str) -> Position:
    row = rows.get((agent, thread))
    if row is None or row[0] != epoch:
        return Position(epoch, 0, 0, 0)
    return Position(*row)


def _row(position: Position) -> _Row:
    return position.epoch, position.delivered, position.read, position.passed_over
