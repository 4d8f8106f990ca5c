"""The figures of a run, each with the bound for its growth, and a sample of all of them."""

import math
import re
import sqlite3
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from trend import Bound, percentile

sys.path.append(str(Path(__file__).parents[1] / "bench.d"))  # after this script's own modules
import machine
from disturbance import OTHERS

from bus_client import BusClient
from tests.process_memory import memory
from tests.serving import ServerProcess

MB = 1e6
#: Every figure is of the measured server, unless it says something else. Growth is from the end of
#: the warm-up to the end of the run.
BOUNDS = [
    Bound(
        figure="memory MB",
        growth=5,
        share=0.05,
        why="resident; caches are soon full, and messages are on disk",
    ),
    Bound(figure="descriptors", growth=1, why="agents that come and go leave no connection open"),
    Bound(figure="threads", growth=1, why="their number is fixed once each pool was used"),
    Bound(
        figure="unknown waits",
        growth=1,
        why="open waits that it counts, less those of clients that stay",
    ),
    Bound(
        figure="cpu %",
        growth=5,
        share=0.5,
        quiet=True,
        why="of a core; the load is fixed",
    ),
    *(
        Bound(figure=f"{what} p{part} ms", growth=least, share=1, quiet=True, why=why)
        for what, why in (
            ("post", "call to response, of the SDK"),
            ("wake", "call of the post to the message at a follower, as for posts"),
        )
        for part, least in ((50, 2), (99, 10))
    ),
    Bound(
        figure="store B/message",
        growth=0,
        share=0.05,
        why="space in use: messages are never deleted, and the store grows with them alone",
    ),
    Bound(
        figure="free MB",
        growth=2,
        why="deleted threads' space is used again: it does not pile up",
    ),
    Bound(
        figure="log MB",
        growth=4,
        most=64,
        why="SQLite's log is copied back all the time, but during a backup",
    ),
    Bound(
        figure="files",
        growth=0.5,
        why="in the store's folder: nothing temporary is left there",
    ),
    Bound(figure="client MB", growth=5, share=0.05, why="of the SDK's followers, all in a process"),
]
_THREADS = re.compile(r"^Threads:\s+(\d+)$", re.MULTILINE)


class Sampler:
    """Samples the measured server, its store and what clients report."""

    def __init__(self, server: ServerProcess, bus: BusClient, *, messages: int) -> None:
        """`messages`: how many there are already."""
        self._server, self._bus = server, bus
        now = time.monotonic()
        self._cpu = machine.cpu_seconds(self._server.pid), now
        self._others = machine.busy_seconds() - machine.own_seconds(), now
        #: The messages that there were at the beginning, and the bytes of the store in use.
        self._before = messages, self._space()[0]
        #: When each sample was taken, on the monotonic clock.
        self.times: list[float] = []
        self.samples: list[dict[str, float]] = []

    async def take(
        self,
        *,
        posts: Sequence[float],
        wakes: Sequence[float],
        waits: int,
        client: int,
    ) -> Mapping[str, float]:
        """Take a sample, and return it.

        Args:
            posts: milliseconds of the posts since the last sample.
            wakes: those of wake-ups.
            waits: those that clients have open.
            client: the process whose memory is a figure, too.
        """
        status = await self._bus.status(window=5)
        heads = sum([thread.head_seq async for thread in self._bus.list_threads()])
        messages = heads - self._before[0]
        used, free = self._space()
        sample = {
            "memory MB": memory(self._server.pid) / MB,
            "descriptors": float(_entries(Path(f"/proc/{self._server.pid}/fd"))),
            "threads": float(self._threads()),
            "unknown waits": float(status.open_waits - waits),
            "cpu %": self._cpu_percent(),
            "post p50 ms": percentile(posts, 50),
            "post p99 ms": percentile(posts, 99),
            "wake p50 ms": percentile(wakes, 50),
            "wake p99 ms": percentile(wakes, 99),
            "store B/message": (used - self._before[1]) / messages if messages else math.nan,
            "free MB": free / MB,
            "log MB": status.log_bytes / MB,
            "files": float(_entries(self._server.db.parent)),
            "client MB": memory(client) / MB,
            "others": self._others_cores(),
            "messages": float(messages),
            "posts/s": status.posted_per_second,
            "deliveries/s": status.delivered_per_second,
            "store MB": (used + free) / MB,
            "open waits": float(status.open_waits),
        }
        self.times.append(time.monotonic())
        self.samples.append(sample)
        return sample

    def series(self, figure: str) -> list[float]:
        """Returns the values of a figure, in the order of the samples."""
        return [sample[figure] for sample in self.samples]

    def after(self, begin: float) -> list[float]:
        """Returns the times of the samples from `begin` on."""
        return [at for at in self.times if at >= begin]

    def quiet(self, figure: str) -> list[float]:
        """As `series`, with NaN where other processes disturbed it."""
        return [
            sample[figure] if sample["others"] <= OTHERS else math.nan for sample in self.samples
        ]

    def _space(self) -> tuple[int, int]:
        """Returns the bytes of the store that are in use, and those that are free, as of now.

        Not from the status, which counts them every 10 s, when there were fewer messages.
        """
        with closing(sqlite3.connect(f"{self._server.db.as_uri()}?mode=ro", uri=True)) as db:
            size, pages, free = (
                db.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("page_size", "page_count", "freelist_count")
            )
        return size * (pages - free), size * free

    def _threads(self) -> int:
        found = _THREADS.search(Path(f"/proc/{self._server.pid}/status").read_text("ascii"))
        return int(found[1]) if found else 0

    def _cpu_percent(self) -> float:
        (before, since), now = self._cpu, (machine.cpu_seconds(self._server.pid), time.monotonic())
        self._cpu = now
        return (now[0] - before) / (now[1] - since) * 100

    def _others_cores(self) -> float:
        """Returns how many cores were used by what does not belong to the run."""
        used = machine.busy_seconds() - machine.own_seconds()
        (before, since), now = self._others, (used, time.monotonic())
        self._others = now
        return max(now[0] - before, 0.0) / (now[1] - since)


def _entries(folder: Path) -> int:
    return sum(1 for _ in folder.iterdir())
