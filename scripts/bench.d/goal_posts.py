"""P1: PostMessage with fsync, compared to the floor, which stores nothing."""

from collections.abc import Mapping, Sequence

import ghz
import h2load
import own_calls
import servers
from bench import Bench
from disturbance import watched
from numbering import recorded_sizes
from posts import Posts
from results import Outcome, median, percentile

_MANY, _FEW = 64, 8  # posts in flight
_THREAD = "bench-posts"
#: Of the posts/s with 64 in flight, in %: the rates at which posts arrive for the latency curve.
_SHARES = (10, 30, 50, 70, 80, 90)
_PARTS = (50, 90, 99, 99.9)
#: Loads of each system for each point of a curve. The median is then not that of a disturbed one.
_LOADS = 3


def measure(bench: Bench) -> Outcome:
    """Measure the posts/s, the CPU time per post and the latencies of both."""
    outcome = Outcome("P1", "PostMessage with fsync")
    seconds = bench.pick(1.0, 4.0)
    latencies: dict[str, list[float]] = {"floor": [], "ThreadBus": []}
    with (
        bench.own_folder() as folder,
        servers.floor(folder) as floor,
        servers.threadbus(folder) as bus,
    ):
        own_calls.create_threads(bus.address, [_THREAD])
        posts = Posts(bench, outcome, folder, [_THREAD])
        systems = {"floor": floor, "ThreadBus": bus}
        for number, record in outcome.rounds(bench.rounds):
            bench.say(f"P1 round {number} of {bench.rounds}")
            for in_flight, which in ((_MANY, ""), (_FEW, f", {_FEW} in flight")):
                for name, server in systems.items():
                    with watched(record):
                        load = posts.run(server, in_flight, seconds)
                        record.add(f"{name}{which}: posts/s", load.per_second)
                        record.add(f"{name}{which}: server CPU µs per post", load.cpu_microseconds)
                    if number and in_flight == _MANY:
                        latencies[name] += load.latencies
            with watched(record):
                count = round(median(record.figures["floor: posts/s"]) * seconds)
                load = _empty(bench, floor, count)
                record.add("floor, empty raw calls: calls/s", load.per_second)
        _with_ghz(bench, outcome, posts, systems, seconds)
        _by_posts_in_flight(bench, outcome, posts, systems)
        _by_rate(bench, outcome, posts, systems)
        posts.check(bus)
    outcome.series["latencies"] = {name: _thinned(found) for name, found in latencies.items()}
    for in_flight, goal, which in ((_MANY, 1.0, ""), (_FEW, 0.8, f", {_FEW} in flight")):
        ratio = outcome.ratio(f"ThreadBus{which}: posts/s", f"floor{which}: posts/s")
        what = f"posts/s with {in_flight} in flight, relative to the floor"
        outcome.judge(what, goal, ratio, at_least=True)
    return outcome


def _empty(bench: Bench, floor: servers.Server, count: int) -> ghz.Load:
    """Make empty calls to the floor."""
    with bench.own_folder() as folder:
        if bench.tools.h2load is None:
            return ghz.empty(bench.tools.ghz, floor, folder=folder, count=count, concurrency=_MANY)
        return h2load.calls(
            bench.tools.h2load,
            floor,
            folder=folder,
            method="floor.Floor/Empty",
            request=b"",
            count=count,
            in_flight=_MANY,
        )


def _with_ghz(
    bench: Bench,
    outcome: Outcome,
    posts: Posts,
    systems: Mapping[str, servers.Server],
    seconds: float,
) -> None:
    """Measure with ghz, as users do, and with other sizes."""
    if bench.tools.ghz is None:
        return
    for what, sizes in (("256 B", [256]), ("3 kB", [3_000]), ("recorded", recorded_sizes())):
        if not sizes:
            outcome.notes.append("There were no recorded conversations to take the sizes from.")
            continue
        for _ in range(bench.pick(1, 2)):
            for name, server in systems.items():
                bench.say(f"P1 {name}, ghz, {what}")
                with watched(outcome):
                    count = round(median(outcome.figures["floor: posts/s"]) * seconds / 2)
                    load = posts.ghz(server, sizes, _MANY, count)
                    outcome.add(f"{name}, ghz, {what}: posts/s", load.per_second)
                    outcome.add(f"{name}, ghz, {what}: server CPU µs", load.cpu_microseconds)


def _by_posts_in_flight(
    bench: Bench, outcome: Outcome, posts: Posts, systems: Mapping[str, servers.Server]
) -> None:
    """Measure the posts/s and the CPU time per post for each number of posts in flight."""
    rates = outcome.series["throughput"] = {name: [] for name in systems}
    costs = outcome.series["cost"] = {name: [] for name in systems}
    for in_flight in bench.pick((1, 16, 64), (1, 2, 4, 8, 16, 32, 64, 128, 256)):
        bench.say(f"P1 curve: {in_flight} in flight")
        loads = [
            (name, _watched_run(outcome, posts, server, in_flight, bench.pick(0.5, 1.5)))
            for _ in range(_LOADS)
            for name, server in systems.items()
        ]
        for name in systems:
            own = [load for of, load in loads if of == name]
            rates[name].append((in_flight, [load.per_second for load in own]))
            costs[name].append((in_flight, [load.cpu_microseconds for load in own]))


def _watched_run(
    outcome: Outcome, posts: Posts, server: servers.Server, in_flight: int, seconds: float
) -> ghz.Load:
    with watched(outcome):
        return posts.run(server, in_flight, seconds)


def _by_rate(
    bench: Bench, outcome: Outcome, posts: Posts, systems: Mapping[str, servers.Server]
) -> None:
    """Measure the latency of posts that arrive at random, for shares of each system's capacity."""
    points = outcome.series["rate"] = {name: [] for name in systems}
    for share in bench.pick((50, 90), _SHARES):
        bench.say(f"P1 latency at {share} % of the capacity")
        found: dict[str, dict[str, list[float]]] = {name: {} for name in systems}
        for seed in range(_LOADS):
            for name, server in systems.items():
                rate = median(outcome.figures[f"{name}: posts/s"]) * share / 100
                with watched(outcome):
                    load, late = posts.poisson(server, rate, bench.pick(1.0, 3.0), seed)
                    # By the client: where this is much of the latency, it was disturbed itself.
                    outcome.add(f"{name}, posts at random: sent late, p99 ms", late * 1e3)
                for part in _PARTS:
                    value = percentile(load.latencies, part) * 1e3
                    found[name].setdefault(f"p{part:g}", []).append(value)
        for name in systems:
            points[name].append((share, found[name]))


def _thinned(values: Sequence[float], most: int = 2_000) -> list[float]:
    """Returns a sample of the sorted values, evenly spaced, with the extremes."""
    ordered = sorted(values)
    if len(ordered) <= most:
        return ordered
    return [ordered[round(at * (len(ordered) - 1) / (most - 1))] for at in range(most)]
