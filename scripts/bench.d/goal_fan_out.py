"""P5: one post to a thousand waits, compared to the floor's stream writes to one reader."""

from collections.abc import Sequence

import own_calls
import processes
import servers
from bench import Bench
from disturbance import watched
from results import Outcome, median, percentile

_WAITS = 1_000
_PAUSE = 0.05  # seconds between the last delivery of a message and the next post
_CURVE = (1, 10, 100, 1_000, 3_000, 10_000)


def measure(bench: Bench) -> Outcome:
    """Measure deliveries/s, until the last wait has the message, and the floor's frames/s.

    The floor's own fan-out is an upper bound: its frames are prepared, and it has no other work.
    """
    outcome = Outcome("P5", f"one post to {_WAITS:,} waits")
    posts, frames = bench.pick(8, 40), bench.pick(10_000, 60_000)
    with (
        bench.own_folder() as folder,
        servers.floor(folder) as floor,
        servers.threadbus(folder) as bus,
    ):
        systems = {"floor": floor, "ThreadBus": bus}
        curve = bench.pick((1, 100), _CURVE)
        tokens = own_calls.register_agents(bus.address, max(*curve, _WAITS))
        (folder / "tokens").write_text("\n".join(tokens), "ascii")
        for number, record in outcome.rounds(bench.rounds):
            bench.say(f"P5 round {number} of {bench.rounds}")
            with watched(record):
                found = processes.run(
                    "client_http2.py", do="frames", address=floor.address, count=frames, size=256
                )
                record.add("floor, one reader: frames/s", found["got"] / found["seconds"])
            thread = f"bench-{number}"
            own_calls.create_threads(bus.address, [thread])
            for name, server in systems.items():
                with watched(record):
                    taken, cpu = _fan_out(record, name, server, thread, _WAITS, posts)
                    record.add(f"{name}: deliveries/s", _WAITS / median(taken))
                    what = f"{name}: until the last wait has it,"
                    record.add(f"{what} p50 ms", median(taken) * 1e3)
                    record.add(f"{what} p99 ms", percentile(taken, 99) * 1e3)
                    record.add(f"{name}: server CPU µs per delivery", cpu / _WAITS / posts * 1e6)
        for waits in curve:
            _by_waits(bench, outcome, systems, waits)
    for what, goal, under in (
        (
            "deliveries/s, relative to the floor's stream writes to one reader",
            1.5,
            "floor, one reader: frames/s",
        ),
        ("deliveries/s, relative to the floor's own fan-out", 0.75, "floor: deliveries/s"),
    ):
        ratio = outcome.ratio("ThreadBus: deliveries/s", under)
        outcome.judge(what, goal, ratio, at_least=True)
    return outcome


def _by_waits(
    bench: Bench, outcome: Outcome, systems: dict[str, servers.Server], waits: int
) -> None:
    """Measure the time until the last of so many waits has the message, and the deliveries/s."""
    bench.say(f"P5 curve: {waits:,} waits")
    posts = bench.pick(4, 40 if waits <= _WAITS else 5)
    for number in range(2):
        thread = f"bench-curve-{waits}-{number}"
        own_calls.create_threads(systems["ThreadBus"].address, [thread])
        for name, server in systems.items():
            with watched(outcome):
                taken, _ = _fan_out(outcome, name, server, thread, waits, posts)
            _point(outcome, "fan-out", name, waits, median(taken) * 1e3)
            _point(outcome, "deliveries", name, waits, waits / median(taken))


def _point(outcome: Outcome, series: str, name: str, at: int, value: float) -> None:
    """Add a value to the point of a series at `at`, which is the last one or a new one."""
    points: list[tuple[int, list[float]]]
    points = outcome.series.setdefault(series, {}).setdefault(name, [])
    if not points or points[-1][0] != at:
        points.append((at, []))
    points[-1][1].append(value)


def _fan_out(
    outcome: Outcome, name: str, server: servers.Server, thread: str, waits: int, posts: int
) -> tuple[Sequence[float], float]:
    """Returns the seconds from each post to its last delivery, and the server's CPU seconds."""
    job = {"address": server.address, "thread": thread, "waits": waits, "count": posts}
    tokens = "" if name == "floor" else str(server.log.parent / "tokens")
    waiting = processes.client(
        "client_http2.py", do="fan_out", size=256, pause=_PAUSE, tokens=tokens, **job
    )
    with waiting:
        waiting.ready()
        cpu = server.cpu_seconds()
        got = waiting.result()
        cpu = server.cpu_seconds() - cpu
    outcome.count(name, sent=posts * waits, lost=got["lost"], duplicated=got["duplicated"])
    taken: list[float] = got["taken"]
    return taken, cpu
