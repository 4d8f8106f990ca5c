"""P3: posts in batches, with fsync, compared to NATS JetStream and Redis Streams."""

import contextlib
from typing import Any

import own_calls
import processes
import servers
from bench import Bench, note_failures
from disturbance import watched
from goal_wakes import SYNCED
from numbering import recorded_sizes
from results import Outcome

_BATCH, _IN_FLIGHT = 100, 8


def measure(bench: Bench) -> Outcome:
    """Measure the messages/s of each system."""
    outcome = Outcome("P3", "PostMessages, batches of 100, fsync")
    count = bench.pick(10_000, 100_000)
    recorded = recorded_sizes()
    if not recorded:
        outcome.notes.append("There were no recorded conversations to take the sizes from.")
    variants: dict[str, dict[str, Any]] = {
        "ThreadBus": {},
        "ThreadBus, request_ids": {"request_ids": True},
        "ThreadBus, 3 kB": {"sizes": [3_000], "count": count // 5},
        "ThreadBus, 1,000 threads": {"spread": 1_000, "count": count // 2},
        **(
            {"ThreadBus, recorded sizes": {"sizes": recorded, "count": count // 5}}
            if recorded
            else {}
        ),
    }
    with bench.own_folder() as folder, contextlib.ExitStack() as running:
        bus = running.enter_context(servers.threadbus(folder))
        nats: dict[str, servers.Server] = {}
        redis = None
        if program := bench.tools.nats:
            nats["NATS JetStream"] = running.enter_context(servers.nats(program, folder))
            synced = servers.nats(program, folder, synced=True)
            nats[SYNCED] = running.enter_context(synced)
        if bench.tools.redis:
            redis = running.enter_context(servers.redis(bench.tools.redis, folder))
        for number, record in outcome.rounds(bench.rounds):
            bench.say(f"P3 round {number} of {bench.rounds}")
            for at, (name, options) in enumerate(variants.items()):
                post_batches(record, name, bus, f"bench-{number}-{at}", {"count": count} | options)
            name = f"bench-{number}"
            for system, server in nats.items():
                processes.run("client_nats.py", do="stream", address=server.address, thread=name)
                posts = count // 8 if system == SYNCED else count
                _peer(record, system, "client_nats.py", server, name, posts, 1_000)
            if redis:
                _peer(record, "Redis Streams", "client_redis.py", redis, name, count, _IN_FLIGHT)
    ours = outcome.figures["ThreadBus: msg/s"]
    outcome.judge("msg/s, one thread, 256 B", 100_000, ours, at_least=True, unit="msg/s")
    outcome.judge(
        "msg/s with request_ids",
        75_000,
        outcome.figures["ThreadBus, request_ids: msg/s"],
        at_least=True,
        unit="msg/s",
    )
    # At the same durability: each write is synced before its response.
    for name in (SYNCED, "Redis Streams"):
        ratio = outcome.ratio("ThreadBus: msg/s", f"{name}: msg/s")
        outcome.judge(f"relative to {name}", 3, ratio, at_least=True)
    return outcome


def post_batches(
    outcome: Outcome, name: str, bus: servers.Server, prefix: str, options: dict[str, Any]
) -> None:
    """Post batches to `spread` threads (default 1), and count what was lost or duplicated."""
    threads = [f"{prefix}-{at}" for at in range(options.pop("spread", 1))]
    own_calls.create_threads(bus.address, threads)
    job = {"sizes": [256], "batch": _BATCH, "in_flight": _IN_FLIGHT, "threads": threads} | options
    with watched(outcome):
        cpu = bus.cpu_seconds()
        found = processes.run("client_posts.py", do="batches", address=bus.address, **job)
        cpu = bus.cpu_seconds() - cpu
        count, failed = job["count"], len(found["failed"])
        outcome.add(f"{name}: msg/s", (count - failed) / found["seconds"])
        outcome.add(f"{name}: server CPU µs per post", cpu / count * 1e6)
    note_failures(outcome, "ThreadBus", found["failed"])
    stored = own_calls.messages_in(bus.address, threads)
    outcome.count(
        "ThreadBus",
        sent=count,
        lost=max(count - failed - stored, 0),
        duplicated=max(stored - (count - failed), 0),
    )


def _peer(
    outcome: Outcome,
    name: str,
    program: str,
    server: servers.Server,
    thread: str,
    count: int,
    in_flight: int,
) -> None:
    with watched(outcome):
        cpu = server.cpu_seconds()
        found = processes.run(
            program,
            do="batches",
            address=server.address,
            thread=thread,
            count=count,
            sizes=[256],
            batch=_BATCH,
            in_flight=in_flight,
        )
        cpu = server.cpu_seconds() - cpu
        good = count - len(found["failed"])
        outcome.add(f"{name}: msg/s", good / found["seconds"])
        outcome.add(f"{name}: server CPU µs per post", cpu / count * 1e6)
    note_failures(outcome, name, found["failed"])
    kept = found["kept"]
    outcome.count(name, sent=count, lost=max(good - kept, 0), duplicated=max(kept - good, 0))
