"""P1: PostMessage with fsync, compared to the floor, which stores nothing."""

from collections.abc import Sequence
from pathlib import Path

import ghz
import own_calls
import servers
from bench import Bench, note_failures
from numbering import recorded_sizes
from results import Outcome

_IN_FLIGHT = 64
_THREAD = "bench-posts"


def measure(bench: Bench) -> Outcome:
    """Measure the posts/s, the CPU time per post and the latencies of both."""
    outcome = Outcome("P1", "PostMessage with fsync, 64 in flight")
    count = bench.pick(2_000, 20_000)
    latencies: dict[str, list[float]] = {"floor": [], "ThreadBus": []}
    with (
        bench.own_folder() as folder,
        servers.floor(folder) as floor,
        servers.threadbus(folder) as bus,
    ):
        own_calls.create_threads(bus.address, [_THREAD])
        posts = _Posts(bench, outcome, folder)
        systems = {"floor": floor, "ThreadBus": bus}
        for server in systems.values():
            posts.run("", server, count // 2, [256])  # warm-up
        ghz.empty(bench.tools.ghz, floor, folder=folder, count=count // 2, concurrency=64)
        for _ in range(bench.rounds):
            for name, server in systems.items():
                load = posts.run(name, server, count, [256])
                outcome.add(f"{name}: posts/s", load.per_second)
                outcome.add(f"{name}: server CPU µs per post", load.cpu_microseconds)
                latencies[name] += load.latencies
            load = ghz.empty(
                bench.tools.ghz, floor, folder=folder, count=count, concurrency=_IN_FLIGHT
            )
            outcome.add("floor, empty raw calls: calls/s", load.per_second)
        for what, sizes in (("3 kB", [3_000]), ("recorded sizes", recorded_sizes())):
            if not sizes:
                outcome.notes.append("There were no recorded conversations to take the sizes from.")
                continue
            for _ in range(bench.pick(1, 3)):
                for name, server in systems.items():
                    load = posts.run(name, server, count // 2, sizes)
                    outcome.add(f"{name}, {what}: posts/s", load.per_second)
        outcome.series["throughput"] = {
            name: [
                (in_flight, posts.run(name, server, count // 2, [256], in_flight).per_second)
                for in_flight in bench.pick((1, 16, 64), (1, 2, 4, 8, 16, 32, 64, 128, 256))
            ]
            for name, server in systems.items()
        }
        posts.check(bus)
    outcome.series["latencies"] = {name: _thinned(found) for name, found in latencies.items()}
    outcome.judge(
        "posts/s, relative to the floor",
        0.95,
        outcome.ratio("ThreadBus: posts/s", "floor: posts/s"),
        at_least=True,
    )
    return outcome


class _Posts:
    """Runs loads of posts, and counts the messages."""

    def __init__(self, bench: Bench, outcome: Outcome, folder: Path) -> None:
        self._bench = bench
        self._outcome = outcome
        self._folder = folder
        self._acknowledged = 0

    def run(
        self,
        name: str,
        server: servers.Server,
        count: int,
        sizes: Sequence[int],
        in_flight: int = _IN_FLIGHT,
    ) -> ghz.Load:
        """Run a load. Counts its failures under `name`; empty for a warm-up."""
        if name:
            self._bench.say(f"P1 {name}, {in_flight} in flight")
        load = ghz.post(
            self._bench.tools.ghz,
            server,
            folder=self._folder,
            threads=[_THREAD],
            sizes=sizes,
            count=count,
            concurrency=in_flight,
        )
        if "threadbus" in server.log.name:
            self._acknowledged += load.calls - len(load.failed)
            self._outcome.count("ThreadBus", sent=load.calls)
            note_failures(self._outcome, "ThreadBus", load.failed)
        return load

    def check(self, bus: servers.Server) -> None:
        """Count acknowledged messages that are not stored, and stored messages that are surplus."""
        stored = own_calls.messages_in(bus.address, [_THREAD])
        self._outcome.count(
            "ThreadBus",
            lost=max(self._acknowledged - stored, 0),
            duplicated=max(stored - self._acknowledged, 0),
        )


def _thinned(values: Sequence[float], most: int = 2_000) -> list[float]:
    """Returns a sample of the sorted values, evenly spaced, with the extremes."""
    ordered = sorted(values)
    if len(ordered) <= most:
        return ordered
    return [ordered[round(at * (len(ordered) - 1) / (most - 1))] for at in range(most)]
