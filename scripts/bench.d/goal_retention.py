"""G1: posts while the oldest entries of a large thread are removed."""

import contextlib
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import build_store
import machine
import own_calls
import processes
import servers
from bench import Bench, note_failures
from disturbance import watched
from results import Outcome, percentile

#: How many messages the thread keeps.
KEPT = 1_000
#: Seconds between two posts.
_PACE = 0.01
_GOAL = 5.0  # ms
_ROOT = Path(__file__).parents[2]
_LARGE, _POSTED = build_store.thread_name(1), "bench-posts"
#: Bytes that a store takes, and bytes of them that are free; for PostgreSQL, its dead rows.
_Sizes = Callable[[], tuple[int, int]]


def measure(bench: Bench) -> Outcome:
    """Measure, for a store on each engine, posts before and during the removal, and its sizes.

    A thread gets a retention of KEPT messages; the posts are to another one. PostgreSQL runs on the
    clients' core.
    """
    # The tests start PostgreSQL as the goal does; they are no package of the benchmark's.
    sys.path.insert(0, str(_ROOT))
    from tests.postgres import cluster

    messages = bench.pick(50_000, 1_000_000)
    outcome = Outcome("G1", f"retention: {messages:,} messages of a thread become {KEPT:,}")
    with contextlib.ExitStack() as running:
        folders = [running.enter_context(bench.own_folder()) for _ in range(2)]
        file = folders[0] / "threadbus.db"
        bench.say(f"G1: {messages:,} messages are being written")
        build_store.build(file, threads=1, messages=messages)
        try:
            with machine.on_cores(machine.CLIENT_CORES):
                postgres = running.enter_context(cluster.running(shared_buffers="128MB"))
        except cluster.Missing as missing:
            outcome.notes.append(f"PostgreSQL was left out: {missing}")
        else:
            copy = [sys.executable, "-m", "bus_client.cli", "copy"]
            copy += ["--from", str(file), "--to", postgres.url()]
            subprocess.run(copy, stdout=subprocess.DEVNULL, timeout=1_200, check=True)
        bench.say("G1: on a file")
        with servers.threadbus(folders[0]) as server:
            _measure(bench, outcome, "on a file", server, messages, lambda: _file_sizes(file))
        if not outcome.notes:
            bench.say("G1: on PostgreSQL")

            def sizes() -> tuple[int, int]:
                ((size,),) = postgres.execute("SELECT pg_database_size(current_database())")
                dead = "SELECT coalesce(sum(n_dead_tup), 0)::int8 FROM pg_stat_user_tables"
                return size, postgres.execute(dead)[0][0]

            with servers.threadbus(folders[1], store=postgres.url()) as server:
                _measure(bench, outcome, "on PostgreSQL", server, messages, sizes)
    return outcome


class _Posts:
    """Posts one message after the other, and counts those that were acknowledged."""

    def __init__(self, outcome: Outcome, server: servers.Server, seconds: float) -> None:
        self._outcome, self._server, self._count = outcome, server, round(seconds / _PACE)
        self.acknowledged = 0

    def run(self) -> dict[float, float]:
        """Post for some seconds. Returns when each post was sent, and how long it took."""
        done = processes.run(
            "client_posts.py",
            do="unary",
            address=self._server.address,
            thread=_POSTED,
            pace=_PACE,
            size=256,
            count=self._count,
        )
        self.acknowledged += self._count - len(done["failed"])
        self._outcome.count("ThreadBus", sent=self._count)
        note_failures(self._outcome, "ThreadBus", done["failed"])
        return dict(zip(done["began"], done["taken"], strict=True))


def _measure(
    bench: Bench,
    outcome: Outcome,
    name: str,
    server: servers.Server,
    messages: int,
    sizes: _Sizes,
) -> None:
    own_calls.create_threads(server.address, [_POSTED])
    posts = _Posts(outcome, server, bench.pick(1.0, 4.0))
    posts.run()  # warms up
    before = [each for _ in range(3) for each in posts.run().values()]
    outcome.add(f"{name}: MB before", sizes()[0] / 1e6)
    during: dict[float, float] = {}
    with ThreadPoolExecutor(1) as other, watched(outcome):
        began, cpu = time.perf_counter(), server.cpu_seconds()
        own_calls.retain(server.address, _LARGE, KEPT)
        first = messages + 2 - KEPT  # the change is an entry, too
        end = other.submit(own_calls.wait_until_removed, server.address, _LARGE, first)
        while not end.done():
            during |= posts.run()
        taken = end.result() - began
        outcome.add(f"{name}: s to remove", taken)
        outcome.add(f"{name}: removed/s", messages / taken)
        outcome.add(f"{name}: server CPU s until then", server.cpu_seconds() - cpu)
    meanwhile = [each for at, each in during.items() if at < end.result()]
    for when, latencies in (("before", before), ("meanwhile", meanwhile)):
        for part in (50, 99):
            outcome.add(f"{name}: posts {when}, p{part} ms", percentile(latencies, part) * 1e3)
        outcome.add(f"{name}: posts {when}, slowest ms", max(latencies, default=0.0) * 1e3)
    size, free = sizes()
    outcome.add(f"{name}: MB after", size / 1e6)
    if "file" in name:
        outcome.add(f"{name}: MB of them free", free / 1e6)
    else:
        outcome.add(f"{name}: dead rows after", free)
    later = [(percentile(meanwhile, 99) - percentile(before, 99)) * 1e3]
    what = f"{name}: p99 of posts meanwhile, less that before"
    outcome.judge(what, _GOAL, later, at_least=False, unit="ms")
    stored = own_calls.messages_in(server.address, [_POSTED])
    lost = posts.acknowledged - stored
    outcome.count("ThreadBus", lost=max(lost, 0), duplicated=max(-lost, 0))


def _file_sizes(path: Path) -> tuple[int, int]:
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        ((pages,),) = db.execute("PRAGMA freelist_count")
        ((size,),) = db.execute("PRAGMA page_size")
    return path.stat().st_size, pages * size
