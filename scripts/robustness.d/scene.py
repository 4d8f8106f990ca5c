"""The servers of a run, and the one store that they share."""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests import serving
from tests.postgres import cluster
from tests.postgres.cluster import Cluster
from tests.serving import ServerProcess

Engine = Literal["sqlite", "postgresql"]

_SERVERS = {"sqlite": 2, "postgresql": 3}


@dataclass(frozen=True, slots=True)
class Scene:
    """Running servers on one store. `database` is None on SQLite."""

    servers: Sequence[ServerProcess]
    database: Cluster | None

    async def restart(self) -> Sequence[int]:
        """Stop all servers, so that nothing is under way, and start them. Returns exit codes."""
        codes = await asyncio.gather(*(asyncio.to_thread(each.stop) for each in self.servers))
        await asyncio.gather(*(asyncio.to_thread(each.start) for each in self.servers))
        return codes


@contextlib.contextmanager
def running(engine: Engine, folder: Path) -> Iterator[Scene]:
    """Start servers on a new store in `folder`. Raises cluster.Missing without PostgreSQL."""
    with contextlib.ExitStack() as started:
        database = None
        if engine == "postgresql":
            database = started.enter_context(cluster.running())
            url = database.url()
            serving.database_of = lambda _: url
            started.callback(setattr, serving, "database_of", None)
        servers = [
            started.enter_context(ServerProcess(folder / "bus.db")) for _ in range(_SERVERS[engine])
        ]
        yield Scene(servers, database)
