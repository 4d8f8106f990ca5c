"""What is done to the servers now and then while they serve."""

import asyncio
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count, cycle
from pathlib import Path

from bus_client import BusClient
from tests.polling import until
from tests.serving import ServerProcess

#: Seconds in which a server logs that it has reloaded its settings.
_PATIENCE = 30.0
#: Backups that are kept: the next one replaces the oldest.
KEPT = 3


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that was made, and the heads of the threads before it."""

    file: Path
    heads: dict[str, int]


@dataclass(frozen=True, slots=True)
class Done:
    """What a command printed, and its exit code."""

    code: int
    output: str


async def command(*arguments: str | Path) -> Done:
    """Run `threadbus` to its end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "bus_client.cli"),
        *map(str, arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    return Done(process.returncode or 0, out.decode("utf-8", "replace"))


class Events:
    """Brings about each kind of event in turn. `sibling`: the server that is killed."""

    def __init__(
        self,
        server: ServerProcess,
        sibling: ServerProcess,
        bus: BusClient,
        *,
        config: Path,
        folder: Path,
    ) -> None:
        self._server, self._sibling, self._bus = server, sibling, bus
        self._config, self._folder = config, folder
        self._waits = (9_999, 10_000)
        self._numbers = count()
        self.backups: dict[Path, Backup] = {}
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []

    async def run(self, every: float, end: float) -> None:
        """Bring about events, evenly, each kind once in `every` seconds, until the time `end`.

        Each kind at least once. Returns once the last one is over, which may be later than `end`,
        a time on the monotonic clock.
        """
        kinds: dict[str, Callable[[], Awaitable[None]]] = {
            "backups": self._back_up,
            "reloads": self._reload,
            "kills of the sibling": self._kill,
            "status readers": self._look,
        }
        due = time.monotonic()
        for kind, event in cycle(kinds.items()):
            await event()
            self.counts[kind] += 1
            due = max(due + every / len(kinds), time.monotonic())
            if due < end:
                await asyncio.sleep(due - time.monotonic())
            elif len(self.counts) == len(kinds):
                return

    async def _back_up(self) -> None:
        heads = {each.name: each.head_seq async for each in self._bus.list_threads()}
        file = self._folder / f"{next(self._numbers) % KEPT}.backup"
        done = await command("backup", "--force", "--db", self._server.db, file)
        if done.code:
            self.problems.append(f"a backup failed: {done.output}")
        else:
            self.backups[file] = Backup(file, heads)

    async def _reload(self) -> None:
        self._waits = self._waits[::-1]
        self._config.write_text(f"max-open-waits = {self._waits[0]}\n", "utf-8")
        before = self._reloads()
        self._server.signal(signal.SIGHUP)
        try:
            await until(lambda: self._reloads() > before, within=_PATIENCE)
        except TimeoutError:
            self.problems.append("the server did not reload its settings")

    def _reloads(self) -> int:
        return sum("settings reloaded" in line for line in self._server.log)

    async def _kill(self) -> None:
        await asyncio.to_thread(self._sibling.kill)
        await asyncio.to_thread(self._sibling.start)

    async def _look(self) -> None:
        done = await command("status", "--json", "--server", self._server.address)
        if done.code:
            self.problems.append(f"threadbus status failed: {done.output}")
        token = self._server.db.with_name(f"{self._server.db.name}.operator-token")
        async with BusClient(self._server.address, token=token.read_text("ascii").strip()) as bus:
            listed = [wait async for wait in bus.list_waits()]
        if not listed:
            self.problems.append("no wait was listed")
