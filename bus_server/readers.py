"""What agents say they have read, until it is written: for all of them together, and rarely."""

import asyncio

from bus_server.errors import BusError, StoreFailed
from bus_server.store import SaveReads
from bus_server.writer import Writer


class Readers:
    """Read positions not yet written. Losing them costs an agent repeats, never gaps."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        #: (agent, thread, epoch) → seq
        self._unsaved: dict[tuple[str, str, str], int] = {}
        self._some = asyncio.Event()

    def report(self, agent: str, thread: str, epoch: str, seq: int) -> None:
        """An agent has read a thread so far. Counts if it is further than it said before."""
        key = (agent, thread, epoch)
        self._unsaved[key] = max(seq, self._unsaved.get(key, 0))
        self._some.set()

    async def save(self) -> None:
        """Write what there is."""
        if not self._unsaved:
            return
        unsaved, self._unsaved = self._unsaved, {}
        self._some.clear()
        try:
            await self._writer.submit(SaveReads(unsaved))
        except BaseException:
            for (agent, thread, epoch), seq in unsaved.items():
                self.report(agent, thread, epoch, seq)
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
