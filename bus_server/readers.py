"""What agents say they have read, until it is written: for all of them together, and rarely."""

import asyncio

from bus_server.errors import BusError, StoreFailed
from bus_server.store import SaveReads
from bus_server.writer import Writer
from threadbus.v1.message_pb2 import Cursor


class Readers:
    """Read positions not yet written. Losing them costs an agent repeats, never gaps."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._unsaved: dict[tuple[str, str, str], Cursor] = {}
        self._some = asyncio.Event()

    def report(self, agent: str, cursors: list[Cursor]) -> None:
        """An agent says that it has read so far. The newest word counts if it is further."""
        for cursor in cursors:
            key = (agent, cursor.thread, cursor.epoch)
            known = self._unsaved.get(key)
            if known is None or known.after_seq < cursor.after_seq:
                self._unsaved[key] = cursor
        if self._unsaved:
            self._some.set()

    async def save(self) -> None:
        """Write what there is."""
        if not self._unsaved:
            return
        unsaved, self._unsaved = self._unsaved, {}
        self._some.clear()
        reads = [(agent, cursor) for (agent, _, _), cursor in unsaved.items()]
        try:
            await self._writer.submit(SaveReads(reads))
        except BaseException:
            for agent, cursor in reads:
                self.report(agent, [cursor])
            raise

    async def run(self, interval: float) -> None:
        """Save every `interval` seconds as long as there is something to save."""
        while True:
            await self._some.wait()
            await asyncio.sleep(interval)
            try:
                await self.save()
            except (BusError, StoreFailed):
                continue  # it is kept for the next time
