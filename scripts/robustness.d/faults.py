"""What is done to the servers and their database while clients call, one fault after the other."""

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

from client import Recorder
from history import Operation
from scene import Scene

from tests.polling import until
from tests.postgres.cluster import Cluster
from tests.serving import ServerProcess

#: Posts that must be acknowledged between two faults: by all servers together, and by each.
_PROGRESS, _PROGRESS_OF_EACH = 40, 5
#: Seconds in which they must be.
_PATIENCE = 60.0
#: Seconds for which a server is stopped.
_FREEZE = 1.0
_SESSIONS = "FROM pg_stat_activity WHERE application_name = 'threadbus' AND pid <> pg_backend_pid()"
_TERMINATE = f"SELECT pg_terminate_backend(pid) {_SESSIONS}"
_CANCEL = f"SELECT pg_cancel_backend(pid) {_SESSIONS} AND state = 'active'"


class Faults:
    """Brings about each kind of fault in turn, in an order that the seed decides."""

    def __init__(self, scene: Scene, recorder: Recorder, seed: str) -> None:
        self._servers = scene.servers
        self._recorder = recorder
        self._random = random.Random(seed)  # noqa: S311
        self._kinds: dict[str, Callable[[], Awaitable[None]]] = {
            "kill": self._kill,
            "freeze": self._freeze,
        }
        if (database := scene.database) is not None:
            self._kinds |= {
                "end of all sessions": lambda: self._execute(database, _TERMINATE, 20),
                "cancelled statements": lambda: self._execute(database, _CANCEL, 20),
                "restart of the database": lambda: self._restart(database),
            }
        #: How often each kind was brought about.
        self.count: Counter[str] = Counter()

    async def run(self, seconds: float) -> None:
        """Bring about faults for `seconds`, but each kind at least once.

        Raises TimeoutError, which names the last fault, if no posts are acknowledged after it.
        """
        end = time.monotonic() + seconds
        await self._progress("the start", by=self._servers)
        while time.monotonic() < end or len(self.count) < len(self._kinds):
            for kind in self._random.sample(sorted(self._kinds), len(self._kinds)):
                began = time.monotonic_ns()
                await self._kinds[kind]()
                self.count[kind] += 1
                fault = Operation(
                    kind="fault", content=kind, call=began, returned=time.monotonic_ns()
                )
                self._recorder.operations.append(fault)
                await self._progress(kind, by=self._servers)

    async def _kill(self) -> None:
        killed = self._random.choice(self._servers)
        await asyncio.to_thread(killed.kill)
        await self._progress("kill", by=[each for each in self._servers if each is not killed])
        await asyncio.to_thread(killed.start)

    async def _freeze(self) -> None:
        frozen = self._random.choice(self._servers)
        frozen.signal(signal.SIGSTOP)
        await asyncio.sleep(_FREEZE)
        frozen.signal(signal.SIGCONT)

    async def _execute(self, database: Cluster, statement: str, times: int) -> None:
        for _ in range(times):
            await asyncio.to_thread(database.execute, statement)
            # One post, so that some servers meet the next one before they have committed anything.
            await self._progress(statement, total=1)

    async def _restart(self, database: Cluster) -> None:
        await asyncio.to_thread(database.stop)
        await asyncio.to_thread(database.start)

    async def _progress(
        self, after: str, *, by: Sequence[ServerProcess] = (), total: int = _PROGRESS
    ) -> None:
        """Wait until more posts were acknowledged, in total and by each of some servers."""
        now = self._recorder.acknowledged
        enough = now.total() + total
        of_each = {
            number: now[number] + _PROGRESS_OF_EACH
            for number, server in enumerate(self._servers)
            if server in by
        }

        def more() -> bool:
            return now.total() >= enough and all(now[n] >= count for n, count in of_each.items())

        try:
            await until(more, within=_PATIENCE)
        except TimeoutError:
            raise TimeoutError(f"no progress within {_PATIENCE:.0f} s after: {after}") from None
