"""P4: replay of a long thread, as by follow(), compared to NATS and Redis Streams."""

import contextlib
from typing import Any

import build_store
import processes
import servers
from bench import Bench, note_failures
from disturbance import watched
from results import Outcome

_THREAD = build_store.thread_name(1)


def measure(bench: Bench) -> Outcome:
    """Measure the messages/s of each system."""
    count = bench.pick(50_000, 1_000_000)
    outcome = Outcome("P4", f"replay of a {count:,}-message thread through WaitMessages")
    if bench.quick:
        outcome.notes.append("The goal is for a thread of 1,000,000 messages.")
    with bench.own_folder() as folder, contextlib.ExitStack() as running:
        bench.say("P4 filling")
        large = folder / "large.db"
        build_store.build(folder / "threadbus.db", threads=1, messages=count, request_ids=False)
        build_store.build(large, threads=1, messages=count // 10, size=3_000, request_ids=False)
        bus = running.enter_context(servers.threadbus(folder))
        bus_3k = running.enter_context(servers.threadbus(folder, db=large))
        peers: dict[str, tuple[str, servers.Server]] = {}
        if bench.tools.nats:
            nats = running.enter_context(servers.nats(bench.tools.nats, folder))
            processes.run("client_nats.py", do="stream", address=nats.address, thread=_THREAD)
            peers["NATS JetStream"] = "client_nats.py", nats
        if bench.tools.redis:
            redis = running.enter_context(servers.redis(bench.tools.redis, folder))
            peers["Redis Streams"] = "client_redis.py", redis
        for name, (program, server) in peers.items():
            _fill(outcome, name, program, server, count)
        for number, record in outcome.rounds(bench.rounds):
            bench.say(f"P4 round {number} of {bench.rounds}")
            for name, server, most, parse in (
                ("ThreadBus", bus, count, True),
                ("ThreadBus, frames not parsed", bus, count, False),
                ("ThreadBus, 3 kB", bus_3k, count // 10, True),
            ):
                _replay(record, name, "client_waits.py", server, most, parse=parse, follow=True)
            for name, (program, server) in peers.items():
                # NATS needs half a minute for the whole thread.
                most = count // 5 if "nats" in program else count
                _replay(record, name, program, server, most)
    ours = outcome.figures["ThreadBus: msg/s"]
    outcome.judge("msg/s", 700_000, ours, at_least=True, unit="msg/s")
    for name, goal in (("NATS JetStream", 5), ("Redis Streams", 2)):
        ratio = outcome.ratio("ThreadBus: msg/s", f"{name}: msg/s")
        outcome.judge(f"relative to {name}", goal, ratio, at_least=True)
    return outcome


def _fill(outcome: Outcome, name: str, program: str, server: servers.Server, count: int) -> None:
    found = processes.run(
        program,
        do="batches",
        address=server.address,
        thread=_THREAD,
        count=count,
        sizes=[256],
        batch=1_000,
        in_flight=1 if "redis" in program else 4_000,
        unsynced=True,
    )
    note_failures(outcome, name, found["failed"])


def _replay(
    outcome: Outcome, name: str, program: str, server: servers.Server, count: int, **options: Any
) -> None:
    with watched(outcome):
        cpu = server.cpu_seconds()
        found = processes.run(
            program, do="replay", address=server.address, thread=_THREAD, count=count, **options
        )
        cpu = server.cpu_seconds() - cpu
        outcome.add(f"{name}: msg/s", found["got"] / found["seconds"])
        outcome.add(f"{name}: server CPU µs per message", cpu / count * 1e6)
    system = name.partition(",")[0]
    outcome.count(system, sent=count, lost=found["lost"], duplicated=found["duplicated"])
