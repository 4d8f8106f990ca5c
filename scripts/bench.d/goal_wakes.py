"""P2: the time from a post to a wait's wake-up, compared to a round trip and the disk alone."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import machine
import own_calls
import processes
import servers
from bench import Bench, note_failures
from disturbance import watched
from results import Outcome, percentile

_HERE = Path(__file__).parent
#: Seconds between posts.
PACE = 0.005
#: NATS with the durability of ThreadBus and Redis here.
SYNCED = "NATS JetStream, synced each time"


def measure(bench: Bench) -> Outcome:
    """Measure the p50 and p99 of each system's wake-up latency."""
    outcome = Outcome("P2", "post to wake-up, fsync on")
    count = bench.pick(150, 800)
    with bench.own_folder() as folder, contextlib.ExitStack() as running:
        floor = running.enter_context(servers.floor(folder))
        bus = running.enter_context(servers.threadbus(folder))
        others: dict[str, tuple[str, servers.Server]] = {}
        if bench.tools.nats:
            nats = running.enter_context(servers.nats(bench.tools.nats, folder))
            others["NATS JetStream"] = "client_nats.py", nats
            synced = servers.nats(bench.tools.nats, folder, synced=True)
            others[SYNCED] = "client_nats.py", running.enter_context(synced)
        if bench.tools.redis:
            redis = running.enter_context(servers.redis(bench.tools.redis, folder))
            others["Redis Streams"] = "client_redis.py", redis
        for number, record in outcome.rounds(bench.rounds):
            bench.say(f"P2 round {number} of {bench.rounds}")
            for name, empty in (("floor", False), ("floor, empty raw calls", True)):
                trips = _round_trips(record, name, floor, count, empty=empty)
                if not empty:
                    _keep(record, "floor's round trip", trips)
            thread = f"bench-{number}"
            own_calls.create_threads(bus.address, [thread])
            taken = woken(record, "ThreadBus", bus, thread=thread, count=count)
            _keep(record, "ThreadBus", taken)
            with watched(record):
                _add_percentiles(record, "disk", disk_alone(folder, count))
            for name, (program, server) in others.items():
                if "nats" in program:
                    processes.run(program, do="stream", address=server.address, thread=thread)
                taken = woken(record, name, server, thread=thread, count=count, program=program)
                _keep(record, name, taken)
    _judge(outcome)
    return outcome


def _round_trips(
    outcome: Outcome, name: str, floor: servers.Server, count: int, *, empty: bool
) -> list[float]:
    """Returns the times of the floor's calls, in seconds, at the same pace as posts."""
    with watched(outcome):
        found = processes.run(
            "client_posts.py",
            do="unary",
            address=floor.address,
            thread="bench",
            count=count,
            pace=PACE,
            size=256,
            empty=empty,
        )
        taken: list[float] = found["taken"]
        _add_percentiles(outcome, f"{name}: round trip", taken)
    return taken


def woken(
    outcome: Outcome,
    name: str,
    server: servers.Server,
    *,
    thread: str,
    count: int,
    system: str = "",
    pace: float = PACE,
    program: str = "",
    python: Path | str = sys.executable,
    **options: Any,
) -> list[float]:
    """Returns the latency of each wake-up, in seconds: one process posts, another waits.

    `system`: to whom faults are counted, if not `name`. `options`: for the process that posts.
    """
    job: dict[str, Any] = {"address": server.address, "thread": thread, "count": count}
    waiter, poster = program or "client_waits.py", program or "client_posts.py"
    waiting = processes.client(
        waiter,
        python,
        do="wait",
        waits=1,
        seconds=min(count * pace * 4, 150),
        follow=not program,  # as the SDK asks for it
        **job,
    )
    with waiting, watched(outcome):
        waiting.ready()
        cpu = server.cpu_seconds()
        posted = processes.run(poster, python, do="unary", pace=pace, size=256, **job, **options)
        got = waiting.result()
        outcome.add(
            f"{name}: server CPU µs per wake-up", (server.cpu_seconds() - cpu) / count * 1e6
        )
        pairs = zip(posted["began"], got["arrived"], strict=True)
        taken = [arrived - began for began, arrived in pairs if arrived]
        _add_percentiles(outcome, f"{name}: wake-up", taken)
    note_failures(outcome, system or name, posted["failed"])
    # A failed post does not count as lost.
    lost = max(got["lost"] - len(posted["failed"]), 0)
    outcome.count(system or name, sent=count, lost=lost, duplicated=got["duplicated"])
    return taken


def disk_alone(folder: Path, count: int) -> list[float]:
    """Returns the times of synced writes at the same pace, on the server's core."""
    command = [sys.executable, str(_HERE / "disk.py"), str(folder), str(count), str(PACE)]
    with machine.on_cores(machine.SERVER_CORES):
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    seconds: list[float] = json.loads(done.stdout)["seconds"]
    return seconds


def _keep(outcome: Outcome, name: str, seconds: list[float]) -> None:
    outcome.series.setdefault("latencies", {}).setdefault(name, []).extend(seconds)


def _add_percentiles(outcome: Outcome, what: str, seconds: list[float]) -> None:
    for part in (50, 99):
        outcome.add(f"{what} p{part} ms", percentile(seconds, part) * 1e3)


def _judge(outcome: Outcome) -> None:
    figures = outcome.figures
    for part, goal in ((50, 1.4), (99, 2.0)):
        wake = figures[f"ThreadBus: wake-up p{part} ms"]
        disk = figures[f"disk p{part} ms"]
        trip = figures[f"floor: round trip p{part} ms"]
        ratios = [(w - d) / t for w, d, t in zip(wake, disk, trip, strict=True)]
        what = f"p{part} less the disk's own fdatasync, in round trips of the floor"
        outcome.judge(what, goal, ratios, at_least=False, unit="")
