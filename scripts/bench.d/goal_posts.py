"""P1: PostMessage with fsync, compared to the floor, which stores nothing."""

from collections.abc import Sequence
from pathlib import Path

import ghz
import h2load
import own_calls
import servers
from bench import Bench, note_failures
from numbering import content, recorded_sizes
from results import Outcome

from threadbus.v1.bus_service_pb2 import PostMessageRequest

_IN_FLIGHT, _FEW = 64, 8
_THREAD = "bench-posts"
_POST = "threadbus.v1.BusService/PostMessage"


def measure(bench: Bench) -> Outcome:
    """Measure the posts/s, the CPU time per post and the latencies of both."""
    outcome = Outcome("P1", "PostMessage with fsync")
    count = bench.pick(4_000, 20_000)
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
            posts.run("", server, count // 2)  # warm-up
        for _ in range(bench.rounds):
            for name, server in systems.items():
                load = posts.run(name, server, count)
                outcome.add(f"{name}: posts/s", load.per_second)
                outcome.add(f"{name}: server CPU µs per post", load.cpu_microseconds)
                latencies[name] += load.latencies
            for name, server in systems.items():
                load = posts.run(name, server, count // 4, _FEW)
                outcome.add(f"{name}, {_FEW} in flight: posts/s", load.per_second)
                outcome.add(f"{name}, {_FEW} in flight: server CPU µs", load.cpu_microseconds)
            outcome.add("floor, empty raw calls: calls/s", posts.empty(floor, count).per_second)
        for what, sizes in (("256 B", [256]), ("3 kB", [3_000]), ("recorded", recorded_sizes())):
            if not sizes:
                outcome.notes.append("There were no recorded conversations to take the sizes from.")
                continue
            for _ in range(bench.pick(1, 3)):
                for name, server in systems.items():
                    load = posts.run_ghz(name, server, count // 4, sizes)
                    outcome.add(f"{name}, ghz, {what}: posts/s", load.per_second)
        outcome.series["throughput"] = {
            name: [
                (in_flight, posts.run(name, server, count // 4, in_flight).per_second)
                for in_flight in bench.pick((1, 16, 64), (1, 2, 4, 8, 16, 32, 64, 128, 256))
            ]
            for name, server in systems.items()
        }
        posts.check(bus)
    outcome.series["latencies"] = {name: _thinned(found) for name, found in latencies.items()}
    for what, goal, which in (
        (f"posts/s with {_IN_FLIGHT} in flight, relative to the floor", 1.0, ""),
        (f"posts/s with {_FEW} in flight, relative to the floor", 0.8, f", {_FEW} in flight"),
    ):
        ratio = outcome.ratio(f"ThreadBus{which}: posts/s", f"floor{which}: posts/s")
        outcome.judge(what, goal, ratio, at_least=True)
    return outcome


class _Posts:
    """Runs loads of posts, and counts the messages."""

    def __init__(self, bench: Bench, outcome: Outcome, folder: Path) -> None:
        self._bench = bench
        self._outcome = outcome
        self._folder = folder
        self._acknowledged = 0

    def run(
        self, name: str, server: servers.Server, count: int, in_flight: int = _IN_FLIGHT
    ) -> ghz.Load:
        """Post 256 B with h2load, or with ghz where there is none.

        Counts failures under `name`; empty for a warm-up.
        """
        if self._bench.tools.h2load is None:
            return self.run_ghz(name, server, count, [256], in_flight)
        if name:
            self._bench.say(f"P1 {name}, {in_flight} in flight")
        request = PostMessageRequest(thread=_THREAD, content=content(0, 256))
        load = h2load.calls(
            self._bench.tools.h2load,
            server,
            folder=self._folder,
            method=_POST,
            request=request.SerializeToString(),
            count=count,
            in_flight=in_flight,
        )
        return self._counted(server, load)

    def run_ghz(
        self,
        name: str,
        server: servers.Server,
        count: int,
        sizes: Sequence[int],
        in_flight: int = _IN_FLIGHT,
    ) -> ghz.Load:
        """Post contents of these sizes, round-robin, with ghz."""
        if name:
            self._bench.say(f"P1 {name}, {in_flight} in flight, ghz")
        load = ghz.post(
            self._bench.tools.ghz,
            server,
            folder=self._folder,
            threads=[_THREAD],
            sizes=sizes,
            count=count,
            concurrency=in_flight,
        )
        return self._counted(server, load)

    def empty(self, floor: servers.Server, count: int) -> ghz.Load:
        """Make empty calls to the floor."""
        if self._bench.tools.h2load is None:
            return ghz.empty(
                self._bench.tools.ghz,
                floor,
                folder=self._folder,
                count=count,
                concurrency=_IN_FLIGHT,
            )
        return h2load.calls(
            self._bench.tools.h2load,
            floor,
            folder=self._folder,
            method="floor.Floor/Empty",
            request=b"",
            count=count,
            in_flight=_IN_FLIGHT,
        )

    def _counted(self, server: servers.Server, load: ghz.Load) -> ghz.Load:
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
