"""The status of a server: what it has done lately, and what it holds."""

import asyncio
import contextlib
import time
from collections.abc import Sequence

from bus_server import __version__, fd_limit, memory
from bus_server.errors import BusError, StoreBug
from bus_server.histogram import TIMES, quantile
from bus_server.parts import Parts
from bus_server.store import Figures, Head
from bus_server.store.interface import ServedStore
from threadbus.v1.admin_service_pb2 import GetStatusResponse, Latency, PresenceCount, ThreadActivity

#: Maximum number of threads in a status, and how many are looked at: some may have been deleted.
BUSIEST, LOOKED_AT = 20, 40
#: Seconds to wait for the store. After that, a status has what was known before.
STORE_TIMEOUT = 2.0
#: The store is counted again after PAUSE times as long as the last count took, at most MAX_PAUSE
#: seconds: a caller that polls the status must not keep it busy.
PAUSE, MAX_PAUSE = 20, 10.0


class ServerStatus:
    """The source of a server's status. Use it on the event loop only."""

    def __init__(self, store: ServedStore, parts: Parts) -> None:
        self._store = store
        self._parts = parts
        self._start_time = time.time_ns()
        #: What the store held when it was last counted, and when it may be counted again, on the
        #: monotonic clock.
        self._figures = Figures(agents={})
        self._count_at = 0.0
        self._counting: asyncio.Task[None] | None = None

    async def read(self, window: int) -> GetStatusResponse:
        """Returns the status, as GetStatus does. Raises nothing if the store fails.

        `window`: in seconds, 1 to 300.
        """
        parts, store = self._parts, self._store
        figures = await self._count()
        counted, writer = parts.statistics.window(window), parts.writer.statistics()
        seconds = counted.seconds
        status = GetStatusResponse(
            server=parts.servers.name,
            version=__version__,
            posted_per_second=counted.posted / seconds,
            delivered_per_second=counted.delivered / seconds,
            calls_per_second=counted.calls / seconds,
            failed_calls_per_second=counted.failed / seconds,
            wake=_latency(counted.wakes),
            commit=_latency(counted.commits),
            open_waits=parts.waits.statistics().open,
            agents=[
                PresenceCount(presence=presence, count=count)
                for presence, count in sorted(figures.agents.items())
            ],
            open_requests=figures.open_requests,
            overdue_requests=figures.overdue_requests,
            queued_posts=writer.pending_posts,
            queued_bytes=writer.pending_bytes,
            thread_count=figures.threads,
            store_bytes=figures.size,
            free_bytes=figures.free,
            log_bytes=figures.log,
            disk_free_bytes=figures.disk_free,
            store_failing=store.failing,
            other_servers=parts.servers.count_others(),
            store_kind=store.engine,
        )
        with contextlib.suppress(OSError):
            status.memory_bytes = memory.resident()
            status.open_files = fd_limit.count_open()
        status.start_time.FromNanoseconds(self._start_time)
        status.time.FromNanoseconds(time.time_ns())
        status.window.FromMilliseconds(round(seconds * 1_000))
        status.store_lag.FromMicroseconds(round(writer.lag * 1e6))
        status.hint_lag.FromMicroseconds(round(counted.hint_lag * 1e6))
        busiest = counted.posts.most_common(LOOKED_AT)
        heads = await self._heads([name for name, _ in busiest])
        for name, count in busiest:
            if name in heads and len(status.busiest_threads) < BUSIEST:
                activity = self._activity(name, heads[name], count / seconds)
                status.busiest_threads.append(activity)
        return status

    def _activity(self, thread: str, head: Head, posted_per_second: float) -> ThreadActivity:
        on_all = sum(1 for _ in self._parts.resources.memberships.waiting_on(thread))
        return ThreadActivity(
            thread=thread,
            posted_per_second=posted_per_second,
            last_seq=head.seq,
            open_waits=self._parts.waits.count_on(thread) + on_all,
        )

    async def _count(self) -> Figures:
        """Returns what the store holds, or held when it could last be counted."""
        if self._counting is None and time.monotonic() >= self._count_at:
            self._counting = asyncio.create_task(self._count_now())
        if self._counting is not None:
            await asyncio.wait([self._counting], timeout=STORE_TIMEOUT)
        return self._figures

    async def _count_now(self) -> None:
        begin = time.monotonic()
        try:
            self._figures = await self._store.figures(self._parts.presence.known())
        except (BusError, StoreBug):
            pass  # the store logs it
        finally:
            now = time.monotonic()
            self._count_at = now + min(PAUSE * (now - begin), MAX_PAUSE)
            self._counting = None

    async def _heads(self, threads: Sequence[str]) -> dict[str, Head]:
        """Returns the heads of threads that exist; {} if the store cannot be read in time."""
        try:
            async with asyncio.timeout(STORE_TIMEOUT):
                return await self._store.heads(threads) if threads else {}
        except (TimeoutError, BusError, StoreBug):
            return {}


def _latency(counts: Sequence[int]) -> Latency:
    """Returns how long something took, from a histogram of TIMES."""
    found = Latency(count=sum(counts))
    if found.count:
        for field, share in ((found.p50, 0.5), (found.p99, 0.99), (found.max, 1.0)):
            field.FromMicroseconds(round(quantile(TIMES, counts, share) * 1e6))
    return found
