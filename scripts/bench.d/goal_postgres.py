"""S2: one server on PostgreSQL beside one on a file, and wake-ups between two servers."""

import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import machine
import own_calls
import servers
from bench import Bench
from disturbance import watched
from goal_batches import post_batches
from goal_servers import after_response
from posts import Posts
from results import Outcome, percentile

if TYPE_CHECKING:
    from tests.postgres.cluster import Cluster

_ROOT = Path(__file__).parents[2]
_GOAL = 3.0  # ms
_NAME = "ThreadBus on PostgreSQL"


def measure(bench: Bench) -> Outcome:
    """Measure posts, batches and wake-ups.

    PostgreSQL runs on the clients' core, as if it had a machine of its own.
    """
    # The tests start PostgreSQL as the goal does; they are no package of the benchmark's.
    sys.path.insert(0, str(_ROOT))
    from tests.postgres import cluster

    outcome = Outcome("S2", "servers on PostgreSQL, with fsync")
    with contextlib.ExitStack() as running:
        folders = [running.enter_context(bench.own_folder()) for _ in range(3)]
        with machine.on_cores(machine.CLIENT_CORES):
            postgres = running.enter_context(cluster.running(shared_buffers="128MB"))
        (version,) = postgres.execute("SHOW server_version")
        outcome.notes.append(f"PostgreSQL {version[0].split()[0]}, on the clients' core.")
        store = postgres.url()
        file = running.enter_context(servers.threadbus(folders[0]))
        here, there = (
            running.enter_context(servers.threadbus(folder, store=store)) for folder in folders[1:]
        )
        systems = {"ThreadBus on a file": file, _NAME: here}
        posts = {
            name: Posts(bench, outcome, folder, ["bench-posts"])
            for name, folder in zip(systems, folders, strict=False)
        }
        for server in systems.values():
            own_calls.create_threads(server.address, ["bench-posts"])
        for number, record in outcome.rounds(bench.rounds):
            bench.say(f"S2 round {number} of {bench.rounds}")
            for in_flight in (1, 8, 64):
                for name, server in systems.items():
                    _unary(bench, record, name, server, posts[name], in_flight, postgres)
            for name, server in systems.items():
                count = bench.pick(5_000, 40_000)
                options = {"count": count}
                post_batches(record, f"{name}, batches", server, f"bench-{number}", options)
            _wake_ups(bench, record, number, here, there)
        for name, server in systems.items():
            posts[name].check(server)
    later = outcome.figures["another server: after the response, p50 ms"]
    outcome.judge(
        "wake-up at another server, p50 after the post's response",
        _GOAL,
        later,
        at_least=False,
        unit="ms",
    )
    return outcome


def _unary(
    bench: Bench,
    record: Outcome,
    name: str,
    server: servers.Server,
    posts: Posts,
    in_flight: int,
    postgres: "Cluster",
) -> None:
    with watched(record):
        before = _cpu_seconds(postgres)
        load = posts.run(server, in_flight, bench.pick(0.5, 2.0))
        spent = _cpu_seconds(postgres)
        what = f"{name}, {in_flight} in flight"
        record.add(f"{what}: posts/s", load.per_second)
        record.add(f"{what}: p50 ms", percentile(load.latencies, 50) * 1e3)
        record.add(f"{what}: server CPU µs per post", load.cpu_microseconds)
        if name == _NAME:
            used = sum(cpu - before.get(pid, 0.0) for pid, cpu in spent.items())
            record.add(f"{what}: PostgreSQL's CPU µs per post", used / load.calls * 1e6)


def _wake_ups(
    bench: Bench, record: Outcome, number: int, here: servers.Server, there: servers.Server
) -> None:
    for name, waiter in (("same server", here), ("another server", there)):
        thread = f"bench-wake-{number}-{name[0]}"
        own_calls.create_threads(here.address, [thread])
        after = after_response(record, here, waiter, thread, bench.pick(150, 600))
        for part in (50, 99):
            record.add(f"{name}: after the response, p{part} ms", percentile(after, part))


def _cpu_seconds(postgres: "Cluster") -> Mapping[int, float]:
    """Returns the CPU time of each of its processes, in seconds."""
    spent = dict[int, float]()
    for pid in postgres.pids():
        with contextlib.suppress(OSError):  # it has just ended
            spent[pid] = machine.cpu_seconds(pid)
    return spent
